// The gradient of each parameter, or those of all together, are scaled down to an L2 norm.
//
// Sources: `clipnorm` and `global_clipnorm` of Keras' optimizers; tf.clip_by_norm, tf.clip_by_global_norm.
#ifndef FUSEMIN_OPTIONS_NORM_CLIP_H_
#define FUSEMIN_OPTIONS_NORM_CLIP_H_

#include "options/option.h"

namespace fusemin {

struct NormClip {
  double clipnorm = kOptionOff;
  double global_clipnorm = kOptionOff;

  static constexpr OptionNumber<NormClip> kNumbers[] = {
      {"clipnorm", &NormClip::clipnorm, "The gradient of each parameter is scaled down to this L2 norm.",
       NumberKind::kReal, OptionTensors::kNone, OptionSums::kOfEachTensor},
      {"global_clipnorm", &NormClip::global_clipnorm,
       "The gradients of all parameters together are scaled down to this L2 norm.", NumberKind::kReal,
       OptionTensors::kNone, OptionSums::kOfAllTensors},
  };
};

// What a gradient of this norm is multiplied with. A norm of infinity leaves 0, and NaN where the gradient is infinite.
template <class V>
FUSEMIN_HOST_DEVICE V NormClipFactor(V norm, V limit) {
  return limit / Max(norm, limit);
}

// What all gradients are multiplied with. A norm that is not finite makes all of them NaN.
template <class V>
FUSEMIN_HOST_DEVICE V GlobalNormClipFactor(V norm, V limit) {
  const V one = Constant(norm, 1.0);
  return limit * Min(one / norm, one / limit) + (norm - norm);
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_NORM_CLIP_H_
