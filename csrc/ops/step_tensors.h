// The tensors of a FusedStep, on any device: checked, and gathered as the pointers that a kernel takes. Nothing here
// reads or writes what the pointers point to.
#ifndef FUSEMIN_TENSORFLOW_STEP_TENSORS_H_
#define FUSEMIN_TENSORFLOW_STEP_TENSORS_H_

#include <vector>

#include "absl/container/inlined_vector.h"
#include "ops/locked_variables.h"
#include "ops/step_attributes.h"
#include "ops/trace_buffers.h"
#include "step/slices.h"
#include "step/step.h"
#include "tensorflow/core/framework/op_kernel.h"

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

// The sparse gradients, sorted, after `CheckTensors`; `slices` gets an element for each of `indices`. An error that
// names the variable if an index is out of range.
absl::Status SortGradients(tensorflow::OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables,
                           std::vector<Slices>* slices);

// Fills `segments`, one for each parameter, after `CheckTensors`, with the sparse gradients of `slices`. Memory that
// cannot be written in place is replaced, see LockedVariables.
absl::Status GatherSegments(tensorflow::OpKernelContext* ctx, const StepAttributes& a, LockedVariables* variables,
                            const std::vector<Slices>& slices, Segment* segments);

// Forwards the buffers, see ForwardBuffer. Rows that the update writes go into the segments, the others into `copies`,
// which are to be made after the update.
absl::Status ForwardTraces(tensorflow::OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables,
                           int64_t row, CopyMemory copy, Segment* segments, RowCopies* copies);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_STEP_TENSORS_H_
