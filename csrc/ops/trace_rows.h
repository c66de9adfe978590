// TraceRows on any device: what is to be copied. A device copies.
#ifndef FUSEMIN_TENSORFLOW_TRACE_ROWS_H_
#define FUSEMIN_TENSORFLOW_TRACE_ROWS_H_

#include <string>
#include <vector>

#include "ops/trace_buffers.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusemin {

class TraceRowsOp : public tensorflow::OpKernel {
 public:
  explicit TraceRowsOp(tensorflow::OpKernelConstruction* ctx);
  void Compute(tensorflow::OpKernelContext* ctx) override;

 protected:
  // `value` goes into the rows [row, row + count) of `trace`, whose rows are of its shape.
  struct Rows {
    const tensorflow::Tensor* value;
    tensorflow::Tensor* trace;
    int64_t row, count;
  };

  // See CopyMemory.
  virtual absl::Status Copy(tensorflow::OpKernelContext* ctx, void* to, const void* from, size_t bytes) const = 0;
  virtual absl::Status WriteRows(tensorflow::OpKernelContext* ctx, const std::vector<Rows>& rows) const = 0;

 private:
  absl::Status Write(tensorflow::OpKernelContext* ctx) const;

  std::vector<std::string> names_;
  int64_t row_offset_ = 0;
};

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_TRACE_ROWS_H_
