// The gradient of each parameter, or those of all together, are scaled down to an L2 norm.
//
// Sources: `clipnorm` and `global_clipnorm` of Keras' optimizers; tf.clip_by_norm, tf.clip_by_global_norm.
//
// Traps. Of each parameter, a norm of infinity leaves 0, and NaN where the gradient is infinite; of all together, a
// norm that is not finite makes all of them NaN.
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

  FUSEMIN_HOST_DEVICE bool IsOn() const { return WhichNorm() != Norm::kNone; }

  FUSEMIN_HOST_DEVICE Norm WhichNorm() const {
    if (clipnorm != kOptionOff) return Norm::kOfTensor;
    return global_clipnorm != kOptionOff ? Norm::kOfStep : Norm::kNone;
  }
  template <class Wide>
  FUSEMIN_HOST_DEVICE Wide NormFactor(Wide norm) const {
    if (WhichNorm() == Norm::kOfTensor) return Constant(norm, clipnorm) / Max(norm, Constant(norm, clipnorm));
    const Wide one = Constant(norm, 1.0), limit = Constant(norm, global_clipnorm);
    return limit * Min(one / norm, one / limit) + (norm - norm);
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_NORM_CLIP_H_
