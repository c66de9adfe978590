// The tensors of a FusedStep, on any device: checked, and gathered as the pointers that a kernel takes. Nothing here
// reads or writes what the pointers point to.
#ifndef FUSEMIN_TENSORFLOW_STEP_TENSORS_H_
#define FUSEMIN_TENSORFLOW_STEP_TENSORS_H_

#include "absl/container/inlined_vector.h"
#include "kernels/step.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/locked_variables.h"
#include "tensorflow/step_attributes.h"

namespace fusemin {

// A row of a trace that the update of the segments does not write.
struct RowCopy {
  void* to;
  const void* from;
  size_t bytes;
};
using RowCopies = absl::InlinedVector<RowCopy, 4>;

// Gradients, slots, averages and accumulators are as their parameter is, or an error that names the variable.
absl::Status CheckTensors(tensorflow::OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables);

// Fills `segments`, one for each parameter, after `CheckTensors`. Memory that cannot be written in place is replaced,
// see LockedVariables.
absl::Status GatherSegments(tensorflow::OpKernelContext* ctx, const StepAttributes& a, LockedVariables* variables,
                            Segment* segments);

// Forwards the buffers. Rows that the update writes go into the segments, the others into `copies`, which are to be
// made after the update.
absl::Status ForwardTraces(tensorflow::OpKernelContext* ctx, const StepAttributes& a, int64_t row, Segment* segments,
                           RowCopies* copies);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_STEP_TENSORS_H_
