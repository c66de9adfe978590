#include "ops/trace_buffers.h"

#include <cstring>
#include <limits>

#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor_util.h"

namespace fusemin {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

absl::Status CopyHostMemory(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return absl::OkStatus();
}

absl::Status ForwardBuffer(OpKernelContext* ctx, int input, int output, CopyMemory copy, Tensor** trace) {
  const TensorShape shape = ctx->input(input).shape();
  if (ctx->forward_input_to_output_with_shape(input, output, shape, trace)) return absl::OkStatus();
  TF_RETURN_IF_ERROR(ctx->allocate_output(output, shape, trace));
  const Tensor& old = ctx->input(input);
  if (old.dtype() == tensorflow::DT_STRING) {
    (*trace)->flat<tensorflow::tstring>() = old.flat<tensorflow::tstring>();
  } else if (old.TotalBytes() > 0) {
    return copy((*trace)->data(), old.data(), old.TotalBytes());
  }
  return absl::OkStatus();
}

absl::Status CheckRow(const Tensor& buffer, const Tensor& value, int64_t row, int64_t count,
                      absl::FunctionRef<std::string()> name) {
  TensorShape row_shape = buffer.shape();
  if (buffer.dims() >= 1) row_shape.RemoveDim(0);
  if (buffer.dims() < 1 || row_shape != value.shape()) {
    return absl::InvalidArgumentError(absl::StrCat("the trace of ", name(), " has shape ", buffer.shape().DebugString(),
                                                   ", a step gave ", value.shape().DebugString(),
                                                   "; every step must give the same shape"));
  }
  if (row < 0 || count < 0 || row > buffer.dim_size(0) - count) {
    return absl::InvalidArgumentError(absl::StrCat("rows ", row, " to ", row + count - 1, " of the trace of ", name(),
                                                   " are outside its ", buffer.dim_size(0), " rows"));
  }
  return absl::OkStatus();
}

absl::Status CheckRowOffset(int64_t offset) {
  if (offset >= 0 && offset <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("`row_offset` must be an int32 that is not negative, it is ", offset));
}

void* RowData(Tensor* buffer, int64_t row) {
  const int64_t rows = buffer->dim_size(0);
  return static_cast<char*>(buffer->data()) + (rows == 0 ? 0 : buffer->TotalBytes() / rows * row);
}

}  // namespace fusemin
