// One optimizer step over many tensors as HLO, for XLA to fuse with the gradients: what backends/cpu/run.h does, in the
// same order, with the options of csrc/options.
#ifndef FUSEMIN_XLA_HLO_STEP_H_
#define FUSEMIN_XLA_HLO_STEP_H_

#include <optional>

#include "backends/xla/step_values.h"

namespace fusemin::hlo {

// Which variables are updated by one loop over their elements, see loop_body.h, and not by one for each result. That
// can be where the variable is part of the state of the loop that the step is in, and its gradient depends on it
// element by element. Where XLA makes one loop by itself it counts as one.
enum class Loops { kNone, kWherePossible, kAll };

// The values after a step of the values before it. Nothing if all variables are to be updated by loops and one cannot.
std::optional<StepValues> HloStep(const StepAttributes& attributes, const StepValues& before, Loops loops);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_HLO_STEP_H_
