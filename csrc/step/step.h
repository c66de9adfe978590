// One optimizer step over many tensors: the types that every back end shares.
//
// Nothing here knows TensorFlow. The caller owns all memory; a step neither
// allocates nor frees any of it. Two steps may run at once on different
// threads as long as they write different memory.
#ifndef FUSEMIN_KERNELS_STEP_H_
#define FUSEMIN_KERNELS_STEP_H_

#include <cstdint>

namespace fusemin {

enum class DType : uint8_t { kFloat32, kFloat64, kFloat16, kBFloat16 };
constexpr int kNumDTypes = 4;
constexpr int kDTypeSize[kNumDTypes] = {4, 8, 2, 2};

// More than any rule has; checked where rules are registered.
constexpr int kMaxSlots = 4;
constexpr int kMaxHyperparameters = 8;
constexpr int kMaxScalars = 3;
constexpr int kMaxStepSums = 2;

struct Slices;

// One parameter with its gradient and slots. Old values are read from `*_in`
// and new ones written to `*_out`, which are the same memory when the update is
// in place and disjoint otherwise. The rows, where not null, receive a copy of
// the gradient and of the new parameter.
struct Segment {
  int64_t size;
  const void* gradient;
  const void* param_in;
  void* param_out;
  const void* slot_in[kMaxSlots];
  void* slot_out[kMaxSlots];
  void* gradient_row;
  void* param_row;
  // Null, unless an option of the step asks for them: the moving average of the
  // parameter, and the sum of the gradients since the last update.
  const void* average_in;
  void* average_out;
  const void* accumulator_in;
  void* accumulator_out;
  // Whether weight decay applies to the parameter.
  bool decays;
  // Null, or the gradient, instead of `gradient`.
  const Slices* slices;
};

// What a sparse gradient means where it has no slice: which rows the rule is applied to.
enum class SparseRows {
  // All, with a gradient of 0 where there is no slice.
  kEvery,
  // The same, but only rows with slices move; the slots of all do.
  kSlotsOfEvery,
  // Those with slices.
  kTouched,
};

// How a step takes its sparse gradients.
struct SparseOptions {
  SparseRows rows = SparseRows::kEvery;
  // Whether the square and the magnitude of a gradient that is a sum of slices are the sums of theirs.
  bool separate_duplicates = false;
};

// Sums over the slices of one row, for each of a number of elements: arrays of the type that a rule computes in.
struct PowerSums {
  const void *sum, *squares, *magnitudes;
};

// What of a step does not depend on the element. Filled by `RuleKernels::prepare`.
struct PreparedStep {
  alignas(16) unsigned char bytes[128];
};

// Sums over elements that a rule needs: of the squares of the parameter and of the direction, for a trust ratio, or
// what it declares as the sums of a step.
struct RuleSums {
  double sum[kMaxStepSums] = {};
};

// A rule compiled for one type of number.
struct RuleKernels {
  // `step` counts from 1. `scalars` is read and replaced by its next values.
  void (*prepare)(const double* hyperparameters, double step, double* scalars, PreparedStep* prepared);
  // Updates the elements [begin, end) of a segment. Rows are the caller's.
  void (*update)(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end);
  // Null, unless the rule has sums, which it adds to; then `update` is null.
  // With a trust ratio it updates the slots only, everywhere, and after it comes
  // `move` with the norms of the whole segment. With sums of a step it is all of
  // the update, and the step ends with `finish`.
  void (*update_and_sum)(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end,
                         RuleSums* sums);
  void (*move)(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end, double param_norm,
               double direction_norm);
  // `update` and `update_and_sum` of a gradient that is a sum of slices whose powers were added up one by one. The sums
  // begin at element `begin`.
  void (*update_separate)(const PreparedStep& prepared, const Segment& segment, const PowerSums& gradient,
                          int64_t begin, int64_t end);
  void (*update_and_sum_separate)(const PreparedStep& prepared, const Segment& segment, const PowerSums& gradient,
                                  int64_t begin, int64_t end, RuleSums* sums);
  // Null, unless the rule has sums of a step. Replaces the scalars, as `prepare` left them.
  void (*finish)(const double* hyperparameters, double step, const double* sums, double* scalars);
};

// A rule as the other layers see it.
struct Rule {
  const char* name;
  int num_hyperparameters, num_slots, num_scalars, num_step_sums;
  // Whether a step goes over everything twice, see RuleKernels::update_and_sum.
  bool has_trust_ratio;
  const char* const* hyperparameters;
  const char* const* slots;
  const char* const* scalars;
  const char* const* step_sums;
  RuleKernels kernels[kNumDTypes];
};

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_STEP_H_
