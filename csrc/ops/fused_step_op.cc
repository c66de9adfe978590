// FusedStep on the CPU: gathers, locks and checks; csrc/step does the arithmetic.
#include <cstring>

#include "backends/cpu/registry.h"
#include "backends/cpu/run.h"
#include "backends/cpu/workers.h"
#include "ops/hyperparameters.h"
#include "ops/locked_variables.h"
#include "ops/op_names.h"
#include "ops/scalars.h"
#include "ops/step_attributes.h"
#include "ops/step_tensors.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusemin {
namespace {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShapeUtils;

cpu::Isa ChosenIsa() {
  std::string ignored;
  return cpu::ChosenIsa(&ignored);
}

class FusedStepOp : public OpKernel {
 public:
  explicit FusedStepOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::string error;
    cpu::ChosenIsa(&error);
    OP_REQUIRES(ctx, error.empty(), absl::InvalidArgumentError(error));
    OP_REQUIRES_OK(ctx, a_.Parse(ctx, [](const std::string& name) { return cpu::FindRule(ChosenIsa(), name); }));
  }

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Step(ctx)); }

 private:
  // A scalar variable of the optimizer, and where its next value goes; null if it is not to change.
  struct Scalar {
    double value = 0.0;
    tensorflow::DataType type = tensorflow::DT_INVALID;
    void* out = nullptr;

    void Store(double next) const {
      if (out != nullptr) StoreScalar(next, type, out);
    }
  };

  absl::Status ReadHyperparameters(OpKernelContext* ctx, double* values, double* count) const {
    std::memcpy(values, a_.constants, sizeof a_.constants);
    return ForEachHyperparameter(ctx, a_, [&](int position, const Tensor& tensor, const auto& what) {
      return ReadScalar(tensor, what, position == kCountPosition ? count : &values[position]);
    });
  }

  absl::Status GatherScalar(OpKernelContext* ctx, LockedVariables* variables, int at, Scalar* scalar) const {
    const Tensor& tensor = *(*variables)[at]->tensor();
    scalar->type = tensor.dtype();
    TF_RETURN_IF_ERROR(ReadScalar(tensor, [&] { return a_.VariableName(at); }, &scalar->value));
    return a_.advance ? variables->WritableData(ctx, at, &scalar->out) : absl::OkStatus();
  }

  absl::Status Step(OpKernelContext* ctx) const {
    double hyperparameters[kMaxHyperparameters];
    Scalar scalars[kNumScalars];
    TF_RETURN_IF_ERROR(ReadHyperparameters(ctx, hyperparameters, &scalars[kIterations].value));
    if (!TensorShapeUtils::IsScalar(ctx->input(a_.row_at).shape())) {
      return absl::InvalidArgumentError("`row` must be a scalar");
    }
    if (a_.has_sums && ctx->input(a_.sums_at).NumElements() != 2) {
      return absl::InvalidArgumentError("`gradient_sums` must be the result of GradientSums");
    }
    const int64_t row = ctx->input(a_.row_at).scalar<int32_t>()() + a_.row_offset;

    // Everything that can fail comes before the first write.
    LockedVariables variables;
    TF_RETURN_IF_ERROR(
        variables.Lock(ctx, 0, a_.gradients_at, [this](int i) { return a_.VariableName(i); }, &lock_order_));
    TF_RETURN_IF_ERROR(CheckTensors(ctx, a_, variables));
    absl::InlinedVector<Segment, 4> segments(a_.num_params);
    std::vector<Slices> slices;
    TF_RETURN_IF_ERROR(SortGradients(ctx, a_, variables, &slices));
    TF_RETURN_IF_ERROR(GatherSegments(ctx, a_, &variables, slices, segments.data()));
    TF_RETURN_IF_ERROR(a_.ForEachScalar([&](int at, int k) { return GatherScalar(ctx, &variables, at, &scalars[k]); }));
    double next[kNumScalars];
    for (int k = 0; k < kNumScalars; ++k) next[k] = scalars[k].value;
    RowCopies copies;
    TF_RETURN_IF_ERROR(ForwardTraces(ctx, a_, variables, row, CopyHostMemory, segments.data(), &copies));

    cpu::Step step =
        cpu::PrepareStep(*a_.rule, a_.dtype, ChosenIsa(), a_.options, hyperparameters,
                         static_cast<int64_t>(next[kIterations]), next + kOptionScalar, next + kRuleScalar);
    step.sparse = a_.sparse;
    cpu::GradientSums sums;
    if (a_.has_sums) {
      sums = {ctx->input(a_.sums_at).flat<double>()(0), ctx->input(a_.sums_at).flat<double>()(1)};
      step.sums = &sums;
    }
    const int num_threads = ctx->device()->tensorflow_cpu_worker_threads()->num_threads;
    const bool taken_place =
        cpu::RunStep(step, segments.data(), a_.num_params, num_threads, cpu::RunOnWorkers, next + kRuleScalar);
    if (taken_place) {
      // Also where they stay: what they are stored to may be new memory.
      for (int k = kRuleScalar; k < kRuleScalar + a_.rule->num_scalars; ++k) {
        scalars[k].Store(step.applies ? next[k] : scalars[k].value);
      }
      scalars[kIterations].Store(scalars[kIterations].value + 1);
    }
    a_.options.NextScalars(next + kOptionScalar, taken_place);
    for (int k = kOptionScalar; k < kNumScalars; ++k) scalars[k].Store(next[k]);
    // Of a step that was skipped only the scalars of the options are new.
    variables.Commit(taken_place ? 0 : a_.loss_scale_at);
    for (const RowCopy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
    return absl::OkStatus();
  }

  StepAttributes a_;
  mutable LockOrder lock_order_;
};

REGISTER_KERNEL_BUILDER(Name(FUSEMIN_OPS "FusedStep").Device(tensorflow::DEVICE_CPU), FusedStepOp);

}  // namespace
}  // namespace fusemin
