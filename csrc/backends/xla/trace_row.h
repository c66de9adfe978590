// Rows of trace buffers inside XLA.
#ifndef FUSEMIN_XLA_TRACE_ROW_H_
#define FUSEMIN_XLA_TRACE_ROW_H_

#include <string>

#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace fusemin::hlo {

// The scalar input `input`, plus `offset`.
xla::XlaOp RowIndex(tensorflow::XlaOpKernelContext* ctx, int input, int64_t offset);

// Sets output `output` to `buffer` with `value` for a row. In a loop XLA writes that in place. `name` is for the error
// of a value that has not the shape of a row. A row outside of the buffer cannot be known here.
absl::Status WriteRow(tensorflow::XlaOpKernelContext* ctx, xla::XlaOp buffer, int output, xla::XlaOp value,
                      xla::XlaOp row, const std::string& name);

// The buffer of input `input`, or, where it has rows of another shape than `value`, one of as many rows of that shape,
// zeros. The shape may be bounded by XLA and known only when the program runs. For the first row.
absl::StatusOr<xla::XlaOp> BufferForRows(tensorflow::XlaOpKernelContext* ctx, int input, xla::XlaOp value);

// WriteRow for the rows from `row` to `row + count`, which is a scalar known only when the program runs: a pass over
// the whole buffer.
absl::Status FillRows(tensorflow::XlaOpKernelContext* ctx, xla::XlaOp buffer, int output, xla::XlaOp value,
                      xla::XlaOp row, xla::XlaOp count, const std::string& name);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_TRACE_ROW_H_
