#include "xla/trace_row.h"

#include <numeric>

#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"

namespace fusemin::hlo {
namespace {

using ::tensorflow::XlaOpKernelContext;

// Checks that a row of the buffer has the shape of the value, and gives that with a leading dimension of 1.
absl::Status RowShape(XlaOpKernelContext* ctx, int input, xla::XlaOp value, const std::string& name,
                      std::vector<int64_t>* row_shape) {
  TF_ASSIGN_OR_RETURN(const xla::Shape shape, ctx->builder()->GetShape(value));
  const tensorflow::TensorShape buffer = ctx->InputShape(input);
  row_shape->assign({1});
  row_shape->insert(row_shape->end(), shape.dimensions().begin(), shape.dimensions().end());
  tensorflow::TensorShape expected(*row_shape);
  if (buffer.dims() > 0) TF_RETURN_IF_ERROR(expected.SetDimWithStatus(0, buffer.dim_size(0)));
  if (buffer != expected) {
    return absl::InvalidArgumentError(absl::StrCat("the trace of ", name, " has shape ", buffer.DebugString(),
                                                   ", a step gave ", shape.ToString(),
                                                   "; every step must give the same shape"));
  }
  if (buffer.dim_size(0) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("the trace of ", name, " has no row to write"));
  }
  return absl::OkStatus();
}

}  // namespace

xla::XlaOp RowIndex(XlaOpKernelContext* ctx, int input, int64_t offset) {
  const xla::XlaOp row = ctx->Input(input);
  return offset == 0 ? row : xla::Add(row, xla::ConstantR0<int32_t>(ctx->builder(), static_cast<int32_t>(offset)));
}

absl::Status WriteRow(XlaOpKernelContext* ctx, int input, int output, xla::XlaOp value, xla::XlaOp row,
                      const std::string& name) {
  std::vector<int64_t> row_shape;
  TF_RETURN_IF_ERROR(RowShape(ctx, input, value, name, &row_shape));
  std::vector<xla::XlaOp> start(row_shape.size(), xla::ConstantR0<int32_t>(ctx->builder(), 0));
  start[0] = row;
  ctx->SetOutput(output, xla::DynamicUpdateSlice(ctx->Input(input), xla::Reshape(value, row_shape), start));
  return absl::OkStatus();
}

absl::Status FillRows(XlaOpKernelContext* ctx, int input, int output, xla::XlaOp value, xla::XlaOp row,
                      xla::XlaOp count, const std::string& name) {
  std::vector<int64_t> row_shape;
  TF_RETURN_IF_ERROR(RowShape(ctx, input, value, name, &row_shape));
  TF_ASSIGN_OR_RETURN(const xla::Shape buffer, ctx->InputXlaShape(input));
  const xla::XlaOp index =
      xla::Iota(ctx->builder(), xla::ShapeUtil::MakeShape(xla::S32, buffer.dimensions()), /*iota_dimension=*/0);
  const xla::XlaOp inside = xla::And(xla::Ge(index, row), xla::Lt(index, xla::Add(row, count)));
  std::vector<int64_t> all_but_first(row_shape.size() - 1);
  std::iota(all_but_first.begin(), all_but_first.end(), 1);
  const xla::XlaOp rows = xla::BroadcastInDim(value, buffer.dimensions(), all_but_first);
  ctx->SetOutput(output, xla::Select(inside, rows, ctx->Input(input)));
  return absl::OkStatus();
}

}  // namespace fusemin::hlo
