// Elements of a gradient beyond a limit become the limit.
//
// Source: `clipvalue` of Keras' optimizers, tf.clip_by_value.
#ifndef FUSEMIN_OPTIONS_VALUE_CLIP_H_
#define FUSEMIN_OPTIONS_VALUE_CLIP_H_

#include "options/option.h"

namespace fusemin {

struct ValueClip {
  double clipvalue = kOptionOff;

  static constexpr OptionNumber<ValueClip> kNumbers[] = {
      {"clipvalue", &ValueClip::clipvalue, "Elements of the gradients beyond this, or its negative, become that."},
  };
};

// NaN stays: it fails both comparisons.
template <class V>
FUSEMIN_HOST_DEVICE V Clipped(V gradient, V limit) {
  const V below = Select(Less(limit, gradient), limit, gradient);
  return Select(Less(below, -limit), -limit, below);
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_VALUE_CLIP_H_
