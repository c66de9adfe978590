// FusedStep inside XLA: reads the variables, builds the step, assigns what it gives.
#include <cstdlib>
#include <map>

#include "backends/cpu/registry.h"
#include "backends/cpu/run.h"
#include "backends/xla/hlo_step.h"
#include "backends/xla/kernel_call.h"
#include "backends/xla/registration.h"
#include "backends/xla/step_values.h"
#include "backends/xla/trace_row.h"
#include "ops/step_attributes.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "xla/hlo/builder/lib/constants.h"

namespace fusemin::hlo {
namespace {

using ::tensorflow::DataType;
using ::tensorflow::TensorShape;
using ::tensorflow::XlaOpKernelContext;

// Below this many bytes that the update moves for a variable, on average, HLO is faster than a call of the kernels.
constexpr int64_t kMinBytesOfKernelCall = int64_t{384} * 1024;

// Below this many bytes a copy of the parameters is nothing beside the chain of operations that the order makes longer.
constexpr int64_t kMinBytesToOrder = 4096;

class FusedStepOp : public tensorflow::XlaOpKernel {
 public:
  explicit FusedStepOp(tensorflow::OpKernelConstruction* ctx) : XlaOpKernel(ctx), device_type_(ctx->device_type()) {
    OP_REQUIRES_OK(ctx, a_.Parse(ctx, [](const std::string& name) {
      return cpu::FindRule(cpu::Isa::kBaseline, name);  // For what the rule declares, not for its kernels.
    }));
    // Auto-clustering meets such ops, and then leaves them as they are.
    OP_REQUIRES(ctx, a_.indices_of.empty() && !a_.has_sums && !a_.has_count,
                absl::UnimplementedError("FusedStep inside XLA takes no sparse gradients, no sums of gradients, and no "
                                         "count of iterations of another device"));
  }

  void Compile(XlaOpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Step(ctx)); }

 private:
  // Variable i, counted as the inputs are, of the dtype and shape that it has.
  absl::Status Read(XlaOpKernelContext* ctx, int i, Value* value, TensorShape* shape) const {
    DataType type;
    if (!ctx->GetVariableTypeAndShape(i, &type, shape).ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat(i < a_.gradients_at ? a_.VariableName(i) : "the variable of a hyperparameter",
                       " is not initialized; run its initializer first"));
    }
    TF_RETURN_IF_ERROR(tensorflow::DataTypeToPrimitiveType(type, &value->type));
    return ctx->ReadVariableInput(i, type, shape, &value->op);
  }

