// The instruction sets that the CPU kernels are compiled for, and the choice of one.
#ifndef FUSEMIN_KERNELS_CPU_ISA_H_
#define FUSEMIN_KERNELS_CPU_ISA_H_

#include <string>
#include <vector>

// X(name, enumerator) for each that this machine's build has; as in cmake/Kernels.cmake.
#if defined(__x86_64__)
#define FUSEMIN_FOR_EACH_ISA(X) X(baseline, kBaseline) X(avx2, kAvx2) X(avx512, kAvx512)
#else
#define FUSEMIN_FOR_EACH_ISA(X) X(baseline, kBaseline)
#endif

namespace fusemin::cpu {

// From the narrowest to the widest.
enum class Isa { kBaseline, kAvx2, kAvx512 };

// As in the environment variable FUSEMIN_ISA: "baseline", "avx2", "avx512".
const char* IsaName(Isa isa);

// Those that this build has and this machine can run. Never empty.
std::vector<Isa> SupportedIsas();

// The widest supported one, or what FUSEMIN_ISA says. Decided on the first call
// and kept. If the variable names none or one that the machine lacks, `*error`
// says so and the widest is returned; else it is empty. Thread-safe.
Isa ChosenIsa(std::string* error);

}  // namespace fusemin::cpu

#endif  // FUSEMIN_KERNELS_CPU_ISA_H_
