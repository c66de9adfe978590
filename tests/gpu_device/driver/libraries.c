// The functions that TensorFlow calls of cuBLAS, cuDNN and NVML when it starts on a device, under the names of all the
// libraries that it opens. None computes anything.
#include <stddef.h>
#include <stdio.h>

static int create(void** handle) {
  static int nothing;
  *handle = &nothing;
  return 0;
}

int cublasCreate_v2(void** handle) { return create(handle); }
int cublasDestroy_v2(void* handle) { return 0; }
int cublasSetStream_v2(void* handle, void* stream) { return 0; }
int cublasSetMathMode(void* handle, int mode) { return 0; }
int cublasSetPointerMode_v2(void* handle, int mode) { return 0; }
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t size) { return 0; }
int cublasGetVersion_v2(void* handle, int* version) {
  *version = 120503;
  return 0;
}
int cublasGetProperty(int which, int* value) {
  *value = which == 0 ? 12 : 5;
  return 0;
}
const char* cublasGetStatusString(int status) { return "a status of the stand-in library"; }

int cublasLtCreate(void** handle) { return create(handle); }
int cublasLtDestroy(void* handle) { return 0; }
size_t cublasLtGetVersion(void) { return 120503; }

int cudnnCreate(void** handle) { return create(handle); }
int cudnnDestroy(void* handle) { return 0; }
int cudnnSetStream(void* handle, void* stream) { return 0; }
size_t cudnnGetVersion(void) { return 90300; }
size_t cudnnGetCudartVersion(void) { return 12050; }
int cudnnGetProperty(int which, int* value) {
  *value = which == 0 ? 9 : which == 1 ? 3 : 0;
  return 0;
}
const char* cudnnGetErrorString(int status) { return "a status of the stand-in library"; }
void cudnnGetLastErrorString(char* text, size_t size) {
  if (size > 0) text[0] = 0;
}

int nvmlInit_v2(void) { return 0; }
int nvmlInit(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int result) { return "a result of the stand-in library"; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  snprintf(text, size, "570.0");
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 1;
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) { return create(device); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) { return create(device); }
int nvmlDeviceGetIndex(void* device, unsigned* index) {
  *index = 0;
  return 0;
}
