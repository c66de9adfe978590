// TraceRows on the CPU.
#include <cstring>

#include "ops/op_names.h"
#include "ops/trace_rows.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusemin {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::tstring;

class TraceRowsCpuOp : public TraceRowsOp {
 public:
  using TraceRowsOp::TraceRowsOp;

 protected:
  absl::Status Copy(OpKernelContext*, void* to, const void* from, size_t bytes) const override {
    return CopyHostMemory(to, from, bytes);
  }

  absl::Status WriteRows(OpKernelContext*, const std::vector<Rows>& rows) const override {
    for (const Rows& r : rows) Write(r);
    return absl::OkStatus();
  }

 private:
  static void Write(const Rows& rows) {
    const auto& value = *rows.value;
    if (value.dtype() == tensorflow::DT_STRING) {
      const auto from = value.flat<tstring>();
      auto to = rows.trace->flat<tstring>();
      for (int64_t r = rows.row; r < rows.row + rows.count; ++r) {
        for (int64_t i = 0; i < from.size(); ++i) to(r * from.size() + i) = from(i);
      }
      return;
    }
    if (value.TotalBytes() == 0) return;
    for (int64_t r = rows.row; r < rows.row + rows.count; ++r) {
      std::memcpy(RowData(rows.trace, r), value.data(), value.TotalBytes());
    }
  }
};

REGISTER_KERNEL_BUILDER(Name(FUSEMIN_OPS "TraceRows").Device(tensorflow::DEVICE_CPU), TraceRowsCpuOp);

}  // namespace
}  // namespace fusemin