  absl::Status ReadTensor(XlaOpKernelContext* ctx, int i, const TensorShape* like, Value* value,
                          TensorShape* shape) const {
    TF_RETURN_IF_ERROR(Read(ctx, i, value, shape));
    DataType type;
    TF_RETURN_IF_ERROR(ctx->GetVariableTypeAndShape(i, &type, shape));
    if (type != a_.type || (like != nullptr && *shape != *like)) {
      return absl::InvalidArgumentError(absl::StrCat(a_.VariableName(i), " is ", DataTypeString(type),
                                                     shape->DebugString(), ", expected ", DataTypeString(a_.type),
                                                     like == nullptr ? "" : like->DebugString()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadScalar(XlaOpKernelContext* ctx, int i, xla::PrimitiveType type, Value* value) const {
    TensorShape shape;
    TF_RETURN_IF_ERROR(Read(ctx, i, value, &shape));
    return AsScalar(shape, a_.VariableName(i), type, value);
  }

  static absl::Status AsScalar(const TensorShape& shape, const std::string& what, xla::PrimitiveType type,
                               Value* value) {
    if (shape.num_elements() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(what, " must be a scalar, it has shape ", shape.DebugString()));
    }
    *value = Convert({xla::Reshape(value->op, {}), value->type}, type);
    return absl::OkStatus();
  }

  absl::Status ReadHyperparameters(XlaOpKernelContext* ctx, StepValues* values) const {
    for (int k = 0; k < a_.rule->num_hyperparameters; ++k) {
      values->hyperparameters[k] = Scalar(ctx->builder(), xla::F64, a_.constants[k]);
    }
    for (size_t i = 0; i < a_.hyperparameter_positions.size(); ++i) {
      const int input = a_.hyperparameters_at + static_cast<int>(i), position = a_.hyperparameter_positions[i];
      Value* const value = &values->hyperparameters[position];
      TensorShape shape = ctx->InputShape(input);
      if (ctx->input_type(input) == tensorflow::DT_RESOURCE) {
        TF_RETURN_IF_ERROR(Read(ctx, input, value, &shape));
      } else {
        *value = {ctx->Input(input), ctx->input_xla_type(input)};
      }
      TF_RETURN_IF_ERROR(
          AsScalar(shape, absl::StrCat("hyperparameter '", a_.rule->hyperparameters[position], "'"), xla::F64, value));
    }
    return absl::OkStatus();
  }

  absl::Status CheckDistinct(XlaOpKernelContext* ctx) const {
    std::map<const tensorflow::XlaResource*, int> seen;
    for (int i = 0; i < a_.gradients_at; ++i) {
      tensorflow::XlaResource* resource = nullptr;
      TF_RETURN_IF_ERROR(ctx->GetResourceInput(i, &resource));
      const auto [other, inserted] = seen.emplace(resource, i);
      if (!inserted) {
        return absl::InvalidArgumentError(absl::StrCat(a_.VariableName(other->second), " and ", a_.VariableName(i),
                                                       " are the same variable; a step can write it only once"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadAll(XlaOpKernelContext* ctx, StepValues* values) const {
    TF_RETURN_IF_ERROR(CheckDistinct(ctx));
    TF_RETURN_IF_ERROR(ReadHyperparameters(ctx, values));
    values->segments.resize(a_.num_params);
    for (int i = 0; i < a_.num_params; ++i) {
      SegmentValues& segment = values->segments[i];
      TensorShape shape, unused;
      TF_RETURN_IF_ERROR(ReadTensor(ctx, i, nullptr, &segment.param, &shape));
      segment.gradient = {ctx->Input(a_.gradients_at + i), segment.param.type};
      if (ctx->InputShape(a_.gradients_at + i) != shape) {
        return absl::InvalidArgumentError(absl::StrCat("the gradient of ", a_.VariableName(i), " has shape ",
                                                       ctx->InputShape(a_.gradients_at + i).DebugString(),
                                                       ", the variable has ", shape.DebugString()));
      }
      for (int k = 0; k < a_.rule->num_slots; ++k) {
        TF_RETURN_IF_ERROR(ReadTensor(ctx, a_.layout.slot(k, i), &shape, &segment.slots[k], &unused));
      }
      if (a_.has_averages) TF_RETURN_IF_ERROR(ReadTensor(ctx, a_.layout.average(i), &shape, &segment.average, &unused));
      if (a_.has_accumulators) {
        TF_RETURN_IF_ERROR(ReadTensor(ctx, a_.layout.accumulator(i), &shape, &segment.accumulator, &unused));
      }
    }
    // Without a count every step is the first.
    values->iterations = {xla::ConstantR0<int64_t>(ctx->builder(), 0), xla::S64};
    return a_.ForEachScalar(
        [&](int at, int k) { return ReadScalar(ctx, at, k == kIterations ? xla::S64 : xla::F64, &values->scalar(k)); });
  }

  // Back to the dtype and shape of the variable.
  static absl::Status Assign(XlaOpKernelContext* ctx, int i, const Value& value) {
    DataType type;
    TensorShape shape;
    xla::PrimitiveType stored;
    TF_RETURN_IF_ERROR(ctx->GetVariableTypeAndShape(i, &type, &shape));
    TF_RETURN_IF_ERROR(tensorflow::DataTypeToPrimitiveType(type, &stored));
    xla::XlaOp op = Convert(value, stored).op;
    // Scalars may be variables of shape [1].
    if (i >= 0 && shape.num_elements() == 1) op = xla::Reshape(op, shape.dim_sizes());
    return ctx->AssignVariable(i, type, op);
  }

  absl::Status AssignAll(XlaOpKernelContext* ctx, StepValues* values) const {
    for (int i = 0; i < a_.num_params; ++i) {
      const SegmentValues& segment = values->segments[i];
      TF_RETURN_IF_ERROR(Assign(ctx, i, segment.param));
      for (int k = 0; k < a_.rule->num_slots; ++k) {
        TF_RETURN_IF_ERROR(Assign(ctx, a_.layout.slot(k, i), segment.slots[k]));
      }
      if (a_.has_averages) TF_RETURN_IF_ERROR(Assign(ctx, a_.layout.average(i), segment.average));
      if (a_.has_accumulators) TF_RETURN_IF_ERROR(Assign(ctx, a_.layout.accumulator(i), segment.accumulator));
    }
    if (!a_.advance) return absl::OkStatus();
    return a_.ForEachScalar([&](int at, int k) { return Assign(ctx, at, values->scalar(k)); });
  }

  absl::Status WriteRows(XlaOpKernelContext* ctx, const StepValues& after) const {
    const xla::XlaOp row = RowIndex(ctx, a_.row_at, a_.row_offset);
    for (size_t t = 0; t < a_.traces.size(); ++t) {
      const TraceSource& source = a_.traces[t];
      const xla::XlaOp value = source.kind == TraceKind::kValue      ? ctx->Input(a_.values_at + source.index)
                               : source.kind == TraceKind::kGradient ? ctx->Input(a_.gradients_at + source.index)
                                                                     : after.segments[source.index].param.op;
      TF_RETURN_IF_ERROR(WriteRow(ctx, ctx->Input(a_.buffers_at + static_cast<int>(t)), static_cast<int>(t), value, row,
                                  a_.TraceName(source)));
    }
    return absl::OkStatus();
  }

  // What the update is compiled to, see docs/xla.md.
  enum class Form { kHlo, kLoops, kCall, kBest };

  absl::StatusOr<Form> WantedForm() const {
    if (device_type_ != tensorflow::DEVICE_CPU_XLA_JIT) return Form::kHlo;
    const char* const wanted = std::getenv("FUSEMIN_XLA_FORM");
    if (wanted == nullptr || *wanted == '\0') return Form::kBest;
    if (std::string(wanted) == "hlo") return Form::kHlo;
    if (std::string(wanted) == "loops") return Form::kLoops;
    if (std::string(wanted) == "call") return Form::kCall;
    return absl::InvalidArgumentError(
        absl::StrCat("FUSEMIN_XLA_FORM is '", wanted, "', it must be 'hlo', 'loops' or 'call', or not set"));
  }

  // The step, which moves so many bytes. Loops spare most memory traffic, since XLA fuses the gradient into them. Where
  // they cannot be, XLA makes a loop for each result; the kernels have one for all, but of many small variables XLA
  // runs several at the same time, each as its gradient is there, which a call for all of them cannot.
  absl::StatusOr<StepValues> Compute(const StepValues& before, int64_t bytes) const {
    TF_ASSIGN_OR_RETURN(const Form form, WantedForm());
    const bool calls_kernels =
        form == Form::kCall || (form == Form::kBest && bytes >= a_.num_params * kMinBytesOfKernelCall);
    const bool makes_loops = a_.in_loop && (form == Form::kLoops || form == Form::kBest);
    if (calls_kernels) {
      const std::optional<StepValues> after = makes_loops ? HloStep(a_, before, Loops::kAll) : std::nullopt;
      return after.has_value() ? *after : KernelCallStep(a_, before);
    }
    // Only kAll may leave it out.
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access)
    return *HloStep(a_, before, makes_loops ? Loops::kWherePossible : Loops::kNone);
  }

  // Bytes that the update moves.
  absl::StatusOr<int64_t> StepBytes(XlaOpKernelContext* ctx, const StepValues& values) const {
    std::vector<Segment> segments(a_.num_params);
    for (int i = 0; i < a_.num_params; ++i) {
      TF_ASSIGN_OR_RETURN(const xla::Shape shape, ctx->builder()->GetShape(values.segments[i].param.op));
      segments[i].size = xla::ShapeUtil::ElementsIn(shape);
    }
    return cpu::StepBytes(*a_.rule, a_.dtype, segments.data(), a_.num_params);
  }

  // Makes the update depend on `after`, the loss: the update is in place, and XLA would copy each parameter for a loss
  // that it may compute after that. The learning rate becomes 0 where a value is a NaN and is none. XLA does not see
  // that this is never so.
  void OrderAfter(XlaOpKernelContext* ctx, StepValues* values) const {
    for (int i = 0; i < a_.num_after; ++i) {
      const xla::XlaOp value = ctx->Input(a_.after_at + i);
      if (ctx->InputShape(a_.after_at + i).dims() > 0) continue;
      const Value never{xla::And(xla::Ne(value, value), xla::Eq(value, value)), xla::PRED};
      values->hyperparameters[0] = Select(never, Constant(values->hyperparameters[0], 0.0), values->hyperparameters[0]);
    }
  }

  absl::Status Step(XlaOpKernelContext* ctx) const {
    StepValues before;
    TF_RETURN_IF_ERROR(ReadAll(ctx, &before));
    TF_ASSIGN_OR_RETURN(const int64_t bytes, StepBytes(ctx, before));
    // On a GPU XLA orders kernels by itself, and the chain would cost each variable one of its own.
    if (bytes >= kMinBytesToOrder && device_type_ == tensorflow::DEVICE_CPU_XLA_JIT) OrderAfter(ctx, &before);
    TF_ASSIGN_OR_RETURN(StepValues after, Compute(before, bytes));
    TF_RETURN_IF_ERROR(AssignAll(ctx, &after));
    return WriteRows(ctx, after);
  }

  StepAttributes a_;
  const tensorflow::DeviceType device_type_;
};

const XlaKernel step_kernel("Fusemin>FusedStep", [](tensorflow::OpKernelConstruction* ctx) -> tensorflow::OpKernel* {
  return new FusedStepOp(ctx);
});

}  // namespace
}  // namespace fusemin::hlo
