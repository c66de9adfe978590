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
};

template <class V>
FUSEMIN_HOST_DEVICE V Decayed(V param, V weight_decay, V learning_rate) {
  return param - param * weight_decay * learning_rate;
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_WEIGHT_DECAY_H_
