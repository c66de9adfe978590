// Device memory: elements as they are stored, 16 bytes at a time where the tensor and its end allow, else one by one.
#ifndef FUSEMIN_KERNELS_CUDA_MEMORY_CUH_
#define FUSEMIN_KERNELS_CUDA_MEMORY_CUH_

#include "backends/cuda/parameters.h"
#include "numeric/half.h"

namespace fusemin::cuda {

// How a stored type is computed with; as `Number`, with the conversions that the device has.
template <class T>
struct Stored : Number<T> {};

template <>
struct Stored<Float16> : Number<Float16> {
  static __device__ __forceinline__ float Load(Float16 x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
  }
  static __device__ __forceinline__ Float16 Store(float x) {
    Float16 stored;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(stored.bits) : "f"(x));
    return stored;
  }
};

// As that of the CPU, with fewer instructions: what tells a NaN is a comparison of floats, and all is done in the upper
// half, where it stays until it is packed.
template <>
struct Stored<BFloat16> : Number<BFloat16> {
  static __device__ __forceinline__ BFloat16 Store(float x) {
    const uint32_t u = __float_as_uint(x);
    const uint32_t rounded = u + 0x7FFFu + (u >> 16 & 1u);
    const uint32_t nan = (u & 0x80000000u) | 0x7FC00000u;
    return {static_cast<uint16_t>((x != x ? nan : rounded) >> 16)};
  }
};

// Elements side by side, one or as many as a vector has.
template <class T>
constexpr int kVectorSize = kVectorBytes / sizeof(T);

template <class T, int n, int bytes = sizeof(T)>
struct alignas(n * sizeof(T)) Pack {
  T x[n];

  __device__ __forceinline__ T Get(int k) const { return x[k]; }
  __device__ __forceinline__ void Set(int k, T value) { x[k] = value; }
};

// Halves stay in pairs: apart, each would take a register.
template <class T, int n>
struct Pack<T, n, 2> {
  static_assert(n % 2 == 0);
  uint32_t pairs[n / 2];

  __device__ __forceinline__ T Get(int k) const { return {static_cast<uint16_t>(pairs[k / 2] >> k % 2 * 16)}; }
  __device__ __forceinline__ void Set(int k, T value) {
    const uint32_t other = pairs[k / 2] & (k % 2 == 0 ? 0xFFFF0000u : 0x0000FFFFu);
    pairs[k / 2] = other | static_cast<uint32_t>(value.bits) << k % 2 * 16;
  }
};

template <class T>
struct Pack<T, 1, 2> {
  T x[1];

  __device__ __forceinline__ T Get(int) const { return x[0]; }
  __device__ __forceinline__ void Set(int, T value) { x[0] = value; }
};
template <class T>
using Vector = Pack<T, kVectorSize<T>>;

// In assembly, so that it is one instruction, to global memory, in this order with the stores: in an update in place it
// is the same memory.
template <class T>
__device__ __forceinline__ Vector<T> LoadVector(uint64_t address) {
  uint32_t words[4];
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "l"(address));
  Vector<T> pack;
  memcpy(&pack, words, sizeof pack);
  return pack;
}

