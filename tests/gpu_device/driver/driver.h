// What the files of the stand-in driver share: contexts and streams.
#ifndef FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_
#define FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_

#include "calls.h"
#include "third_party/gpus/cuda/include/cuda.h"

#define CALL(bytes) STAND_IN_CALL(CUresult, bytes)

// A whole number in the environment.
int Setting(const char* name, int otherwise);
// What the devices claim: 90 for 9.0.
inline int Capability() { return Setting("STAND_IN_CAPABILITY", 90); }

// The device of the context that is current for this thread, or -1.
int CurrentDevice();
CUcontext ContextOf(int device);
CUcontext CurrentContext();

#endif  // FUSEMIN_TESTS_GPU_DEVICE_DRIVER_H_
