// The rule is applied to the mean of the gradients of so many calls, at the last of them.
//
// Source: `gradient_accumulation_steps` of Keras' optimizers.
#ifndef FUSEMIN_OPTIONS_ACCUMULATION_H_
#define FUSEMIN_OPTIONS_ACCUMULATION_H_

#include "options/option.h"

namespace fusemin {

// Whether the call after `iterations` is the last of each `every`.
template <class Int>
FUSEMIN_HOST_DEVICE auto IsLastOf(Int iterations, double every) {
  return Equal(Remainder(iterations + Constant(iterations, 1.0), Constant(iterations, every)),
               Constant(iterations, 0.0));
}

struct Accumulation {
  double gradient_accumulation_steps = kOptionOff;

  static constexpr OptionNumber<Accumulation> kNumbers[] = {
      {"gradient_accumulation_steps", &Accumulation::gradient_accumulation_steps,
       "The rule is applied at each so manieth call, to the mean of the gradients since the last time.",
       NumberKind::kCountOfSteps, OptionTensors::kAccumulators},
  };

  FUSEMIN_HOST_DEVICE bool Accumulates() const { return gradient_accumulation_steps != kOptionOff; }

  // How often the rule was applied in so many calls.
  template <class Int>
  FUSEMIN_HOST_DEVICE Int Updates(Int iterations) const {
    if (!Accumulates()) return iterations;
    return iterations / Constant(iterations, gradient_accumulation_steps);
  }
};

// An element of the sum of gradients.
template <class V>
FUSEMIN_HOST_DEVICE V Accumulated(V sum, V gradient, V scale) {
  return sum + gradient * scale;
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_ACCUMULATION_H_
