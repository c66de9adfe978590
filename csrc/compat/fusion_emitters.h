#ifndef FUSEMIN_COMPAT_FUSION_EMITTERS_H_
#define FUSEMIN_COMPAT_FUSION_EMITTERS_H_

#include "xla/service/hlo_module_config.h"

namespace fusemin::compat {

// Whether XLA compiles the fusions of a CPU by its fusion emitters. TensorFlow 2.22 knows no other way.
inline bool UsesFusionEmitters([[maybe_unused]] const xla::DebugOptions& options) {
#if FUSEMIN_TENSORFLOW_2_MINOR >= 22
  return true;
#else
  return options.xla_cpu_use_fusion_emitters();
#endif
}

}  // namespace fusemin::compat

#endif  // FUSEMIN_COMPAT_FUSION_EMITTERS_H_
