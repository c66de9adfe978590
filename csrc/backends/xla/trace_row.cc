#include "backends/xla/trace_row.h"

#include <numeric>

#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"

namespace fusemin::hlo {
namespace {

using ::tensorflow::XlaOpKernelContext;

// Whether a buffer has rows of this shape, or, where XLA knows only a bound of a dimension, of this bound.
bool HasRows(const xla::Shape& buffer, const xla::Shape& row) {
  return !buffer.dimensions().empty() && buffer.dimensions().subspan(1) == row.dimensions();
}

// Checks that a row of the buffer has the shape of the value, and gives that with a leading dimension of 1.
absl::Status RowShape(XlaOpKernelContext* ctx, xla::XlaOp buffer, xla::XlaOp value, const std::string& name,
                      std::vector<int64_t>* row_shape) {
  TF_ASSIGN_OR_RETURN(const xla::Shape shape, ctx->builder()->GetShape(value));
  TF_ASSIGN_OR_RETURN(const xla::Shape rows, ctx->builder()->GetShape(buffer));
  row_shape->assign({1});
  row_shape->insert(row_shape->end(), shape.dimensions().begin(), shape.dimensions().end());
  if (!HasRows(rows, shape)) {
    return absl::InvalidArgumentError(absl::StrCat("the trace of ", name, " has shape ", rows.ToString(),
                                                   ", a step gave ", shape.ToString(),
                                                   "; every step must give the same shape"));
  }
  if (rows.dimensions(0) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("the trace of ", name, " has no row to write"));
  }
  return absl::OkStatus();
}

}  // namespace

xla::XlaOp RowIndex(XlaOpKernelContext* ctx, int input, int64_t offset) {
  const xla::XlaOp row = ctx->Input(input);
  return offset == 0 ? row : xla::Add(row, xla::ConstantR0<int32_t>(ctx->builder(), static_cast<int32_t>(offset)));
}

absl::StatusOr<xla::XlaOp> BufferForRows(XlaOpKernelContext* ctx, int input, xla::XlaOp value) {
  xla::XlaBuilder* const builder = ctx->builder();
  xla::XlaOp buffer = ctx->Input(input);
  TF_ASSIGN_OR_RETURN(const xla::Shape given, builder->GetShape(buffer));
  TF_ASSIGN_OR_RETURN(const xla::Shape row, builder->GetShape(value));
  if (given.dimensions().empty() || HasRows(given, row)) return buffer;
  std::vector<int64_t> dimensions(row.dimensions().begin(), row.dimensions().end());
  dimensions.insert(dimensions.begin(), given.dimensions(0));
  buffer = xla::Broadcast(xla::Zero(builder, given.element_type()), dimensions);
  for (int64_t d = 0; d < static_cast<int64_t>(row.dimensions().size()); ++d) {
    if (!row.is_dynamic_dimension(static_cast<int>(d))) continue;
    buffer = xla::SetDimensionSize(buffer, xla::GetDimensionSize(value, d), d + 1);
  }
  return buffer;
}

absl::Status WriteRow(XlaOpKernelContext* ctx, xla::XlaOp buffer, int output, xla::XlaOp value, xla::XlaOp row,
                      const std::string& name) {
  std::vector<int64_t> row_shape;
  TF_RETURN_IF_ERROR(RowShape(ctx, buffer, value, name, &row_shape));
  std::vector<xla::XlaOp> start(row_shape.size(), xla::ConstantR0<int32_t>(ctx->builder(), 0));
  start[0] = row;
  ctx->SetOutput(output, xla::DynamicUpdateSlice(buffer, xla::Reshape(value, row_shape), start));
  return absl::OkStatus();
}

absl::Status FillRows(XlaOpKernelContext* ctx, xla::XlaOp buffer, int output, xla::XlaOp value, xla::XlaOp row,
                      xla::XlaOp count, const std::string& name) {
  std::vector<int64_t> row_shape;
  TF_RETURN_IF_ERROR(RowShape(ctx, buffer, value, name, &row_shape));
  TF_ASSIGN_OR_RETURN(const xla::Shape shape, ctx->builder()->GetShape(buffer));
  const xla::XlaOp index =
      xla::Iota(ctx->builder(), xla::ShapeUtil::MakeShape(xla::S32, shape.dimensions()), /*iota_dimension=*/0);
  const xla::XlaOp inside = xla::And(xla::Ge(index, row), xla::Lt(index, xla::Add(row, count)));
  std::vector<int64_t> all_but_first(row_shape.size() - 1);
  std::iota(all_but_first.begin(), all_but_first.end(), 1);
  const xla::XlaOp rows = xla::BroadcastInDim(value, shape.dimensions(), all_but_first);
  ctx->SetOutput(output, xla::Select(inside, rows, buffer));
  return absl::OkStatus();
}

}  // namespace fusemin::hlo
