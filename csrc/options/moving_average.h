// An exponential moving average of each parameter, which may replace the parameter from time to time.
//
// Source: `use_ema` of Keras' optimizers.
//
// Traps. The average of Keras 3 begins as the parameter after the first step, and Keras 3 subtracts the momentum from 1
// in the type of the variable, tf_keras before it is rounded to that.
#ifndef FUSEMIN_OPTIONS_MOVING_AVERAGE_H_
#define FUSEMIN_OPTIONS_MOVING_AVERAGE_H_

#include "options/option.h"

namespace fusemin {

struct MovingAverage {
  double ema_momentum = kOptionOff;
  // Whether the average of the first step is the parameter itself.
  double ema_starts_at_param = 0.0;
  double ema_overwrite_frequency = kOptionOff;

  static constexpr OptionNumber<MovingAverage> kNumbers[] = {
      {"ema_momentum", &MovingAverage::ema_momentum, "The part of the moving average of a parameter that a step keeps.",
       NumberKind::kReal, OptionTensors::kAverages},
      {"ema_starts_at_param", &MovingAverage::ema_starts_at_param,
       "1 where the average of the first step is the parameter itself, as in Keras 3.", NumberKind::kFlag},
      {"ema_overwrite_frequency", &MovingAverage::ema_overwrite_frequency,
       "Parameters become their average at each so manieth update.", NumberKind::kCountOfSteps},
  };

  FUSEMIN_HOST_DEVICE bool IsOn() const { return ema_momentum != kOptionOff; }

  template <class V>
  struct Prepared {
    // What the average and the parameter are multiplied with.
    V keep, take;
    TruthOf<V> replaces;
  };

  template <class Wide, class Int, class Narrow>
  FUSEMIN_HOST_DEVICE auto Prepare(const Now<Wide, Int>& now, const Narrow& narrow) const {
    using V = decltype(narrow(now.learning_rate));
    const bool starts_at_param = ema_starts_at_param != 0.0, overwrites = ema_overwrite_frequency != kOptionOff;
    const Wide zero = Constant(now.learning_rate, 0.0), one = Constant(now.learning_rate, 1.0);
    Wide keeps = Constant(now.learning_rate, ema_momentum);
    if (starts_at_param) keeps = Select(Equal(now.updates, Constant(now.updates, 0.0)), zero, keeps);
    const Wide takes = one - (starts_at_param ? Widen(narrow(keeps)) : keeps);
    return Prepared<V>{narrow(keeps), narrow(takes),
                       overwrites ? IsLastOf(now.updates, ema_overwrite_frequency) : Known(now.updates, false)};
  }

  template <class V>
  static FUSEMIN_HOST_DEVICE V AfterRule(const Prepared<V>& c, V average, V param) {
    return c.keep * average + c.take * param;
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE TruthOf<V> Replaces(const Prepared<V>& c) {
    return c.replaces;
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_MOVING_AVERAGE_H_
