#include "ops/trace_rows.h"

#include "tensorflow/core/framework/tensor.h"

namespace fusemin {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

// A shape that was unknown when the graph was built is known at row 0.
bool Reshapes(const Tensor& value, const Tensor& buffer, int64_t row) {
  if (row != 0 || buffer.dims() < 1) return false;
  TensorShape shape = buffer.shape();
  shape.RemoveDim(0);
  return shape != value.shape();
}

}  // namespace

TraceRowsOp::TraceRowsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
  std::vector<tensorflow::DataType> types;
  OP_REQUIRES_OK(ctx, ctx->GetAttr("types", &types));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("names", &names_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("row_offset", &row_offset_));
  OP_REQUIRES(ctx, names_.size() == types.size(), absl::InvalidArgumentError("`names` must name every trace"));
  OP_REQUIRES_OK(ctx, CheckRowOffset(row_offset_));
  for (size_t i = 0; i < types.size(); ++i) {
    OP_REQUIRES(
        ctx, tensorflow::DataTypeCanUseMemcpy(types[i]) || types[i] == tensorflow::DT_STRING,
        absl::UnimplementedError(absl::StrCat("the trace of ", names_[i], " has dtype ",
                                              tensorflow::DataTypeString(types[i]), ", which cannot be stacked")));
  }
}

void TraceRowsOp::Compute(OpKernelContext* ctx) { OP_REQUIRES_OK(ctx, Write(ctx)); }

absl::Status TraceRowsOp::Write(OpKernelContext* ctx) const {
  const int n = static_cast<int>(names_.size());
  if (!tensorflow::TensorShapeUtils::IsScalar(ctx->input(0).shape()) ||
      !tensorflow::TensorShapeUtils::IsScalar(ctx->input(1).shape())) {
    return absl::InvalidArgumentError("`row` and `count` must be scalars");
  }
  const int64_t row = ctx->input(0).scalar<int32_t>()() + row_offset_;
  const int64_t count = ctx->input(1).scalar<int32_t>()();
  for (int i = 0; i < n; ++i) {
    const Tensor& value = ctx->input(2 + i);
    const Tensor& buffer = ctx->input(2 + n + i);
    if (!Reshapes(value, buffer, row)) {
      TF_RETURN_IF_ERROR(CheckRow(buffer, value, row, count, [&] { return names_[i]; }));
    }
  }
  std::vector<Rows> rows;
  for (int i = 0; i < n; ++i) {
    const Tensor& value = ctx->input(2 + i);
    Tensor* trace = nullptr;
    if (Reshapes(value, ctx->input(2 + n + i), row)) {
      TensorShape shape = value.shape();
      TF_RETURN_IF_ERROR(shape.InsertDimWithStatus(0, ctx->input(2 + n + i).dim_size(0)));
      TF_RETURN_IF_ERROR(ctx->allocate_output(i, shape, &trace));
      TF_RETURN_IF_ERROR(CheckRow(*trace, value, row, count, [&] { return names_[i]; }));
    } else {
      const auto copy = [&](void* to, const void* from, size_t bytes) { return Copy(ctx, to, from, bytes); };
      TF_RETURN_IF_ERROR(ForwardBuffer(ctx, 2 + n + i, i, copy, &trace));
    }
    rows.push_back({&value, trace, row, count});
  }
  return WriteRows(ctx, rows);
}

}  // namespace fusemin
