// Registration of the ops' kernels inside XLA, at whatever time this library is loaded.
#ifndef FUSEMIN_XLA_REGISTRATION_H_
#define FUSEMIN_XLA_REGISTRATION_H_

#include "tensorflow/core/framework/op_kernel.h"

namespace fusemin::hlo {

using CreateKernel = tensorflow::OpKernel* (*)(tensorflow::OpKernelConstruction*);

// For static objects. TensorFlow makes kernels of all that REGISTER_XLA_OP has listed when a process compiles for the
// first time, and then never looks again. A library that is loaded later must add its kernels itself.
class XlaKernel {
 public:
  XlaKernel(const char* op, CreateKernel create);
};

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_REGISTRATION_H_
