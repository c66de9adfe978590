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

// Whether this is the last of `n` blocks to come here, which then sees all that the others wrote before. Every thread
// of the block must call it. The ticket is zero again after the last block, ready for the next launch.
__device__ __forceinline__ bool IsLastBlock(uint32_t* ticket, uint32_t n) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(ticket, n - 1) == n - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
}

// Adds up over the blocks of a tensor; the last of them stores the sums at `of_tensors`. Every thread must call it.
__device__ __forceinline__ void SumOverTensor(const StepParameters& p, const Chunk& chunk, const Sums& mine,
                                              uint64_t of_tensors) {
  // Volatile: another block wrote it during this launch, so a cache must not answer.
  volatile Sums* const of_chunks = Global<Sums>(p.chunk_sums) + p.first_chunk;
  const Sums block = BlockSum(mine);
  if (threadIdx.x == 0) {
    of_chunks[blockIdx.x].first = block.first;
    of_chunks[blockIdx.x].second = block.second;
  }
  if (!IsLastBlock(Global<uint32_t>(p.tickets) + 1 + chunk.tensor, chunk.num_blocks)) return;
  Sums total{};
  for (uint32_t i = threadIdx.x; i < chunk.num_blocks; i += kThreads) {
    volatile Sums& other = of_chunks[chunk.first_block + i];
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
