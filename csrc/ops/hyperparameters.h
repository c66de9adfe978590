// The hyperparameters of a step that come as inputs of the op, on any device.
#ifndef FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_
#define FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_

#include "absl/functional/function_ref.h"
#include "ops/step_attributes.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusemin {

// Calls `take` with each: its position, or kCountPosition, its tensor, and what names it in errors. The tensor of a
// variable is locked meanwhile.
absl::Status ForEachHyperparameter(tensorflow::OpKernelContext* ctx, const StepAttributes& a,
                                   absl::FunctionRef<absl::Status(int position, const tensorflow::Tensor& tensor,
                                                                  absl::FunctionRef<std::string()> what)>
                                       take);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_
