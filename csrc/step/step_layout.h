// Where the tensors stand that a step replaces, among the inputs of the op and the operands of XLA's call of the
// kernels.
#ifndef FUSEMIN_KERNELS_STEP_LAYOUT_H_
#define FUSEMIN_KERNELS_STEP_LAYOUT_H_

#include "options/option.h"
#include "step/step.h"

namespace fusemin {

// Scalar variables of a step: the rule's own, the count of iterations, those of the options.
enum ScalarVariable {
  kRuleScalar,
  kIterations = kRuleScalar + kMaxScalars,
  kOptionScalar,
  kNumScalars = kOptionScalar + kNumOptionScalars
};

// The parameters, each slot of all of them, averages, accumulators: of each kind one for each parameter.
struct StepLayout {
  int num_params, num_slots;
  bool has_averages, has_accumulators;

  int slot(int k, int i) const { return (1 + k) * num_params + i; }
  int average(int i) const { return slot(num_slots, i); }
  int accumulator(int i) const { return average(i) + (has_averages ? num_params : 0); }
  // What follows them.
  int end() const { return accumulator(0) + (has_accumulators ? num_params : 0); }
};

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_STEP_LAYOUT_H_
