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

  FUSEMIN_HOST_DEVICE bool IsOn() const { return clipvalue != kOptionOff; }

  template <class V>
  struct Prepared {
    V limit;
  };

  template <class Wide, class Int, class Narrow>
  FUSEMIN_HOST_DEVICE auto Prepare(const Now<Wide, Int>& now, const Narrow& narrow) const {
    using V = decltype(narrow(now.learning_rate));
    return Prepared<V>{narrow(Constant(now.learning_rate, clipvalue))};
  }

  // NaN stays: it fails both comparisons.
  template <class V>
  static FUSEMIN_HOST_DEVICE V OnGradient(const Prepared<V>& c, V gradient) {
    const V below = Select(Less(c.limit, gradient), c.limit, gradient);
    return Select(Less(below, -c.limit), -c.limit, below);
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_VALUE_CLIP_H_
