// Lion: steps of one length, in the direction of the sign of a momentum.
//
//   p <- p - lr sign(beta_1 m + (1 - beta_1) g);  m <- beta_2 m + (1 - beta_2) g
//
// Sources: Chen et al. 2023; keras.optimizers.Lion.
#ifndef FUSEMIN_RULES_LION_H_
#define FUSEMIN_RULES_LION_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::lion {

struct Lion {
  static constexpr char kName[] = "lion";
  static constexpr Names<3> kHyperparameters{{"learning_rate", "beta_1", "beta_2"}};
  static constexpr Names<1> kSlots{{"momentum"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide one = Constant(step, 1.0);
    return Prepared<V>{narrow(hyperparameters[0]), narrow(hyperparameters[1]), narrow(one - hyperparameters[1]),
                       narrow(hyperparameters[2]), narrow(one - hyperparameters[2])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    param = param - Sign(slots[0] * c.beta_1 + gradient * c.one_minus_beta_1) * c.learning_rate;
    slots[0] = slots[0] * c.beta_2 + gradient * c.one_minus_beta_2;
  }
};

using Rules = RuleList<Lion>;

}  // namespace fusemin::rules::lion

#endif  // FUSEMIN_RULES_LION_H_
