#include "tensorflow/step_tensors.h"

#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/trace_buffers.h"

namespace fusemin {

using ::tensorflow::DataTypeString;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

absl::Status CheckTensors(OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables) {
  for (int i = 0; i < a.num_params; ++i) {
    const Tensor& param = *variables[i]->tensor();
    if (param.dtype() != a.type) {
      return absl::InvalidArgumentError(absl::StrCat(a.VariableName(i), " has dtype ", DataTypeString(param.dtype()),
                                                     ", the step is for ", DataTypeString(a.type)));
    }
    const Tensor& gradient = ctx->input(a.gradients_at + i);
    if (gradient.shape() != param.shape()) {
      return absl::InvalidArgumentError(absl::StrCat("the gradient of ", a.VariableName(i), " has shape ",
                                                     gradient.shape().DebugString(), ", the variable has ",
                                                     param.shape().DebugString()));
    }
    // Slots, averages and accumulators follow one another, each in the order of the parameters.
    for (int at = a.num_params + i; at < a.scalars_at; at += a.num_params) {
      const Tensor& like = *variables[at]->tensor();
      if (like.dtype() != a.type || like.shape() != param.shape()) {
        return absl::InvalidArgumentError(absl::StrCat(a.VariableName(at), " is ", DataTypeString(like.dtype()),
                                                       like.shape().DebugString(), ", the variable is ",
                                                       DataTypeString(param.dtype()), param.shape().DebugString()));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status GatherSegments(OpKernelContext* ctx, const StepAttributes& a, LockedVariables* variables,
                            Segment* segments) {
  const auto pair = [&](int at, const void** in, void** out) {
    *in = (*variables)[at]->tensor()->data();
    return variables->WritableData(ctx, at, out);
  };
  for (int i = 0; i < a.num_params; ++i) {
    Segment& segment = segments[i];
    segment.size = (*variables)[i]->tensor()->NumElements();
    segment.gradient = ctx->input(a.gradients_at + i).data();
    segment.decays = !a.decays.empty() && a.decays[i];
    TF_RETURN_IF_ERROR(pair(i, &segment.param_in, &segment.param_out));
    for (int k = 0; k < a.rule->num_slots; ++k) {
      TF_RETURN_IF_ERROR(pair((1 + k) * a.num_params + i, &segment.slot_in[k], &segment.slot_out[k]));
    }
    if (a.has_averages) TF_RETURN_IF_ERROR(pair(a.averages_at + i, &segment.average_in, &segment.average_out));
    if (a.has_accumulators) {
      TF_RETURN_IF_ERROR(pair(a.accumulators_at + i, &segment.accumulator_in, &segment.accumulator_out));
    }
  }
  return absl::OkStatus();
}

absl::Status ForwardTraces(OpKernelContext* ctx, const StepAttributes& a, int64_t row, Segment* segments,
                           RowCopies* copies) {
  const auto like = [&](const TraceSource& source) -> const Tensor& {
    // A parameter has the shape of its gradient, which was checked.
    return ctx->input((source.kind == TraceKind::kValue ? a.values_at : a.gradients_at) + source.index);
  };
  for (size_t t = 0; t < a.traces.size(); ++t) {
    TF_RETURN_IF_ERROR(
        CheckRow(ctx->input(a.buffers_at + t), like(a.traces[t]), row, 1, [&] { return a.TraceName(a.traces[t]); }));
  }
  for (size_t t = 0; t < a.traces.size(); ++t) {
    const TraceSource& source = a.traces[t];
    Tensor* trace = nullptr;
    TF_RETURN_IF_ERROR(ForwardBuffer(ctx, a.buffers_at + static_cast<int>(t), static_cast<int>(t), &trace));
    void* to = RowData(trace, row);
    Segment& segment = segments[source.index];
    if (source.kind == TraceKind::kGradient && segment.gradient_row == nullptr) {
      segment.gradient_row = to;
    } else if (source.kind == TraceKind::kParam && segment.param_row == nullptr) {
      segment.param_row = to;
    } else {
      // Of a parameter, the row that the update wrote.
      const void* from = source.kind == TraceKind::kParam ? segment.param_row : like(source).data();
      copies->push_back({to, from, like(source).TotalBytes()});
    }
  }
  return absl::OkStatus();
}

}  // namespace fusemin
