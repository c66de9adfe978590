// One optimizer step over many tensors as HLO, for XLA to fuse with the gradients: what kernels/cpu/run.h does, in the
// same order, with the options of csrc/kernels/user_options.h.
#ifndef FUSEMIN_XLA_HLO_STEP_H_
#define FUSEMIN_XLA_HLO_STEP_H_

#include "xla/step_values.h"

namespace fusemin::hlo {

// The values after a step of the values before it.
StepValues HloStep(const StepAttributes& attributes, const StepValues& before);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_HLO_STEP_H_
