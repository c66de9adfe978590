// All rules, compiled for the CPU.
#ifndef FUSEMIN_KERNELS_CPU_REGISTRY_H_
#define FUSEMIN_KERNELS_CPU_REGISTRY_H_

#include <string_view>
#include <vector>

#include "backends/cpu/isa.h"
#include "backends/cpu/option_kernels.h"
#include "step/step.h"

namespace fusemin::cpu {

// The rules for an instruction set that `SupportedIsas` lists. What is returned
// lives as long as the program. Thread-safe.
std::vector<const Rule*> AllRules(Isa isa);

// The loops of the options, by DType.
const OptionKernels* FindOptionKernels(Isa isa);

// Null if there is no rule of that name.
const Rule* FindRule(Isa isa, std::string_view name);

}  // namespace fusemin::cpu

#endif  // FUSEMIN_KERNELS_CPU_REGISTRY_H_
