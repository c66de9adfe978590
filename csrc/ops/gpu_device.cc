#include "ops/gpu_device.h"

#include "tensorflow/core/framework/device_base.h"
#include "xla/stream_executor/stream.h"

namespace fusemin {

cuda::Stream StreamOf(tensorflow::OpKernelContext* ctx) {
  const auto* device = ctx->op_device_context();
  // The CPU has no streams; a test's driver needs none.
  if (device == nullptr || device->stream() == nullptr) return nullptr;
  return static_cast<cuda::Stream>(device->stream()->platform_specific_handle().stream);
}

absl::Status DriverStatus(const std::string& name, const std::string& error) {
  if (error.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(name, ": ", error));
}

}  // namespace fusemin
