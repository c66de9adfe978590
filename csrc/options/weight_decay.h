// Parameters shrink before the rule moves them, in proportion to the learning rate.
//
// Source: `weight_decay` of Keras' optimizers.
#ifndef FUSEMIN_OPTIONS_WEIGHT_DECAY_H_
#define FUSEMIN_OPTIONS_WEIGHT_DECAY_H_

#include "options/option.h"

namespace fusemin {

struct WeightDecay {
  double weight_decay = kOptionOff;

  static constexpr OptionNumber<WeightDecay> kNumbers[] = {
      {"weight_decay", &WeightDecay::weight_decay,
       "Parameters that decay lose this part of themselves, times the learning rate, before the rule moves them.",
       NumberKind::kReal, OptionTensors::kDecays},
  };

  FUSEMIN_HOST_DEVICE bool IsOn() const { return weight_decay != kOptionOff; }

  template <class V>
  struct Prepared {
    V weight_decay, learning_rate;
  };

  template <class Wide, class Int, class Narrow>
  FUSEMIN_HOST_DEVICE auto Prepare(const Now<Wide, Int>& now, const Narrow& narrow) const {
    using V = decltype(narrow(now.learning_rate));
    return Prepared<V>{narrow(Constant(now.learning_rate, weight_decay)), narrow(now.learning_rate)};
  }

  template <class V>
  static FUSEMIN_HOST_DEVICE V BeforeRule(const Prepared<V>& c, V param) {
    return param - param * c.weight_decay * c.learning_rate;
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_WEIGHT_DECAY_H_
