// The CUDA kernels in the module `_core`.
#ifndef FUSEMIN_BINDINGS_CUDA_MODULE_H_
#define FUSEMIN_BINDINGS_CUDA_MODULE_H_

#include <pybind11/pybind11.h>

namespace fusemin {

// Adds the submodule `cuda`.
void BindCuda(pybind11::module_& m);

}  // namespace fusemin

#endif  // FUSEMIN_BINDINGS_CUDA_MODULE_H_
