// Kernels of the stand-in driver: what is launched is counted by name, and given to the test if it comes of a fat
// binary, as fusemin's do and some of TensorFlow's. XLA's come of cubins or PTX, the rest of TensorFlow's through the
// runtime.
#include <cstdint>
#include <cstring>
#include <string>

#include "driver.h"
#include "memory.h"

struct CUmod_st {
  const void* fat_binary;  // Of others nullptr, as their image may be gone.
};

struct CUfunc_st {
  CUmodule module;
  std::string name;
};

extern "C" {

// Runs a kernel that it knows, with `parameters` as cuLaunchKernel has them, and returns a CUresult.
using Interpreter = int (*)(const char* kernel, const void* fat_binary, const unsigned* grid, const unsigned* block,
                            unsigned shared, void** parameters);
static Interpreter interpreter = nullptr;
// The bytes of the one parameter of a kernel that it knows, else 0.
using ParameterBytes = size_t (*)(const char* kernel, const void* fat_binary);
static ParameterBytes parameter_bytes = nullptr;
void stand_in_set_interpreter(Interpreter run, ParameterBytes bytes) {
  interpreter = run;
  parameter_bytes = bytes;
}

static CUresult Load(CUmodule* module, const void* image) {
  constexpr uint32_t kFatBinary = 0xBA55ED50;
  uint32_t begin = 0;
  memcpy(&begin, image, sizeof begin);
  *module = new CUmod_st{begin == kFatBinary ? image : nullptr};
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
  CALL(0);
  return Load(module, image);
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  CALL(0);
  return Load(module, image);
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  CALL(0);
  return Load(module, image);
}

CUresult cuModuleUnload(CUmodule) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  CALL(0);
  *function = new CUfunc_st{module, name};
  return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal(CUdeviceptr* address, size_t* size, CUmodule, const char*) {
  CALL(0);
  constexpr size_t kSize = 1 << 16;
  if (size != nullptr) *size = kSize;
  *address = AllocateOnDevice(CurrentDevice() < 0 ? 0 : CurrentDevice(), kSize);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction) {
  CALL(0);
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
           : attribute == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 32
                                                                : 0;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule* module, CUfunction function) {
  CALL(0);
  *module = function->module;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char** name, CUfunction) {
  CALL(0);
  // May be one of the runtime's, which is none of ours.
  *name = "a kernel";
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int, size_t) {
  CALL(0);
  *blocks = 2;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction, int, size_t, unsigned) {
  CALL(0);
  *blocks = 2;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction, CUoccupancyB2DSize, size_t, int) {
  CALL(0);
  *grid = 264;
  *block = 256;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream stream, void** parameters, void**) {
  CALL(0);
  const void* image = function->module->fat_binary;
  const size_t bytes = image == nullptr || interpreter == nullptr ? 0 : parameter_bytes(function->name.c_str(), image);
  // A graph has its own copy.
  const char* begin = bytes == 0 ? nullptr : static_cast<const char*>(parameters[0]);
  std::string kept(begin == nullptr ? "" : std::string(begin, bytes));
  return Enqueue(stream, [=]() mutable {
    stand_in_count(("kernel " + function->name).c_str(), 0);
    if (bytes == 0) return CUDA_SUCCESS;
    const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
    void* argument = kept.data();
    return static_cast<CUresult>(interpreter(function->name.c_str(), image, grid, block, shared, &argument));
  });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  return cuLaunchKernel(function, config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                        config->blockDimY, config->blockDimZ, config->sharedMemBytes, config->hStream, parameters,
                        extra);
}

}  // extern "C"
