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
  // The variables: the scale, and how many steps ago it last changed.
  static constexpr int kScale = 0, kCounter = 1;

  FUSEMIN_HOST_DEVICE bool IsOn() const { return loss_scale_factor != kOptionOff || SkipsNonFinite(); }
  FUSEMIN_HOST_DEVICE bool SkipsNonFinite() const { return dynamic_growth_steps != kOptionOff; }

  template <class Wide, class Int>
  FUSEMIN_HOST_DEVICE Wide GradientScale(Wide scale, const Now<Wide, Int>& now) const {
    if (SkipsNonFinite()) return scale / now.scalars[kScale];
    return scale * Constant(scale, 1.0 / loss_scale_factor);
  }

  template <class Wide, class Bool>
  FUSEMIN_HOST_DEVICE void NextScalars(Wide* scalars, Bool taken) const {
    if (!SkipsNonFinite()) return;
    const Wide zero = Constant(scalars[kScale], 0.0), one = Constant(scalars[kScale], 1.0);
    const Wide half = Constant(scalars[kScale], 0.5), two = Constant(scalars[kScale], 2.0);
    const Wide next = scalars[kCounter] + one;
    const Bool grows = And(taken, Equal(next, Constant(next, dynamic_growth_steps)));
    scalars[kScale] = scalars[kScale] * Select(grows, two, Select(taken, one, half));
    scalars[kCounter] = Select(taken, Select(grows, zero, next), zero);
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_LOSS_SCALE_H_
