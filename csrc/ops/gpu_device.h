// The device of the GPU kernels: its name, and TensorFlow's stream.
#ifndef FUSEMIN_TENSORFLOW_GPU_DEVICE_H_
#define FUSEMIN_TENSORFLOW_GPU_DEVICE_H_

#include <string>
#include <vector>

#include "backends/cuda/run.h"
#include "tensorflow/core/framework/op_kernel.h"

// Tests compile the kernels of the GPU once more, for the CPU and a driver of their own.
#ifndef FUSEMIN_GPU_DEVICE
#define FUSEMIN_GPU_DEVICE ::tensorflow::DEVICE_GPU
#endif

namespace fusemin {

// The stream on which the device runs its ops, in the order in which they are computed.
cuda::Stream StreamOf(tensorflow::OpKernelContext* ctx);

// An error of the driver as one of the op `name`; OK of "".
absl::Status DriverStatus(const std::string& name, const std::string& error);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_GPU_DEVICE_H_
