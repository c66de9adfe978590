// The hyperparameters of a step that come as inputs of the op, on any device.
#ifndef FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_
#define FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_

#include "ops/step_attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace fusemin {

// Calls `take(position, tensor, what)` with each: its position, or kCountPosition, its tensor, and a function that
// names it in errors. It returns a Status. The tensor of a variable is locked meanwhile.
template <class Take>
absl::Status ForEachHyperparameter(tensorflow::OpKernelContext* ctx, const StepAttributes& a, const Take& take) {
  for (size_t i = 0; i < a.hyperparameter_positions.size(); ++i) {
    const int input = a.hyperparameters_at + static_cast<int>(i);
    const int position = a.hyperparameter_positions[i];
    const auto what = [&] { return a.HyperparameterName(position); };
    if (ctx->input_dtype(input) != tensorflow::DT_RESOURCE) {
      TF_RETURN_IF_ERROR(take(position, ctx->input(input), what));
      continue;
    }
    if (ctx->input(input).NumElements() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("the handle of ", what(), " must be a scalar"));
    }
    tensorflow::core::RefCountPtr<tensorflow::Var> variable;
    if (!tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, input), &variable).ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the variable of ", what(), " does not exist: it was deleted, or never initialized"));
    }
    tensorflow::tf_shared_lock lock(*variable->mu());
    if (!variable->is_initialized) {
      return absl::FailedPreconditionError(absl::StrCat("the variable of ", what(), " is not initialized"));
    }
    TF_RETURN_IF_ERROR(take(position, *variable->tensor(), what));
  }
  return absl::OkStatus();
}

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_HYPERPARAMETERS_H_
