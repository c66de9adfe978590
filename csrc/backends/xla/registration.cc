#include "backends/xla/registration.h"

#include "tensorflow/compiler/tf2xla/xla_op_registry.h"

namespace fusemin::hlo {
namespace {

// Whether XLA has made its kernels for a device: of an op that every device of XLA has.
bool HasKernels(const char* device) {
  const tensorflow::KernelList kernels = tensorflow::GetRegisteredKernelsForOp("AddV2");
  for (const tensorflow::KernelDef& kernel : kernels.kernel()) {
    if (kernel.device_type() == device) return true;
  }
  return false;
}

}  // namespace

XlaKernel::XlaKernel(const char* op, CreateKernel create) {
  // What the macro REGISTER_XLA_OP does. Its object may go: the registry keeps what it needs.
  const tensorflow::XlaOpRegistrar registrar(
      tensorflow::XlaOpRegistrationBuilder::Name(op).AllowResourceTypes().Build(create));
  for (const char* device : {tensorflow::DEVICE_CPU_XLA_JIT, tensorflow::DEVICE_GPU_XLA_JIT}) {
    if (!HasKernels(device)) continue;
    auto* const definition = new tensorflow::KernelDef;  // The registrar takes it over.
    definition->set_op(op);
    definition->set_device_type(device);
    const tensorflow::kernel_factory::OpKernelRegistrar kernel(definition, op, create);
  }
}

}  // namespace fusemin::hlo
