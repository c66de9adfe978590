#include "ops/step_tensors.h"

#include "tensorflow/core/framework/tensor.h"

namespace fusemin {

using ::tensorflow::DataTypeString;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

namespace {

absl::Status CheckSlices(const std::string& variable, const Tensor& param, const Tensor& values,
                         const Tensor& indices) {
  bool fits = param.dims() > 0 && values.dims() == param.dims() && indices.dims() == 1 &&
              indices.dim_size(0) == values.dim_size(0);
  for (int d = 1; fits && d < param.dims(); ++d) fits = values.dim_size(d) == param.dim_size(d);
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the sparse gradient of ", variable, " has slices of shape ",
                                                 values.shape().DebugString(), " and indices of shape ",
                                                 indices.shape().DebugString(), ", the variable has shape ",
                                                 param.shape().DebugString()));
}

}  // namespace

absl::Status CheckTensors(OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables) {
  for (int i = 0; i < a.num_params; ++i) {
    const Tensor& param = *variables[i]->tensor();
    if (param.dtype() != a.type) {
      return absl::InvalidArgumentError(absl::StrCat(a.VariableName(i), " has dtype ", DataTypeString(param.dtype()),
                                                     ", the step is for ", DataTypeString(a.type)));
    }
    const Tensor& gradient = ctx->input(a.gradients_at + i);
    if (!a.indices_of.empty() && a.indices_of[i] >= 0) {
      TF_RETURN_IF_ERROR(CheckSlices(a.VariableName(i), param, gradient, ctx->input(a.indices_at + a.indices_of[i])));
    } else if (gradient.shape() != param.shape()) {
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

absl::Status SortGradients(OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables,
                           std::vector<Slices>* slices) {
  if (a.indices_of.empty()) return absl::OkStatus();
  slices->resize(a.sums_at - a.indices_at);
  for (int i = 0; i < a.num_params; ++i) {
    if (a.indices_of[i] < 0) continue;
    const Tensor& param = *variables[i]->tensor();
    const Tensor& values = ctx->input(a.gradients_at + i);
    const Tensor& indices = ctx->input(a.indices_at + a.indices_of[i]);
    Slices& sorted = (*slices)[a.indices_of[i]];
    sorted.num_slices = indices.NumElements();
    sorted.row_size = 1;
    for (int d = 1; d < param.dims(); ++d) sorted.row_size *= param.dim_size(d);
    sorted.values = values.data();
    const bool is_long = indices.dtype() == tensorflow::DT_INT64;
    const int64_t wrong = is_long ? SortSlices(indices.flat<int64_t>().data(), param.dim_size(0), &sorted)
                                  : SortSlices(indices.flat<int32_t>().data(), param.dim_size(0), &sorted);
    if (wrong >= 0) {
      const int64_t index = is_long ? indices.flat<int64_t>()(wrong) : indices.flat<int32_t>()(wrong);
      return absl::InvalidArgumentError(absl::StrCat("the sparse gradient of ", a.VariableName(i), " has index ", index,
                                                     " at position ", wrong, ", the variable has ", param.dim_size(0),
                                                     " rows"));
    }
  }
  return absl::OkStatus();
}

absl::Status GatherSegments(OpKernelContext* ctx, const StepAttributes& a, LockedVariables* variables,
                            const std::vector<Slices>& slices, Segment* segments) {
  const auto pair = [&](int at, const void** in, void** out) {
    *in = (*variables)[at]->tensor()->data();
    return variables->WritableData(ctx, at, out);
  };
  for (int i = 0; i < a.num_params; ++i) {
    Segment& segment = segments[i];
    segment.size = (*variables)[i]->tensor()->NumElements();
    segment.gradient = ctx->input(a.gradients_at + i).data();
    if (!a.indices_of.empty() && a.indices_of[i] >= 0) segment.slices = &slices[a.indices_of[i]];
    segment.decays = !a.decays.empty() && a.decays[i];
    TF_RETURN_IF_ERROR(pair(i, &segment.param_in, &segment.param_out));
    for (int k = 0; k < a.rule->num_slots; ++k) {
      TF_RETURN_IF_ERROR(pair(a.layout.slot(k, i), &segment.slot_in[k], &segment.slot_out[k]));
    }
    if (a.has_averages) TF_RETURN_IF_ERROR(pair(a.layout.average(i), &segment.average_in, &segment.average_out));
    if (a.has_accumulators) {
      TF_RETURN_IF_ERROR(pair(a.layout.accumulator(i), &segment.accumulator_in, &segment.accumulator_out));
    }
  }
  return absl::OkStatus();
}

absl::Status ForwardTraces(OpKernelContext* ctx, const StepAttributes& a, const LockedVariables& variables, int64_t row,
                           CopyMemory copy, Segment* segments, RowCopies* copies) {
  // What the row has the shape of: also that of a sparse gradient is dense.
  const auto like = [&](const TraceSource& source) -> const Tensor& {
    return source.kind == TraceKind::kValue ? ctx->input(a.values_at + source.index)
                                            : *variables[source.index]->tensor();
  };
  for (size_t t = 0; t < a.traces.size(); ++t) {
    TF_RETURN_IF_ERROR(
        CheckRow(ctx->input(a.buffers_at + t), like(a.traces[t]), row, 1, [&] { return a.TraceName(a.traces[t]); }));
  }
  for (size_t t = 0; t < a.traces.size(); ++t) {
    const TraceSource& source = a.traces[t];
    Tensor* trace = nullptr;
    TF_RETURN_IF_ERROR(ForwardBuffer(ctx, a.buffers_at + static_cast<int>(t), static_cast<int>(t), copy, &trace));
    void* to = RowData(trace, row);
    Segment& segment = segments[source.index];
    if (source.kind == TraceKind::kGradient && segment.gradient_row == nullptr) {
      segment.gradient_row = to;
    } else if (source.kind == TraceKind::kParam && segment.param_row == nullptr) {
      segment.param_row = to;
    } else {
      // Of a parameter or a gradient, the row that the update wrote.
      const void* from = source.kind == TraceKind::kParam      ? segment.param_row
                         : source.kind == TraceKind::kGradient ? segment.gradient_row
                                                               : like(source).data();
      copies->push_back({to, from, like(source).TotalBytes()});
    }
  }
  return absl::OkStatus();
}

}  // namespace fusemin
