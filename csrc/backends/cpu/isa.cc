#include "backends/cpu/isa.h"

#include <cstdlib>

namespace fusemin::cpu {
namespace {

struct Choice {
  Isa isa;
  std::string error;
};

Choice Choose() {
  const std::vector<Isa> supported = SupportedIsas();
  const char* wanted = std::getenv("FUSEMIN_ISA");
  if (wanted == nullptr || *wanted == '\0') return {supported.back(), ""};
  std::string names;
  for (Isa isa : supported) {
    if (std::string(wanted) == IsaName(isa)) return {isa, ""};
    names += std::string(names.empty() ? "" : ", ") + IsaName(isa);
  }
  return {supported.back(), "FUSEMIN_ISA is '" + std::string(wanted) + "', but this build on this machine supports: " +
                                names + ". Unset it, or set it to one of these."};
}

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kBaseline:
      return "baseline";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas{Isa::kBaseline};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
      isas.push_back(Isa::kAvx512);
    }
  }
#endif
  return isas;
}

Isa ChosenIsa(std::string* error) {
  static const Choice choice = Choose();
  *error = choice.error;
  return choice.isa;
}

}  // namespace fusemin::cpu
