#include "backends/cuda/driver.h"

#include <dlfcn.h>

#include <atomic>
#include <type_traits>

#include "backends/cuda/kernels.h"

namespace fusemin::cuda {
namespace {

constexpr char kLibrary[] = "libcuda.so.1";
constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;

struct Opened {
  DriverTable table{};
  std::string error;
};

// The names of some functions in the library carry the version of their signature.
Opened Open() {
  Opened opened;
  // Never closed: the driver has threads of its own.
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    opened.error = std::string("there is no NVIDIA driver: ") + dlerror();
    return opened;
  }
  const auto find = [&](auto* function, const char* name) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
    if (*function == nullptr)
      opened.error = std::string(kLibrary) + " has no " + name + ": the NVIDIA driver is too old";
  };
  DriverTable& t = opened.table;
  find(&t.cuInit, "cuInit");
  find(&t.cuDriverGetVersion, "cuDriverGetVersion");
  find(&t.cuGetErrorName, "cuGetErrorName");
  find(&t.cuGetErrorString, "cuGetErrorString");
  find(&t.cuStreamGetCtx, "cuStreamGetCtx");
  find(&t.cuCtxPushCurrent, "cuCtxPushCurrent_v2");
  find(&t.cuCtxPopCurrent, "cuCtxPopCurrent_v2");
  find(&t.cuCtxGetDevice, "cuCtxGetDevice");
  find(&t.cuDeviceGetName, "cuDeviceGetName");
  find(&t.cuDeviceGetAttribute, "cuDeviceGetAttribute");
  find(&t.cuModuleLoadDataEx, "cuModuleLoadDataEx");
  find(&t.cuModuleGetFunction, "cuModuleGetFunction");
  find(&t.cuOccupancyMaxActiveBlocksPerMultiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
  find(&t.cuLaunchKernel, "cuLaunchKernel");
  find(&t.cuMemsetD8Async, "cuMemsetD8Async");
  if (opened.error.empty()) {
    const Result result = t.cuInit(0);
    if (result != 0) opened.error = DescribeError(t, result, "cuInit");
  }
  return opened;
}

std::atomic<const DriverTable*> replacement{nullptr};

}  // namespace

const DriverTable* Driver(std::string* error) {
  if (const DriverTable* table = replacement.load()) return table;
  static const Opened& opened = *new Opened(Open());
  *error = opened.error;
  return opened.error.empty() ? &opened.table : nullptr;
}

extern "C" void fusemin_cuda_set_driver(const DriverTable* table) {
  ForgetKernels();
  replacement.store(table);
}

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string DescribeError(const DriverTable& driver, Result result, const std::string& what) {
  const char *name = nullptr, *text = nullptr;
  driver.cuGetErrorName(result, &name);
  driver.cuGetErrorString(result, &text);
  std::string error = what + " failed: " + (name != nullptr ? name : "error " + std::to_string(result));
  if (text != nullptr) error += std::string(" (") + text + ")";
  Device device;
  if (driver.cuCtxGetDevice(&device) == 0) {
    char device_name[128] = "";
    int major = 0, minor = 0;
    driver.cuDeviceGetName(device_name, sizeof device_name, device);
    driver.cuDeviceGetAttribute(&major, kComputeCapabilityMajor, device);
    driver.cuDeviceGetAttribute(&minor, kComputeCapabilityMinor, device);
    error += ", on device " + std::to_string(device) + " (" + device_name + ", compute capability " +
             std::to_string(major) + "." + std::to_string(minor) + ")";
  }
  int version = 0;
  if (driver.cuDriverGetVersion(&version) == 0) {
    error += ", with a driver for CUDA " + VersionText(version);
  }
  return error;
}

CurrentContext::CurrentContext(const DriverTable& driver, Stream stream) : driver_(driver) {
  Result result = driver.cuStreamGetCtx(stream, &context_);
  if (result != 0) {
    error_ = DescribeError(driver, result, "cuStreamGetCtx");
    return;
  }
  result = driver.cuCtxPushCurrent(context_);
  if (result != 0) error_ = DescribeError(driver, result, "cuCtxPushCurrent");
}

CurrentContext::~CurrentContext() {
  Context popped;
  if (error_.empty()) driver_.cuCtxPopCurrent(&popped);
}

}  // namespace fusemin::cuda
