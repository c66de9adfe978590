// libcudart on the stand-in driver. TensorFlow's own kernels go through it: they are counted by name and not run, so
// what they would have written is what was there before.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "driver.h"
#include "third_party/gpus/cuda/include/cuda_runtime_api.h"

#define RUNTIME_CALL(bytes) STAND_IN_CALL(cudaError_t, bytes)

namespace {

struct Kernels {
  std::mutex mutex;
  std::map<const void*, std::string> names;
};

Kernels& Registered() {
  static Kernels& kernels = *new Kernels();
  return kernels;
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};

thread_local Configuration configuration;
thread_local int current = 0;

std::string Readable(const std::string& mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  const std::string readable = text == nullptr ? mangled : text;
  free(text);
  return readable.substr(0, 120);
}

}  // namespace

extern "C" {

// What nvcc puts into a program.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*, int*) {
  const std::lock_guard<std::mutex> lock(Registered().mutex);
  Registered().names[host] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  memcpy(stream, &configuration.stream, sizeof configuration.stream);
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, size_t, cudaStream_t) {
  RUNTIME_CALL(0);
  std::string name;
  {
    const std::lock_guard<std::mutex> lock(Registered().mutex);
    name = Registered().names[function];
  }
  stand_in_count(("kernel " + Readable(name)).c_str(), 0);
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** parameters) {
  return cudaLaunchKernel(function, config->gridDim, config->blockDim, parameters, 0, config->stream);
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* symbol) {
  RUNTIME_CALL(0);
  CUmodule module;
  CUfunction found;
  const char none[4] = "";
  std::string name;
  {
    const std::lock_guard<std::mutex> lock(Registered().mutex);
    name = Registered().names[symbol];
  }
  cuModuleLoadData(&module, none);
  cuModuleGetFunction(&found, module, Readable(name).c_str());
  *function = reinterpret_cast<cudaFunction_t>(found);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  current = device;
  return static_cast<cudaError_t>(cuCtxSetCurrent(ContextOf(device)));
}

cudaError_t cudaGetDeviceCount(int* count) { return static_cast<cudaError_t>(cuDeviceGetCount(count)); }
cudaError_t cudaDriverGetVersion(int* version) { return static_cast<cudaError_t>(cuDriverGetVersion(version)); }
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 12050;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the stand-in runtime"; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorOfStandIn"; }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  // The numbers of both lists are the same.
  return static_cast<cudaError_t>(cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), device));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  RUNTIME_CALL(0);
  const auto attribute = [&](CUdevice_attribute which) {
    int value = 0;
    cuDeviceGetAttribute(&value, which, device);
    return value;
  };
  memset(properties, 0, sizeof *properties);
  cuDeviceGetName(properties->name, sizeof properties->name, device);
  cuDeviceTotalMem(&properties->totalGlobalMem, device);
  properties->major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  properties->minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  properties->warpSize = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
  properties->sharedMemPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
  properties->sharedMemPerBlockOptin = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  properties->sharedMemPerMultiprocessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
  properties->regsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
  properties->regsPerMultiprocessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
  properties->maxThreadsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  properties->maxThreadsPerMultiProcessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X);
  properties->maxThreadsDim[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z);
  properties->maxGridSize[0] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
  properties->maxGridSize[1] = properties->maxGridSize[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y);
  properties->multiProcessorCount = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  properties->l2CacheSize = attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  properties->memoryBusWidth = attribute(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  properties->unifiedAddressing = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return static_cast<cudaError_t>(cuCtxGetStreamPriorityRange(least, greatest));
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  return static_cast<cudaError_t>(cuDeviceGetPCIBusId(text, size, device));
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  RUNTIME_CALL(0);
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = Capability();
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  RUNTIME_CALL(0);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  RUNTIME_CALL(0);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t size) {
  CUdeviceptr address = 0;
  const CUresult result = cuMemAlloc(&address, size);
  *memory = reinterpret_cast<void*>(address);
  return static_cast<cudaError_t>(result);
}

cudaError_t cudaFree(void* memory) {
  return static_cast<cudaError_t>(cuMemFree(reinterpret_cast<CUdeviceptr>(memory)));
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  return static_cast<cudaError_t>(cuMemGetInfo(free_bytes, total));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  return static_cast<cudaError_t>(
      cuMemcpy(reinterpret_cast<CUdeviceptr>(to), reinterpret_cast<CUdeviceptr>(from), size));
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  return static_cast<cudaError_t>(
      cuMemcpyAsync(reinterpret_cast<CUdeviceptr>(to), reinterpret_cast<CUdeviceptr>(from), size, nullptr));
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t size, cudaStream_t) {
  return static_cast<cudaError_t>(
      cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(to), static_cast<unsigned char>(byte), size, nullptr));
}

}  // extern "C"
