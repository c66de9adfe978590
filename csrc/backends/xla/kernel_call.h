// One optimizer step over many tensors as a call of csrc/step, for large updates on a CPU.
#ifndef FUSEMIN_XLA_KERNEL_CALL_H_
#define FUSEMIN_XLA_KERNEL_CALL_H_

#include "backends/xla/step_values.h"

namespace fusemin::hlo {

// The same as HloStep. The call writes the variables in place.
StepValues KernelCallStep(const StepAttributes& attributes, const StepValues& before);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_KERNEL_CALL_H_
