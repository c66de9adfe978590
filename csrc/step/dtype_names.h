// The names of the types of elements, as NumPy and TensorFlow have them. On the host only.
#ifndef FUSEMIN_KERNELS_DTYPE_NAMES_H_
#define FUSEMIN_KERNELS_DTYPE_NAMES_H_

#include <optional>
#include <string_view>

#include "step/step.h"

namespace fusemin {

constexpr const char* kDTypeNames[kNumDTypes] = {"float32", "float64", "float16", "bfloat16"};

inline const char* NameOf(DType dtype) { return kDTypeNames[static_cast<int>(dtype)]; }

inline std::optional<DType> FindDType(std::string_view name) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (name == kDTypeNames[i]) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_DTYPE_NAMES_H_
