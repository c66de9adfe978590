// Apart from kernel_call.h, whose headers of XLA the handler does without.
#ifndef FUSEMIN_XLA_KERNEL_CALL_NAME_H_
#define FUSEMIN_XLA_KERNEL_CALL_NAME_H_

namespace fusemin::hlo {

// The name under which XLA finds the handler.
constexpr char kKernelCall[] = "fusemin_step";

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_KERNEL_CALL_NAME_H_