template <class T>
__device__ __forceinline__ void StoreVector(uint64_t address, const Vector<T>& pack) {
  uint32_t words[4];
  memcpy(words, &pack, sizeof pack);
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(address), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

// A pointer that the compiler knows to be to global memory.
template <class T>
__device__ __forceinline__ T* Global(uint64_t address) {
  T* pointer = reinterpret_cast<T*>(address);
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}

// The elements of one tensor that a block works on at a time: where they begin and end.
struct Chunk {
  uint32_t tensor;
  // Of the launch: this chunk, the first chunk of the tensor, and how many it has.
  uint32_t number, first, count;
  int64_t begin, end;
  bool decays;
  // For each pointer whether it is not aligned.
  uint32_t unaligned;
};

// A chunk of the launch.
__device__ __forceinline__ Chunk FindChunk(const StepParameters& p, uint32_t number) {
  // The last tensor whose first chunk is not after this one: none is empty.
  uint32_t low = 0, high = p.num_tensors;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (p.first_chunk_of(middle) <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  Chunk chunk;
  chunk.tensor = low;
  const uint64_t word = p.size_and_flags(low);
  const int64_t size = static_cast<int64_t>(word & kSizeMask);
  chunk.number = number;
  chunk.first = p.first_chunk_of(low);
  chunk.count = static_cast<uint32_t>((size + p.chunk - 1) / p.chunk);
  chunk.begin = static_cast<int64_t>(number - chunk.first) * p.chunk;
  chunk.end = size - chunk.begin < p.chunk ? size : chunk.begin + p.chunk;
  chunk.decays = word >> kDecayBit & 1;
  chunk.unaligned = static_cast<uint32_t>(word >> kUnalignedBit);
  return chunk;
}

// `kSize` elements of a tensor of this chunk, from the i-th on.
template <class T, int kSize>
struct Elements {
  using Values = Pack<T, kSize>;

  const StepParameters& p;
  const Chunk& chunk;
  int64_t i;

  __device__ __forceinline__ uint64_t Address(int position) const {
    return p.pointer(chunk.tensor, position) + static_cast<uint64_t>(i) * sizeof(T);
  }

  __device__ __forceinline__ Values Load(int role) const {
    const uint64_t address = Address(p.position[role]);
    if constexpr (kSize == 1) {
      return {{*Global<const T>(address)}};
    } else {
      return LoadVector<T>(address);
    }
  }

  __device__ __forceinline__ void Store(int role, const Values& values) const {
    const uint64_t address = Address(p.position[role]);
    if constexpr (kSize == 1) {
      *Global<T>(address) = values.Get(0);
    } else {
      StoreVector<T>(address, values);
    }
  }

  // A row of a trace, if this tensor has one. It may be unaligned where all else is aligned.
  __device__ __forceinline__ void StoreRow(int role, const Values& values) const {
    const int position = p.position[role];
    if (position < 0 || p.pointer(chunk.tensor, position) == 0) return;
    if (kSize == 1 || (chunk.unaligned >> position & 1) == 0) return Store(role, values);
    T* to = Global<T>(Address(position));
#pragma unroll
    for (int k = 0; k < kSize; ++k) to[k] = values.Get(k);
  }

  __device__ __forceinline__ bool InPlace(int in, int out) const { return p.position[in] == p.position[out]; }
};

// `work(chunk)` for all chunks that this block takes.
template <class Work>
__device__ __forceinline__ void ForEachChunk(const StepParameters& p, const Work& work) {
#pragma unroll 1
  for (uint32_t number = blockIdx.x; number < p.num_chunks; number += gridDim.x) work(FindChunk(p, number));
}

// `work(elements)` for all elements of the chunk: in vectors where all tensors but rows are aligned, else one by one.
template <class T, class Work>
__device__ __forceinline__ void ForEach(const StepParameters& p, const Chunk& chunk, const Work& work) {
  constexpr int kSize = kVectorSize<T>;
  int64_t i = chunk.begin;
  if ((chunk.unaligned & p.aligned_mask) == 0) {
    const int64_t whole = chunk.end - (chunk.end - chunk.begin) % kSize;
#pragma unroll 1
    for (i += threadIdx.x * kSize; i < whole; i += kThreads * kSize) work(Elements<T, kSize>{p, chunk, i});
    i = whole;
  }
#pragma unroll 1
  for (i += threadIdx.x; i < chunk.end; i += kThreads) work(Elements<T, 1>{p, chunk, i});
}

__device__ __forceinline__ double LoadScalar(ScalarType type, uint64_t address) {
  switch (type) {
    case ScalarType::kNumber:
      return __longlong_as_double(static_cast<long long>(address));
    case ScalarType::kFloat32:
      return *Global<const float>(address);
    case ScalarType::kFloat64:
      return *Global<const double>(address);
    case ScalarType::kFloat16:
      return Stored<Float16>::Load(*Global<const Float16>(address));
    case ScalarType::kBFloat16:
      return Stored<BFloat16>::Load(*Global<const BFloat16>(address));
    case ScalarType::kInt32:
      return *Global<const int32_t>(address);
    case ScalarType::kInt64:
      return static_cast<double>(*Global<const int64_t>(address));
    default:
      return 0.0;
  }
}

__device__ __forceinline__ void StoreScalar(ScalarType type, uint64_t address, double value) {
  switch (type) {
    case ScalarType::kFloat32:
      *Global<float>(address) = static_cast<float>(value);
      break;
    case ScalarType::kFloat64:
      *Global<double>(address) = value;
      break;
    case ScalarType::kFloat16:
      *Global<Float16>(address) = Stored<Float16>::Store(static_cast<float>(value));
      break;
    case ScalarType::kBFloat16:
      *Global<BFloat16>(address) = Stored<BFloat16>::Store(static_cast<float>(value));
      break;
    case ScalarType::kInt32:
      *Global<int32_t>(address) = static_cast<int32_t>(value);
      break;
    case ScalarType::kInt64:
      *Global<int64_t>(address) = static_cast<int64_t>(value);
      break;
    default:
      break;
  }
}

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_MEMORY_CUH_
