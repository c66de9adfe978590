// Kernels of no rule: the sums over gradients that clipping by norm and skipping need first, and rows of traces.
#include "backends/cuda/sums.cuh"

namespace fusemin::cuda {

__device__ __forceinline__ bool IsFinite(float x) { return fabsf(x) <= 3.402823466e+38f; }
__device__ __forceinline__ bool IsFinite(double x) { return fabs(x) <= 1.7976931348623157e+308; }

// Non-finite elements of the gradients, and squares of them or, where there are some, of the accumulators. Updates
// these, unless the step may be skipped yet.
template <class T>
__device__ __forceinline__ void SumGradients(const StepParameters& p) {
  using V = typename Number<T>::Value;
  const bool accumulates = p.position[kAccumulatorIn] >= 0;
  Now<double, int64_t> now{};
  for (int i = 0; i < kNumOptionScalars; ++i) {
    now.scalars[i] = LoadScalar(p.scalar_types[kOptionScalar + i], p.scalars[kOptionScalar + i].in);
  }
  const V factor = static_cast<V>(p.options.GradientScale(now));
  ForEachChunk(p, [&](const Chunk& chunk) {
    Sums sums{};
    ForEach<T>(p, chunk, [&](const auto& at) {
      auto gradient = at.Load(kGradient);
      constexpr int kSize = sizeof gradient / sizeof(T);
#pragma unroll
      for (int k = 0; k < kSize; ++k) sums.second += IsFinite(Stored<T>::Load(gradient.Get(k))) ? 0.0 : 1.0;
      if (accumulates) {
        const auto accumulator = at.Load(kAccumulatorIn);
#pragma unroll
        for (int k = 0; k < kSize; ++k) {
          gradient.Set(k, Stored<T>::Store(UserOptions::Collect(Stored<T>::Load(accumulator.Get(k)),
                                                                Stored<T>::Load(gradient.Get(k)) * factor)));
        }
        if (!p.options.SkipsNonFinite()) at.Store(kAccumulatorOut, gradient);
      }
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        const V value = Stored<T>::Load(gradient.Get(k));
        sums.first += static_cast<double>(value) * value;
      }
    });
    SumOverTensor(p, chunk, sums, p.gradient_sums);
  });
}

template <class Word>
__device__ __forceinline__ void CopyRowWords(const RowFill& fill, uint64_t begin, uint64_t end) {
  const Word* from = Global<const Word>(fill.from);
  Word* to = Global<Word>(fill.to);
  const uint64_t row = fill.bytes / sizeof(Word), step = kThreads % row;
  uint64_t i = begin / sizeof(Word) + threadIdx.x;
  // Where the row is read, kept beside i: a division for each word would cost more than the copy.
  uint64_t at = i % row;
#pragma unroll 4
  for (; i < end / sizeof(Word); i += kThreads) {
    to[i] = from[at];
    at += step;
    if (at >= row) at -= row;
  }
}

__device__ __forceinline__ void FillPart(const RowFillParameters& p, uint32_t part) {
  uint32_t low = 0, high = p.num_fills;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (p.fills[middle].first_part <= part) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const RowFill& fill = p.fills[low];
  const uint64_t total = fill.bytes * fill.count;
  const uint64_t begin = static_cast<uint64_t>(part - fill.first_part) * kRowFillBytes;
  const uint64_t end = total - begin < kRowFillBytes ? total : begin + kRowFillBytes;
  switch (fill.width) {
    case 16:
      return CopyRowWords<uint4>(fill, begin, end);
    case 4:
      return CopyRowWords<uint32_t>(fill, begin, end);
    default:
      return CopyRowWords<uint8_t>(fill, begin, end);
  }
}

__device__ __forceinline__ void FillRows(const RowFillParameters& p) {
#pragma unroll 1
  for (uint32_t part = blockIdx.x; part < p.num_parts; part += gridDim.x) FillPart(p, part);
}

}  // namespace fusemin::cuda

// Six blocks a multiprocessor, which they have anyhow: where it was not told so, ptxas spilled a register for sm_70.
#define FUSEMIN_SUM_KERNEL(dtype, T)                                                   \
  extern "C" __global__ void __launch_bounds__(fusemin::cuda::kThreads, 6)             \
      sum_gradients_##dtype(const __grid_constant__ fusemin::cuda::StepParameters p) { \
    fusemin::cuda::SumGradients<T>(p);                                                 \
  }
FUSEMIN_SUM_KERNEL(float32, float)
FUSEMIN_SUM_KERNEL(float64, double)
FUSEMIN_SUM_KERNEL(float16, fusemin::Float16)
FUSEMIN_SUM_KERNEL(bfloat16, fusemin::BFloat16)

extern "C" __global__ void __launch_bounds__(fusemin::cuda::kThreads)
    fill_rows(const __grid_constant__ fusemin::cuda::RowFillParameters p) {
  fusemin::cuda::FillRows(p);
}
