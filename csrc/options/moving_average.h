// An exponential moving average of each parameter, which may replace the parameter from time to time.
//
// Source: `use_ema` of Keras' optimizers.
//
// Traps. The average of Keras 3 begins as the parameter after the first step, and Keras 3 subtracts the momentum from 1
// in the type of the variable, tf_keras before it is rounded to that.
#ifndef FUSEMIN_OPTIONS_MOVING_AVERAGE_H_
#define FUSEMIN_OPTIONS_MOVING_AVERAGE_H_

#include "options/accumulation.h"
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

  FUSEMIN_HOST_DEVICE bool Averages() const { return ema_momentum != kOptionOff; }
  FUSEMIN_HOST_DEVICE bool Overwrites() const { return Averages() && ema_overwrite_frequency != kOptionOff; }

  // What the average is multiplied with at the update after so many. `wide` is a value of the type of the result.
  template <class V, class Int>
  FUSEMIN_HOST_DEVICE V Keeps(Int updates, V wide) const {
    const V momentum = Constant(wide, ema_momentum);
    if (ema_starts_at_param == 0.0) return momentum;
    return Select(Equal(updates, Constant(updates, 0.0)), Constant(wide, 0.0), momentum);
  }
  // What the parameter is multiplied with. `round` rounds to the type of the arithmetic.
  template <class V, class Round>
  FUSEMIN_HOST_DEVICE V Takes(V keeps, const Round& round) const {
    return Constant(keeps, 1.0) - (ema_starts_at_param == 0.0 ? keeps : round(keeps));
  }
};

template <class V>
FUSEMIN_HOST_DEVICE V Averaged(V average, V param, V keeps, V takes) {
  return keeps * average + takes * param;
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_MOVING_AVERAGE_H_
