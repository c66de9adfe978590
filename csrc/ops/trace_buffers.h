// Trace buffers of the op kernels: the tensors [num_steps, ...] that the loop carries.
#ifndef FUSEMIN_TENSORFLOW_TRACE_BUFFERS_H_
#define FUSEMIN_TENSORFLOW_TRACE_BUFFERS_H_

#include "absl/functional/function_ref.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusemin {

// Copies memory of the device that the op runs on.
using CopyMemory = absl::FunctionRef<absl::Status(void* to, const void* from, size_t bytes)>;
absl::Status CopyHostMemory(void* to, const void* from, size_t bytes);

// Makes output `output` the buffer that came as input `input`: the same memory
// if no one else holds a reference to it, else a copy, made by `copy`. On return
// `*trace` is the output, owned by the context. Call it in `Compute` only, and
// last among what can fail, since the input cannot be read afterwards.
absl::Status ForwardBuffer(tensorflow::OpKernelContext* ctx, int input, int output, CopyMemory copy,
                           tensorflow::Tensor** trace);

// Whether `row` .. `row + count` lies in the buffer and a row has the shape of
// the value; `name` gives the name of the trace for the error.
absl::Status CheckRow(const tensorflow::Tensor& buffer, const tensorflow::Tensor& value, int64_t row, int64_t count,
                      absl::FunctionRef<std::string()> name);

// More rows than an int32 can count there are not, and sums with the attribute `row_offset` must not overflow.
absl::Status CheckRowOffset(int64_t offset);

// The memory of a row. The buffer's type can be copied as memory.
void* RowData(tensorflow::Tensor* buffer, int64_t row);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_TRACE_BUFFERS_H_
