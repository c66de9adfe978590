// FusedStep on a GPU: gathers, locks and checks, as on the CPU; csrc/backends/cuda does the arithmetic. No value comes
// to the host, and nothing waits: a scalar is its address.
#include <cstring>
#include <vector>

#include "backends/cuda/run.h"
#include "ops/gpu_device.h"
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
using ::tensorflow::TensorShape;

uint64_t Address(const void* memory) { return reinterpret_cast<uint64_t>(memory); }

// The type of a scalar in device memory. `what` names it in errors.
absl::Status ScalarTypeOf(const Tensor& tensor, const std::string& what, cuda::ScalarType* type) {
  TF_RETURN_IF_ERROR(CheckScalar(tensor, [&] { return what; }));
  switch (tensor.dtype()) {
    case tensorflow::DT_FLOAT:
      *type = cuda::ScalarType::kFloat32;
      break;
    case tensorflow::DT_DOUBLE:
      *type = cuda::ScalarType::kFloat64;
      break;
    case tensorflow::DT_HALF:
      *type = cuda::ScalarType::kFloat16;
      break;
    case tensorflow::DT_BFLOAT16:
      *type = cuda::ScalarType::kBFloat16;
      break;
    case tensorflow::DT_INT32:
      *type = cuda::ScalarType::kInt32;
      break;
    default:
      *type = cuda::ScalarType::kInt64;
  }
  return absl::OkStatus();
}

class FusedStepGpuOp : public OpKernel {
 public:
  explicit FusedStepGpuOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, a_.Parse(ctx, [](const std::string& name) { return cuda::FindRule(name); }));
    for (int i = 0; i < static_cast<int>(a_.indices_of.size()); ++i) {
      OP_REQUIRES(ctx, a_.indices_of[i] < 0,
                  absl::UnimplementedError(absl::StrCat("the gradient of ", a_.VariableName(i),
                                                        " is sparse, which the GPU kernel does not take")));
    }
    OP_REQUIRES(ctx, !a_.has_sums,
                absl::UnimplementedError("the GPU kernel does not take `gradient_sums`, which a step has that clips by "
                                         "the global norm, or skips, over several FusedSteps"));
  }

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Enqueue(ctx)); }

 private:
  // `held` keeps the values of variables alive until the step is enqueued, after which the stream orders what may
  // become of them.
  absl::Status GatherHyperparameters(OpKernelContext* ctx, cuda::Step* step, std::vector<Tensor>* held) const {
    for (int k = 0; k < a_.rule->num_hyperparameters; ++k) {
      step->hyperparameter_types[k] = cuda::ScalarType::kNumber;
      std::memcpy(&step->hyperparameters[k], &a_.constants[k], sizeof a_.constants[k]);
    }
    return ForEachHyperparameter(ctx, a_, [&](int k, const Tensor& tensor, const auto& what) {
      if (k == kCountPosition) {
        TF_RETURN_IF_ERROR(ScalarTypeOf(tensor, what(), &step->scalar_types[kIterations]));
        step->scalars[kIterations].in = Address(tensor.data());
      } else {
        TF_RETURN_IF_ERROR(ScalarTypeOf(tensor, what(), &step->hyperparameter_types[k]));
        step->hyperparameters[k] = Address(tensor.data());
      }
      held->push_back(tensor);
      return absl::OkStatus();
    });
  }

  absl::Status GatherScalar(OpKernelContext* ctx, LockedVariables* variables, int at, int k, cuda::Step* step) const {
    const Tensor& tensor = *(*variables)[at]->tensor();
    TF_RETURN_IF_ERROR(ScalarTypeOf(tensor, a_.VariableName(at), &step->scalar_types[k]));
    step->scalars[k].in = Address(tensor.data());
    if (!a_.advance) return absl::OkStatus();
    void* out = nullptr;
    TF_RETURN_IF_ERROR(variables->WritableData(ctx, at, &out));
    step->scalars[k].out = Address(out);
    return absl::OkStatus();
  }

  // The tickets, zeroed at the first step on the stream of the device.
  absl::Status Tickets(OpKernelContext* ctx, uint64_t* tickets) {
    const tensorflow::mutex_lock lock(mutex_);
    if (tickets_.NumElements() == 0) {
      Tensor fresh;
      TF_RETURN_IF_ERROR(ctx->allocate_temp(tensorflow::DT_INT32, TensorShape({cuda::kNumTickets}), &fresh));
      TF_RETURN_IF_ERROR(DriverStatus(name(), cuda::ZeroTickets(StreamOf(ctx), Address(fresh.data()))));
      tickets_ = fresh;
    }
    *tickets = Address(tickets_.data());
    return absl::OkStatus();
  }

  absl::Status Enqueue(OpKernelContext* ctx) {
    const Tensor& row_input = ctx->input(a_.row_at);
    if (!tensorflow::TensorShapeUtils::IsScalar(row_input.shape())) {
      return absl::InvalidArgumentError("`row` must be a scalar");
    }
    const int64_t row = row_input.scalar<int32_t>()() + a_.row_offset;
    const cuda::Stream stream = StreamOf(ctx);

    // Everything that can fail comes before the first write, but a failure of the driver.
    cuda::Step step{a_.rule, a_.dtype, a_.options, {}, {}, {}, {}};
    std::vector<Tensor> held;
    TF_RETURN_IF_ERROR(GatherHyperparameters(ctx, &step, &held));
    LockedVariables variables;
    TF_RETURN_IF_ERROR(
        variables.Lock(ctx, 0, a_.gradients_at, [this](int i) { return a_.VariableName(i); }, &lock_order_));
    TF_RETURN_IF_ERROR(CheckTensors(ctx, a_, variables));
    absl::InlinedVector<Segment, 4> segments(a_.num_params);
    TF_RETURN_IF_ERROR(GatherSegments(ctx, a_, &variables, {}, segments.data()));
    TF_RETURN_IF_ERROR(a_.ForEachScalar([&](int at, int k) { return GatherScalar(ctx, &variables, at, k, &step); }));
    uint64_t tickets = 0;
    TF_RETURN_IF_ERROR(Tickets(ctx, &tickets));
    RowCopies copies;
    const auto copy = [&](void* to, const void* from, size_t bytes) {
      return DriverStatus(name(), cuda::EnqueueCopies(stream, {{to, from, bytes, 1}}));
    };
    TF_RETURN_IF_ERROR(ForwardTraces(ctx, a_, variables, row, copy, segments.data(), &copies));
    std::vector<cuda::RowCopies> rows;
    for (const RowCopy& c : copies) rows.push_back({c.to, c.from, c.bytes, 1});

    cuda::Plan plan(step, segments.data(), a_.num_params, rows);
    Tensor scratch;
    TF_RETURN_IF_ERROR(
        ctx->allocate_temp(tensorflow::DT_INT8, TensorShape({static_cast<int64_t>(plan.scratch_bytes())}), &scratch));
    TF_RETURN_IF_ERROR(DriverStatus(name(), plan.Enqueue(stream, Address(scratch.data()), tickets)));
    // Where the device decides to skip the step, it copies the old values to the new memory.
    variables.Commit(0);
    return absl::OkStatus();
  }

  StepAttributes a_;
  LockOrder lock_order_;
  tensorflow::mutex mutex_;
  Tensor tickets_ TF_GUARDED_BY(mutex_);
};

REGISTER_KERNEL_BUILDER(Name(FUSEMIN_OPS "FusedStep").Device(FUSEMIN_GPU_DEVICE).HostMemory("row"), FusedStepGpuOp);

}  // namespace
}  // namespace fusemin
