// The values that a step reads and replaces, as expressions.
#ifndef FUSEMIN_XLA_STEP_VALUES_H_
#define FUSEMIN_XLA_STEP_VALUES_H_

#include <vector>

#include "backends/xla/value.h"
#include "ops/step_attributes.h"

namespace fusemin::hlo {

// One parameter with its gradient and slots, as stored. Average and accumulator are there with the options only.
struct SegmentValues {
  Value gradient;
  Value param;
  Value slots[kMaxSlots];
  Value average;
  Value accumulator;
};

struct StepValues {
  std::vector<SegmentValues> segments;
  // Scalars in float64, and the count of calls in int64.
  Value hyperparameters[kMaxHyperparameters];
  Value scalars[kMaxScalars];
  Value iterations;
  // Those of the options, in float64.
  Value option_scalars[kNumOptionScalars];

  // One of ScalarVariable.
  Value& scalar(int k) {
    return k < kIterations    ? scalars[k - kRuleScalar]
           : k == kIterations ? iterations
                              : option_scalars[k - kOptionScalar];
  }
};

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_STEP_VALUES_H_
