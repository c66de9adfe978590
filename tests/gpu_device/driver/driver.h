// What the files of the stand-in driver share: contexts and streams.
#ifndef FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_
#define FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_

#include <functional>
#include <memory>
#include <vector>

#include "calls.h"
#include "third_party/gpus/cuda/include/cuda.h"

#define CALL(bytes) STAND_IN_CALL(CUresult, bytes)

// A whole number in the environment.
int Setting(const char* name, int otherwise);
// Work of a stream, which a graph may do again.
using Work = std::vector<std::function<CUresult()>>;

struct CUstream_st {
  CUcontext context;
  // What is enqueued while the stream is captured.
  std::unique_ptr<Work> capture;
};

// Does a piece of work of a stream now, or keeps it for the graph that the stream is captured in.
CUresult Enqueue(CUstream stream, std::function<CUresult()> piece);

// What the devices claim: 90 for 9.0.
inline int Capability() { return Setting("STAND_IN_CAPABILITY", 90); }

// The device of the context that is current for this thread, or -1.
int CurrentDevice();
CUcontext ContextOf(int device);
CUcontext CurrentContext();

#endif  // FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_
