// LAMB: Adam's direction, scaled for each parameter by the ratio of the
// parameter's norm to the direction's.
//
//   m <- m + (g - m)(1 - beta_1);  v <- v + (g^2 - v)(1 - beta_2)
//   r = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
//   p <- p - ratio lr r,  ratio = |p| / |r|, or 1 where one of them is 0
//
// Sources: You et al. 2019; keras.optimizers.Lamb. As there, the norms are those of
// the parameter before this step's move, and weight decay, which Keras applies
// before it, is not part of r.
#ifndef FUSEMIN_RULES_LAMB_H_
#define FUSEMIN_RULES_LAMB_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::lamb {

struct Lamb {
  static constexpr const char* kName = "lamb";
  static constexpr bool kTrustRatio = true;
  static constexpr Names<6> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "epsilon", "beta_1_power_base", "beta_2_power_base"}};
  static constexpr Names<2> kSlots{{"momentum", "velocity"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, one_minus_beta_1, one_minus_beta_2, epsilon, momentum_correction, velocity_correction;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide wide_one = Constant(step, 1.0);
    const V one = narrow(wide_one);
    return Prepared<V>{narrow(hyperparameters[0]),
                       narrow(wide_one - hyperparameters[1]),
                       narrow(wide_one - hyperparameters[2]),
                       narrow(hyperparameters[3]),
                       one - Pow(narrow(hyperparameters[4]), narrow(step)),
                       one - Pow(narrow(hyperparameters[5]), narrow(step))};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void UpdateSlots(const Prepared<V>& c, G gradient, V* slots) {
    slots[0] = slots[0] + (gradient - slots[0]) * c.one_minus_beta_1;
    slots[1] = slots[1] + (gradient * gradient - slots[1]) * c.one_minus_beta_2;
  }

  template <class V>
  static FUSEMIN_HOST_DEVICE V Direction(const Prepared<V>& c, const V* slots) {
    return slots[0] / c.momentum_correction / (Sqrt(slots[1] / c.velocity_correction) + c.epsilon);
  }

  // What the direction is multiplied with.
  template <class V>
  static FUSEMIN_HOST_DEVICE V Ratio(const Prepared<V>& c, V param_norm, V direction_norm) {
    const V zero = Constant(param_norm, 0.0);
    const V one = Constant(param_norm, 1.0);
    const V ratio = Select(Less(zero, direction_norm), param_norm / direction_norm, one);
    return Select(Less(zero, param_norm), ratio, one) * c.learning_rate;
  }
};

using Rules = RuleList<Lamb>;

}  // namespace fusemin::rules::lamb

#endif  // FUSEMIN_RULES_LAMB_H_
