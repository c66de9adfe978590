// TraceRows inside XLA.
#include "backends/xla/registration.h"
#include "backends/xla/trace_row.h"
#include "ops/trace_buffers.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace fusemin::hlo {
namespace {

class TraceRowsOp : public tensorflow::XlaOpKernel {
 public:
  explicit TraceRowsOp(tensorflow::OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("names", &names_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_offset", &row_offset_));
    std::vector<tensorflow::DataType> types;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("types", &types));
    OP_REQUIRES(ctx, names_.size() == types.size(), absl::InvalidArgumentError("`names` must name every trace"));
    OP_REQUIRES_OK(ctx, CheckRowOffset(row_offset_));
  }

  void Compile(tensorflow::XlaOpKernelContext* ctx) override {
    // Known in the body of the loop, not where the rest of a trace is filled after it.
    int64_t known = 0;
    const bool one_row = ctx->ConstantInputAsIntScalar(1, &known).ok() && known == 1;
    // Not in the body of a loop, whose buffers keep their shape.
    int64_t first = 0;
    const bool is_first = ctx->ConstantInputAsIntScalar(0, &first).ok() && first + row_offset_ == 0;
    const int n = static_cast<int>(names_.size());
    const xla::XlaOp row = RowIndex(ctx, 0, row_offset_);
    for (int i = 0; i < n; ++i) {
      if (one_row) {
        const absl::StatusOr<xla::XlaOp> buffer =
            is_first ? BufferForRows(ctx, 2 + n + i, ctx->Input(2 + i)) : ctx->Input(2 + n + i);
        OP_REQUIRES_OK(ctx, buffer.status());
        OP_REQUIRES_OK(ctx, WriteRow(ctx, *buffer, i, ctx->Input(2 + i), row, names_[i]));
      } else {
        OP_REQUIRES_OK(ctx, FillRows(ctx, ctx->Input(2 + n + i), i, ctx->Input(2 + i), row, ctx->Input(1), names_[i]));
      }
    }
  }

 private:
  std::vector<std::string> names_;
  int64_t row_offset_ = 0;
};

const XlaKernel rows_kernel("Fusemin>TraceRows", [](tensorflow::OpKernelConstruction* ctx) -> tensorflow::OpKernel* {
  return new TraceRowsOp(ctx);
});

}  // namespace
}  // namespace fusemin::hlo
