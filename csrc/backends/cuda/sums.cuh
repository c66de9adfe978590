// Sums over blocks and tensors. Their order depends on the sizes alone, so a step gives the same bits at each run.
#ifndef FUSEMIN_KERNELS_CUDA_SUMS_CUH_
#define FUSEMIN_KERNELS_CUDA_SUMS_CUH_

#include "backends/cuda/memory.cuh"

namespace fusemin::cuda {

__device__ __forceinline__ void Add(Sums& sums, const Sums& more) {
  sums.first += more.first;
  sums.second += more.second;
}

// The sum over the threads of a block, for all of them. Every thread of the block must call it.
__device__ __forceinline__ Sums BlockSum(const Sums& mine) {
  __shared__ Sums shared[kThreads];
  // A sum before this one may still be read.
  __syncthreads();
  shared[threadIdx.x] = mine;
  __syncthreads();
#pragma unroll 1
  for (uint32_t width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) Add(shared[threadIdx.x], shared[threadIdx.x + width]);
    __syncthreads();
  }
  return shared[0];
}

// Whether this is the last of `n` times that a block of the launch takes this ticket; it then sees all that was written
// before the others. Every thread of the block must call it. The ticket is zero again after the last time, ready for
// the next launch.
__device__ __forceinline__ bool IsLast(uint32_t* ticket, uint32_t n) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    // Release and acquire, with the barriers for all threads: a full fence before and after would be stronger.
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(reinterpret_cast<uint64_t>(ticket)), "r"(n - 1)
                 : "memory");
    last = before == n - 1;
  }
  __syncthreads();
  return last;
}

// Adds up over the chunks of a tensor; who takes the last of them stores the sums at `of_tensors`. Every thread must
// call it.
__device__ __forceinline__ void SumOverTensor(const StepParameters& p, const Chunk& chunk, const Sums& mine,
                                              uint64_t of_tensors) {
  // Volatile: another block wrote it during this launch, so a cache must not answer.
  volatile Sums* const of_chunks = Global<Sums>(p.chunk_sums) + p.first_chunk;
  const Sums block = BlockSum(mine);
  if (threadIdx.x == 0) {
    of_chunks[chunk.number].first = block.first;
    of_chunks[chunk.number].second = block.second;
  }
  if (!IsLast(Global<uint32_t>(p.tickets) + 1 + chunk.tensor, chunk.count)) return;
  Sums total{};
  for (uint32_t i = threadIdx.x; i < chunk.count; i += kThreads) {
    volatile Sums& other = of_chunks[chunk.first + i];
    Add(total, Sums{other.first, other.second});
  }
  total = BlockSum(total);
  if (threadIdx.x == 0) Global<Sums>(of_tensors)[p.first_tensor + chunk.tensor] = total;
}

// The sum over all tensors of the step, for all threads. Every thread must call it.
__device__ __forceinline__ Sums SumOverStep(const StepParameters& p, uint64_t of_tensors) {
  // Volatile: another block may have written it during this launch.
  volatile Sums* const sums = Global<Sums>(of_tensors);
  Sums mine{};
  for (uint32_t i = threadIdx.x; i < p.num_step_tensors; i += kThreads) Add(mine, Sums{sums[i].first, sums[i].second});
  return BlockSum(mine);
}

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_SUMS_CUH_
