// Streams and events of the stand-in driver. Everything is done at once, in the thread that asks for it, so a stream
// has nothing to wait for: what a missing synchronisation would break does not show here, only that there is one.
#include <chrono>
#include <utility>

#include "driver.h"

namespace {

// The default streams are small numbers.
bool IsDefault(CUstream stream) { return reinterpret_cast<size_t>(stream) < 16; }

bool IsCaptured(CUstream stream) { return !IsDefault(stream) && stream->capture != nullptr; }

}  // namespace

CUresult Enqueue(CUstream stream, std::function<CUresult()> piece) {
  if (!IsCaptured(stream)) return piece();
  stream->capture->push_back(std::move(piece));
  return CUDA_SUCCESS;
}

struct CUevent_st {
  double milliseconds;
};

extern "C" {

CUresult cuCtxSynchronize() {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) {
  CALL(0);
  *stream = new CUstream_st{CurrentContext(), nullptr};
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

CUresult cuStreamDestroy(CUstream stream) {
  CALL(0);
  delete stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  CALL(0);
  return IsCaptured(stream) ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  CALL(0);
  *context = IsDefault(stream) ? CurrentContext() : stream->context;
  return *context == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream, int* priority) {
  CALL(0);
  *priority = 0;
  return CUDA_SUCCESS;
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback function, void* data, unsigned) {
  CALL(0);
  function(stream, CUDA_SUCCESS, data);
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream, CUhostFn function, void* data) {
  CALL(0);
  function(data);
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  CALL(0);
  *event = new CUevent_st{0.0};
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  CALL(0);
  delete event;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream) {
  CALL(0);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  CALL(0);
  *milliseconds = static_cast<float>(end->milliseconds - begin->milliseconds);
  return CUDA_SUCCESS;
}

}  // extern "C"
