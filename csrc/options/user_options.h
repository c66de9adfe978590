// The options of a step as users give them, once, and what they come to at each step.
#ifndef FUSEMIN_OPTIONS_USER_OPTIONS_H_
#define FUSEMIN_OPTIONS_USER_OPTIONS_H_

#include "options/accumulation.h"
#include "options/loss_scale.h"
#include "options/moving_average.h"
#include "options/norm_clip.h"
#include "options/value_clip.h"
#include "options/weight_decay.h"
#include "step/step.h"

namespace fusemin {

template <class... Option>
struct OptionList : Option... {
  // `visit(number)` for what there is to know of each number.
  template <class Visit>
  static constexpr void ForEachNumber(const Visit& visit) {
    (VisitAll<Option>(visit), ...);
  }

 private:
  template <class One, class Visit>
  static constexpr void VisitAll(const Visit& visit) {
    for (const OptionNumber<One>& number : One::kNumbers) visit(number);
  }
};

// In the order in which a step applies them; the rule comes before the average.
struct UserOptions : OptionList<LossScale, Accumulation, ValueClip, NormClip, WeightDecay, MovingAverage> {
  static constexpr double kOff = kOptionOff;

  // What surrounds the rule at the step after `iterations` calls. `loss_scale` counts with dynamic_growth_steps only.
  FUSEMIN_HOST_DEVICE StepOptions At(int64_t iterations, double loss_scale, DType dtype) const {
    StepOptions options;
    options.gradient_scale = GradientScale(loss_scale);
    options.skip_if_not_finite = IsDynamic();
    options.clip_value = clipvalue;
    options.clip_norm = clipnorm;
    options.global_clip_norm = global_clipnorm;
    options.weight_decay = weight_decay;
    if (Averages()) {
      const int64_t updates = Updates(iterations);
      const RoundedTo round{dtype};
      options.ema_momentum = Keeps(updates, 1.0);
      options.ema_complement = Takes(options.ema_momentum, round);
      options.ema_overwrite = Overwrites() && IsLastOf(updates, ema_overwrite_frequency);
    }
    if (Accumulates()) {
      options.accumulated_steps = static_cast<int>(gradient_accumulation_steps);
      options.applies = IsLastOf(iterations, gradient_accumulation_steps);
    }
    return options;
  }

 private:
  struct RoundedTo {
    DType dtype;
    FUSEMIN_HOST_DEVICE double operator()(double x) const {
      return dtype == DType::kFloat64 ? x : static_cast<float>(x);
    }
  };
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_USER_OPTIONS_H_
