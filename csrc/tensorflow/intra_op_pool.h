// TensorFlow's intra-op pool as the kernels' `ParallelFor`.
#ifndef FUSEMIN_TENSORFLOW_INTRA_OP_POOL_H_
#define FUSEMIN_TENSORFLOW_INTRA_OP_POOL_H_

#include "kernels/cpu/run.h"
#include "tensorflow/core/framework/device_base.h"

namespace fusemin {

// Has a function called by some thread, some time.
using Schedule = std::function<void(std::function<void()>)>;

// Tasks on any pool. The calling thread takes part, and takes over every task that no worker has begun: a call returns
// even if all workers are blocked, so it may be made from a worker.
cpu::ParallelFor OnPool(Schedule schedule);

// The pool of a device. `workers` must outlive what is returned.
cpu::ParallelFor IntraOpPool(const tensorflow::DeviceBase::CpuWorkerThreads& workers);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_INTRA_OP_POOL_H_
