// The rule is applied to the mean of the gradients of so many calls, at the last of them.
//
// Source: `gradient_accumulation_steps` of Keras' optimizers.
#ifndef FUSEMIN_OPTIONS_ACCUMULATION_H_
#define FUSEMIN_OPTIONS_ACCUMULATION_H_

#include "options/option.h"

namespace fusemin {

struct Accumulation {
  double gradient_accumulation_steps = kOptionOff;

  static constexpr OptionNumber<Accumulation> kNumbers[] = {
      {"gradient_accumulation_steps", &Accumulation::gradient_accumulation_steps,
       "The rule is applied at each so manieth call, to the mean of the gradients since the last time.",
       NumberKind::kCountOfSteps, OptionTensors::kAccumulators},
  };

  FUSEMIN_HOST_DEVICE bool IsOn() const { return gradient_accumulation_steps != kOptionOff; }

  template <class Int>
  FUSEMIN_HOST_DEVICE Int Updates(Int calls) const {
    return calls / Constant(calls, gradient_accumulation_steps);
  }
  template <class Wide, class Int>
  FUSEMIN_HOST_DEVICE TruthOf<Wide> Applies(const Now<Wide, Int>& now) const {
    return IsLastOf(now.iterations, gradient_accumulation_steps);
  }
  FUSEMIN_HOST_DEVICE double CollectedScale() const { return 1.0 / gradient_accumulation_steps; }

  template <class V>
  static FUSEMIN_HOST_DEVICE V Collect(V sum, V gradient) {
    return sum + gradient;
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_ACCUMULATION_H_
