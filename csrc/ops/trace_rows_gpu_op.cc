// TraceRows on a GPU.
#include <vector>

#include "backends/cuda/run.h"
#include "ops/gpu_device.h"
#include "ops/op_names.h"
#include "ops/trace_rows.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusemin {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

class TraceRowsGpuOp : public TraceRowsOp {
 public:
  using TraceRowsOp::TraceRowsOp;

 protected:
  absl::Status Copy(OpKernelContext* ctx, void* to, const void* from, size_t bytes) const override {
    return DriverStatus(name(), cuda::EnqueueCopies(StreamOf(ctx), {{to, from, bytes, 1}}));
  }

  absl::Status WriteRows(OpKernelContext* ctx, const std::vector<Rows>& rows) const override {
    std::vector<cuda::RowCopies> copies;
    copies.reserve(rows.size());
    for (const Rows& r : rows) {
      copies.push_back(
          {RowData(r.trace, r.row), r.value->data(), r.value->TotalBytes(), static_cast<uint64_t>(r.count)});
    }
    return DriverStatus(name(), cuda::EnqueueCopies(StreamOf(ctx), copies));
  }
};

// Not strings, which are in host memory.
REGISTER_KERNEL_BUILDER(Name(FUSEMIN_OPS "TraceRows")
                            .Device(FUSEMIN_GPU_DEVICE)
                            .HostMemory("row")
                            .HostMemory("count")
                            .TypeConstraint("types", {tensorflow::DT_HALF, tensorflow::DT_BFLOAT16,
                                                      tensorflow::DT_FLOAT, tensorflow::DT_DOUBLE, tensorflow::DT_BOOL,
                                                      tensorflow::DT_INT8, tensorflow::DT_INT16, tensorflow::DT_INT32,
                                                      tensorflow::DT_INT64, tensorflow::DT_UINT8, tensorflow::DT_UINT16,
                                                      tensorflow::DT_UINT32, tensorflow::DT_UINT64,
                                                      tensorflow::DT_COMPLEX64, tensorflow::DT_COMPLEX128}),
                        TraceRowsGpuOp);

}  // namespace
}  // namespace fusemin
