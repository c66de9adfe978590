// What the host hands to the kernels, as both sides see it. Compiled by the C++ compiler, NVRTC and nvcc.
#ifndef FUSEMIN_KERNELS_CUDA_PARAMETERS_H_
#define FUSEMIN_KERNELS_CUDA_PARAMETERS_H_

#include <cstdint>

#include "options/user_options.h"
#include "step/step.h"
#include "step/step_layout.h"

namespace fusemin::cuda {

constexpr int kThreads = 256;
// What every driver takes as the parameters of a kernel.
constexpr int kParameterBytes = 4096;
// The width of a load or store in the aligned path.
constexpr int kVectorBytes = 16;

// Elements of a chunk, doubled until a step has at most so many chunks: many enough that a small step is spread over
// the device. A block takes every so many-th chunk of the launch, and prepares the step once.
constexpr int64_t kMinChunk = 2048, kMaxChunk = 65536;
constexpr int64_t kTargetChunks = 4096;

// What a tensor's pointers are for. `Out` is where new values go, the same memory as `In` in an update in place.
enum Role {
  kGradient,
  kParamIn,
  kParamOut,
  kSlotIn,
  kSlotOut = kSlotIn + kMaxSlots,
  kAverageIn = kSlotOut + kMaxSlots,
  kAverageOut,
  kAccumulatorIn,
  kAccumulatorOut,
  kGradientRow,
  kParamRow,
  kNumRoles,
};

// How a scalar is stored: not at all, in the parameters themselves, or in device memory. Floating types are in the
// order of DType.
enum class ScalarType : uint8_t { kAbsent, kNumber, kFloat32, kFloat64, kFloat16, kBFloat16, kInt32, kInt64 };

constexpr ScalarType ScalarTypeOf(DType dtype) {
  return static_cast<ScalarType>(static_cast<int>(ScalarType::kFloat32) + static_cast<int>(dtype));
}

// Device addresses of a scalar variable; `out` is 0 where it is not to be written.
struct ScalarMemory {
  uint64_t in, out;
};

// Device memory that the last block copies.
struct SmallCopy {
  uint64_t to, from;
  uint32_t bytes;
};
constexpr int kMaxSmallCopies = 2;
constexpr uint32_t kMaxSmallCopyBytes = 4096;

// Two sums of a tensor: of the squares of its gradient and how many elements of it are not finite, of the squares of
// the parameter and of the direction, or of what a rule would do, and nothing.
struct Sums {
  double first, second;
};

// A rule with a trust ratio goes over everything twice; kTry only sums up what kUpdate or kMove would do.
enum class Phase : uint8_t { kUpdate, kSlots, kMove, kTry };

constexpr int kHeaderBytes = 400;
constexpr int kTableWords = (kParameterBytes - kHeaderBytes) / 8;

// A tensor takes its pointers, a word for its size and flags, and half a word for the number of its first chunk.
constexpr int TensorBytes(int num_pointers) { return 8 * num_pointers + 8 + 4; }
constexpr int Capacity(int num_pointers) { return 8 * kTableWords / TensorBytes(num_pointers); }
constexpr int kMaxTensors = Capacity(1);

// The word of size and flags: the size below, then whether the parameter decays, then for each pointer whether it is
// not aligned to a vector.
constexpr int kSizeBits = 64 - 1 - kNumRoles;
constexpr uint64_t kSizeMask = (uint64_t{1} << kSizeBits) - 1;
constexpr int kDecayBit = kSizeBits, kUnalignedBit = kSizeBits + 1;
static_assert(kSizeBits >= 44, "more elements than any device holds");

// Counters in device memory, zero before the first step, and zero again after each launch: one for the step, and one
// for each tensor of a launch.
constexpr int kNumTickets = 1 + kMaxTensors;

// One launch for up to `Capacity` tensors of a step.
struct StepParameters {
  UserOptions options;
  // Numbers as bits of float64, or device addresses.
  uint64_t hyperparameters[kMaxHyperparameters];
  ScalarMemory scalars[kNumScalars];
  SmallCopy copies[kMaxSmallCopies];
  // Scratch memory: Sums of every chunk of the step, Sums of the gradient of every tensor of the step, after which come
  // those of the rule and of the move, and the tickets.
  uint64_t chunk_sums, gradient_sums, tickets;
  // The number in the step of this launch's first chunk and first tensor.
  uint64_t first_chunk;
  uint32_t first_tensor;
  uint32_t num_tensors, num_step_tensors;
  // Elements of a chunk, and how many chunks this launch has.
  uint32_t chunk, num_chunks;
  ScalarType hyperparameter_types[kMaxHyperparameters];
  ScalarType scalar_types[kNumScalars];
  // For each role, which of the pointers of a tensor it is, or -1.
  int8_t position[kNumRoles];
  // Bits of the pointers that must be aligned for vectors: all but rows.
  uint32_t aligned_mask;
  uint8_t num_pointers;
  uint8_t num_copies;
  Phase phase;
  DType dtype;
  // Whether the accumulators have taken in the gradient already, and whether no later launch needs the gradient.
  bool accumulated, is_last_of_gradient;
  // Whether the last block of this launch writes the scalar variables and makes the copies.
  bool finishes;

  // num_tensors * num_pointers pointers; then num_tensors sizes and flags; then num_tensors first chunks, of 32 bits.
  uint64_t table[kTableWords];

  FUSEMIN_HOST_DEVICE uint64_t rule_sums() const { return gradient_sums + num_step_tensors * sizeof(Sums); }
  FUSEMIN_HOST_DEVICE uint64_t move_sums() const { return rule_sums() + num_step_tensors * sizeof(Sums); }
  FUSEMIN_HOST_DEVICE uint64_t pointer(uint32_t tensor, int position) const {
    return table[tensor * num_pointers + position];
  }
  FUSEMIN_HOST_DEVICE uint64_t size_and_flags(uint32_t tensor) const {
    return table[num_tensors * num_pointers + tensor];
  }
  FUSEMIN_HOST_DEVICE uint32_t first_chunk_of(uint32_t tensor) const {
    return static_cast<uint32_t>(table[num_tensors * (num_pointers + 1) + tensor / 2] >> (tensor % 2 * 32));
  }
};
static_assert(sizeof(StepParameters) - sizeof(StepParameters::table) <= kHeaderBytes, "enlarge kHeaderBytes");
static_assert(sizeof(StepParameters) <= kParameterBytes);

// Copies `count` times `bytes` bytes from `from` to `to` and what follows it: rows of a trace.
struct RowFill {
  uint64_t to, from, bytes, count;
  // The number of its first part, and the bytes that a thread copies at once, a power of two.
  uint32_t first_part, width;
};
constexpr int kMaxRowFills = (kParameterBytes - 8) / sizeof(RowFill);
// Bytes of a part.
constexpr uint64_t kRowFillBytes = 32768;

struct RowFillParameters {
  uint32_t num_fills;
  // A block takes every so many-th of them.
  uint32_t num_parts;
  RowFill fills[kMaxRowFills];
};
static_assert(sizeof(RowFillParameters) <= kParameterBytes);

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_PARAMETERS_H_
