// Lion: steps of one length, in the direction of the sign of a momentum.
//
//   p <- p - lr sign(beta_1 m + (1 - beta_1) g);  m <- beta_2 m + (1 - beta_2) g
//
// buffered: the same in another order, p after m, which is NaN after an infinite gradient:
//   m <- beta_1 m + (1 - beta_1) g;  p <- p - lr sign(m);  m <- beta_2 m / beta_1 + (1 - beta_2 / beta_1) g
//
// Sources: Chen et al. 2023; keras.optimizers.Lion, tf_keras.optimizers.Lion, whose sparse update
// is the buffered one.
#ifndef FUSEMIN_RULES_LION_H_
#define FUSEMIN_RULES_LION_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::lion {

template <bool kBuffered>
struct Lion {
  static constexpr const char* kName = kBuffered ? "lion_buffered" : "lion";
  static constexpr Names<3> kHyperparameters{{"learning_rate", "beta_1", "beta_2"}};
  static constexpr Names<1> kSlots{{"momentum"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, one_minus_quotient;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide one = Constant(step, 1.0);
    const V beta_1 = narrow(hyperparameters[1]), beta_2 = narrow(hyperparameters[2]);
    return Prepared<V>{narrow(hyperparameters[0]),       beta_1,
                       narrow(one - hyperparameters[1]), beta_2,
                       narrow(one - hyperparameters[2]), narrow(one) - beta_2 / beta_1};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    const V direction = slots[0] * c.beta_1 + gradient * c.one_minus_beta_1;
    param = param - Sign(direction) * c.learning_rate;
    if constexpr (kBuffered) {
      slots[0] = direction * c.beta_2 / c.beta_1 + gradient * c.one_minus_quotient;
    } else {
      slots[0] = slots[0] * c.beta_2 + gradient * c.one_minus_beta_2;
    }
  }
};

using Rules = RuleList<Lion<false>, Lion<true>>;

}  // namespace fusemin::rules::lion

#endif  // FUSEMIN_RULES_LION_H_
