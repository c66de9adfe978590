// The CUDA driver, opened at first use: nothing is linked, so the library loads where there is no driver.
#ifndef FUSEMIN_KERNELS_CUDA_DRIVER_H_
#define FUSEMIN_KERNELS_CUDA_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#define FUSEMIN_CUDA_API __attribute__((visibility("default")))

namespace fusemin::cuda {

// The driver's types, as its ABI has them. A device address is a `uint64_t`.
using Result = int;
using Device = int;
using Context = struct OpaqueContext*;
using Module = struct OpaqueModule*;
using Function = struct OpaqueFunction*;
using Stream = struct OpaqueStream*;

// All that is called of the driver, by the names of cuda.h. Tests put their own in its place.
struct DriverTable {
  Result (*cuInit)(unsigned flags);
  Result (*cuDriverGetVersion)(int* version);
  Result (*cuGetErrorName)(Result result, const char** text);
  Result (*cuGetErrorString)(Result result, const char** text);
  Result (*cuStreamGetCtx)(Stream stream, Context* context);
  Result (*cuCtxPushCurrent)(Context context);
  Result (*cuCtxPopCurrent)(Context* context);
  Result (*cuCtxGetDevice)(Device* device);
  Result (*cuDeviceGetName)(char* name, int length, Device device);
  Result (*cuDeviceGetAttribute)(int* value, int attribute, Device device);
  Result (*cuModuleLoadDataEx)(Module* module, const void* image, unsigned num_options, int* options, void** values);
  Result (*cuModuleGetFunction)(Function* function, Module module, const char* name);
  Result (*cuOccupancyMaxActiveBlocksPerMultiprocessor)(int* num_blocks, Function function, int block_size,
                                                        size_t shared_bytes);
  Result (*cuLaunchKernel)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                           unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters,
                           void** extra);
  Result (*cuMemsetD8Async)(uint64_t address, unsigned char value, size_t bytes, Stream stream);
};

// Null, and why, if there is no driver or it does not start. Thread-safe.
FUSEMIN_CUDA_API const DriverTable* Driver(std::string* error);

// Puts a driver in place of the machine's, which null brings back. The table must stay. While a step is being enqueued
// by another thread it must not be called.
extern "C" FUSEMIN_CUDA_API void fusemin_cuda_set_driver(const DriverTable* table);

// A version as cuDriverGetVersion says it, as people do: 12.4.
std::string VersionText(int version);

// What failed, as an error for the user: with the driver's words, the device and the driver's version. `what` is a
// function of the table, and what it was called for. The context of the device must be current.
std::string DescribeError(const DriverTable& driver, Result result, const std::string& what);

// Makes the context of a stream current as long as it lives.
class FUSEMIN_CUDA_API CurrentContext {
 public:
  CurrentContext(const DriverTable& driver, Stream stream);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

  // Empty if it is current.
  const std::string& error() const { return error_; }
  Context get() const { return context_; }

 private:
  const DriverTable& driver_;
  Context context_ = nullptr;
  std::string error_;
};

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_DRIVER_H_
