// The compiled kernels that are embedded in the library, and their functions on a device.
#ifndef FUSEMIN_KERNELS_CUDA_KERNELS_H_
#define FUSEMIN_KERNELS_CUDA_KERNELS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/driver.h"
#include "step/step.h"

namespace fusemin::cuda {

// What was compiled from one .cu file: the rules of a header, or the kernels of no rule.
struct Unit {
  const char* name;
  // A fat binary of PTX and machine code, compressed. The driver chooses what runs on a device, and compiles PTX.
  const unsigned char *image, *image_end;
  // In the order of their kernels, which are called NAME_INDEX_DTYPE_plain and NAME_INDEX_DTYPE_options. Their
  // `kernels`, which are for the CPU, are null.
  const Rule* rules;
  int num_rules;
};

// All of them; the unit "common" has no rules. Thread-safe, as are the functions below.
FUSEMIN_CUDA_API const std::vector<Unit>& Units();

// Null if there is no rule of that name.
FUSEMIN_CUDA_API const Rule* FindRule(std::string_view name);

// A kernel on a device.
struct Kernel {
  std::string name;
  Function function;
  // Blocks of `kThreads` that the device runs at once: more would wait for them.
  unsigned resident_blocks;
};

// Finds the kernel of a rule, or, if `rule` is null, one of the unit "common": then `variant` is its name without
// the dtype. Loads the unit at first use. Returns an error, or "". The context must be current.
std::string FindKernel(const DriverTable& driver, Context context, const Rule* rule, const std::string& variant,
                       Kernel* kernel);

// Forgets what was loaded, which another driver does not know.
void ForgetKernels();

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_KERNELS_H_
