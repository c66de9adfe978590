// The options of a step as users give them, once, and what they come to at each step.
#ifndef FUSEMIN_KERNELS_USER_OPTIONS_H_
#define FUSEMIN_KERNELS_USER_OPTIONS_H_

#include "kernels/step.h"
#include "numeric/math.h"

namespace fusemin {

// By the names that Keras gives them. A number that is absent is `kOff`.
struct UserOptions {
  static constexpr double kOff = StepOptions::kOff;

  double loss_scale_factor = kOff;
  double clipvalue = kOff;
  double clipnorm = kOff;
  double global_clipnorm = kOff;
  double weight_decay = kOff;
  double ema_momentum = kOff;
  // Whether the average of the first step is the parameter itself.
  double ema_starts_at_param = 0.0;
  double ema_overwrite_frequency = kOff;
  double gradient_accumulation_steps = kOff;
  double dynamic_growth_steps = kOff;

  // How often the rule was applied in so many calls.
  FUSEMIN_HOST_DEVICE int64_t Updates(int64_t iterations) const {
    return gradient_accumulation_steps == kOff ? iterations
                                               : iterations / static_cast<int64_t>(gradient_accumulation_steps);
  }

  // What surrounds the rule at the step after `iterations` calls. `loss_scale` counts with dynamic_growth_steps only.
  FUSEMIN_HOST_DEVICE StepOptions At(int64_t iterations, double loss_scale, DType dtype) const {
    StepOptions options;
    if (loss_scale_factor != kOff) options.gradient_scale = 1.0 / loss_scale_factor;
    if (dynamic_growth_steps != kOff) {
      options.gradient_scale = 1.0 / loss_scale;
      options.skip_if_not_finite = true;
    }
    options.clip_value = clipvalue;
    options.clip_norm = clipnorm;
    options.global_clip_norm = global_clipnorm;
    options.weight_decay = weight_decay;
    const int64_t updates = Updates(iterations);
    if (ema_momentum != kOff) {
      const bool keras = ema_starts_at_param != 0.0;
      options.ema_momentum = keras && updates == 0 ? 0.0 : ema_momentum;
      // Keras 3 subtracts the momentum from 1 in the type of the variable, tf_keras before it is rounded to that.
      options.ema_complement =
          1.0 - (keras && dtype != DType::kFloat64 ? static_cast<float>(options.ema_momentum) : options.ema_momentum);
      options.ema_overwrite =
          ema_overwrite_frequency != kOff && (updates + 1) % static_cast<int64_t>(ema_overwrite_frequency) == 0;
    }
    if (gradient_accumulation_steps != kOff) {
      options.accumulated_steps = static_cast<int>(gradient_accumulation_steps);
      options.applies = (iterations + 1) % options.accumulated_steps == 0;
    }
    return options;
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_USER_OPTIONS_H_
