// Memory of the stand-in driver: allocations, copies and fills.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "memory.h"

namespace {

enum class Side { kHost, kDevice, kEither };

// The memory itself of [address, +size), or nullptr if it is not on the side where it should be.
char* Find(Side side, uint64_t address, size_t size) {
  char* device = stand_in_view(address, size);
  if (side == Side::kDevice || (side == Side::kEither && device != nullptr)) return device;
  return device == nullptr ? reinterpret_cast<char*>(address) : nullptr;
}

CUresult Wrong(const char* what) {
  fprintf(stderr, "stand-in driver: %s of memory that is not where it should be\n", what);
  stand_in_count("wrong memory", 0);
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult Copy(Side to_side, uint64_t to, Side from_side, uint64_t from, size_t size) {
  if (size == 0) return CUDA_SUCCESS;
  char* target = Find(to_side, to, size);
  const char* source = Find(from_side, from, size);
  if (target == nullptr || source == nullptr) return Wrong("a copy");
  memmove(target, source, size);
  return CUDA_SUCCESS;
}

template <typename Word>
CUresult Fill(uint64_t to, Word word, size_t count) {
  if (count == 0) return CUDA_SUCCESS;
  char* target = Find(Side::kDevice, to, count * sizeof word);
  if (target == nullptr) return Wrong("a fill");
  for (size_t i = 0; i < count; ++i) memcpy(target + i * sizeof word, &word, sizeof word);
  return CUDA_SUCCESS;
}

uint64_t Address(const void* memory) { return reinterpret_cast<uint64_t>(memory); }

CUresult AllocateHost(void** memory, size_t size) {
  return posix_memalign(memory, 4096, size == 0 ? 1 : size) == 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace

extern "C" {

CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
  CALL(size);
  if (CurrentDevice() < 0) return CUDA_ERROR_INVALID_CONTEXT;
  *address = AllocateOnDevice(CurrentDevice(), size);
  return *address == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
  CALL(0);
  return address == 0 || FreeOnDevice(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAllocHost(void** memory, size_t size) {
  CALL(size);
  return AllocateHost(memory, size);
}

CUresult cuMemHostAlloc(void** memory, size_t size, unsigned) {
  CALL(size);
  return AllocateHost(memory, size);
}

CUresult cuMemFreeHost(void* memory) {
  CALL(0);
  free(memory);
  return CUDA_SUCCESS;
}

CUresult cuMemHostRegister(void*, size_t size, unsigned) {
  CALL(size);
  return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void*) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* memory, unsigned) {
  CALL(0);
  *address = Address(memory);
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t* free_bytes, size_t* total) {
  CALL(0);
  *free_bytes = FreeBytes(CurrentDevice() < 0 ? 0 : CurrentDevice());
  *total = kDeviceBytes;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange(CUdeviceptr* begin, size_t* size, CUdeviceptr address) {
  CALL(0);
  uint64_t found = 0;
  size_t bytes = 0;
  int device = 0;
  if (!FindAllocation(address, &found, &bytes, &device)) return CUDA_ERROR_NOT_FOUND;
  if (begin != nullptr) *begin = found;
  if (size != nullptr) *size = bytes;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  CALL(0);
  uint64_t begin = 0;
  size_t size = 0;
  int device = 0;
  if (!FindAllocation(address, &begin, &size, &device)) return CUDA_ERROR_INVALID_VALUE;
  if (attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
    *static_cast<unsigned*>(value) = CU_MEMORYTYPE_DEVICE;
  } else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
    *static_cast<int*>(value) = device;
  } else {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t size) {
  CALL(size);
  return Copy(Side::kDevice, to, Side::kHost, Address(from), size);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream) {
  CALL(size);
  return Copy(Side::kDevice, to, Side::kHost, Address(from), size);
}

CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t size) {
  CALL(size);
  return Copy(Side::kHost, Address(to), Side::kDevice, from, size);
}

CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream) {
  CALL(size);
  return Copy(Side::kHost, Address(to), Side::kDevice, from, size);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t size) {
  CALL(size);
  return Copy(Side::kDevice, to, Side::kDevice, from, size);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  CALL(size);
  return Enqueue(stream, [=] { return Copy(Side::kDevice, to, Side::kDevice, from, size); });
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size) {
  CALL(size);
  return Copy(Side::kEither, to, Side::kEither, from, size);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
  CALL(size);
  return Copy(Side::kEither, to, Side::kEither, from, size);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t size, CUstream) {
  CALL(size);
  return Copy(Side::kDevice, to, Side::kDevice, from, size);
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char word, size_t count) {
  CALL(count);
  return Fill(to, word, count);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char word, size_t count, CUstream stream) {
  CALL(count);
  return Enqueue(stream, [=] { return Fill(to, word, count); });
}

CUresult cuMemsetD32(CUdeviceptr to, unsigned word, size_t count) {
  CALL(count * sizeof word);
  return Fill(to, word, count);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned word, size_t count, CUstream stream) {
  CALL(count * sizeof word);
  return Enqueue(stream, [=] { return Fill(to, word, count); });
}

CUresult cuMemPoolDestroy(CUmemoryPool) {
  CALL(0);
  return CUDA_SUCCESS;
}

}  // extern "C"
