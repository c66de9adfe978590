// The loss was multiplied with a number, which the gradients are divided by: a number that stays, or one that doubles
// after so many steps without an overflow and halves at each step with one, which is skipped.
//
// Sources: keras.optimizers.LossScaleOptimizer, `loss_scale_factor` of Keras' optimizers.
#ifndef FUSEMIN_OPTIONS_LOSS_SCALE_H_
#define FUSEMIN_OPTIONS_LOSS_SCALE_H_

#include "options/option.h"

namespace fusemin {

struct LossScale {
  double loss_scale_factor = kOptionOff;
  double dynamic_growth_steps = kOptionOff;

  static constexpr OptionNumber<LossScale> kNumbers[] = {
      {"loss_scale_factor", &LossScale::loss_scale_factor, "What the loss was multiplied with."},
      {"dynamic_growth_steps", &LossScale::dynamic_growth_steps,
       "The loss was multiplied with a variable, which doubles after so many steps without an overflow.",
       NumberKind::kCountOfSteps, OptionTensors::kLossScale, OptionSums::kOfAllTensors},
  };

  // Whether a step is skipped for a gradient that is not finite.
  FUSEMIN_HOST_DEVICE bool IsDynamic() const { return dynamic_growth_steps != kOptionOff; }

  // What the gradients are multiplied with. `scale` counts if it is dynamic only.
  template <class V>
  FUSEMIN_HOST_DEVICE V GradientScale(V scale) const {
    if (IsDynamic()) return Constant(scale, 1.0) / scale;
    return Constant(scale, loss_scale_factor != kOptionOff ? 1.0 / loss_scale_factor : 1.0);
  }

  // Whether the scale doubles after a step that was `taken`, or skipped. `counter` is of steps since it last changed.
  template <class V, class Bool>
  FUSEMIN_HOST_DEVICE Bool Grows(V counter, Bool taken) const {
    return And(taken, Equal(counter + Constant(counter, 1.0), Constant(counter, dynamic_growth_steps)));
  }
  template <class V, class Bool>
  FUSEMIN_HOST_DEVICE V NextScale(V scale, V counter, Bool taken) const {
    const V one = Constant(scale, 1.0), half = Constant(scale, 0.5);
    return scale * Select(Grows(counter, taken), Constant(scale, 2.0), Select(taken, one, half));
  }
  template <class V, class Bool>
  FUSEMIN_HOST_DEVICE V NextCounter(V counter, Bool taken) const {
    const V zero = Constant(counter, 0.0), next = counter + Constant(counter, 1.0);
    return Select(taken, Select(Grows(counter, taken), zero, next), zero);
  }
};

// The element of a gradient that the rule sees.
template <class V>
FUSEMIN_HOST_DEVICE V Scaled(V gradient, V scale) {
  return gradient * scale;
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_LOSS_SCALE_H_
