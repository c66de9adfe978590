#include "ops/hyperparameters.h"

#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace fusemin {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::Var;

absl::Status ForEachHyperparameter(
    OpKernelContext* ctx, const StepAttributes& a,
    absl::FunctionRef<absl::Status(int, const Tensor&, absl::FunctionRef<std::string()>)> take) {
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
    tensorflow::core::RefCountPtr<Var> variable;
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
