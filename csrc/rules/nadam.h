// Nadam: Adam with Nesterov momentum and a schedule of the momentum.
//
//   u_t = beta_1 (1 - decay^(exponent t) / 2);  U <- U beta_1' (1 - decay'^(exponent t) / 2)
//   m <- m + (g - m)(1 - beta_1);  v <- v + (g^2 - v)(1 - beta_2)
//   m' = u_{t+1} m / (1 - U u_{t+1}) + (1 - u_t) g / (1 - U)
//   p <- p - lr m' / (sqrt(v / (1 - beta_2^t)) + epsilon)
//
// U is the product of all u so far, the scalar `momentum_product`.
//
// Sources: Dozat 2016; keras.optimizers.Nadam, tf_keras.optimizers.legacy.Nadam.
//
// Traps. Keras takes the factors of U from the numbers as the user gave them,
// but u_t from those numbers rounded to float32, so the product has a beta_1'
// and a decay' of its own. The exponent is 1 in Keras and 0.004, the "schedule
// decay" of the paper, in the legacy optimizer, which also writes the means as
// beta m + (1 - beta) g: that stays infinite where Keras' form becomes NaN.
// Stock computes all of u and of beta_2^t in the type of the parameter, as for
// Adam.
#ifndef FUSEMIN_RULES_NADAM_H_
#define FUSEMIN_RULES_NADAM_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::nadam {

template <bool kLegacy>
struct Nadam {
  static constexpr const char* kName = kLegacy ? "nadam_legacy" : "nadam";
  static constexpr Names<8> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "epsilon", "decay", "decay_exponent", "product_beta_1", "product_decay"}};
  static constexpr Names<2> kSlots{{"momentum", "velocity"}};
  static constexpr Names<1> kScalars{{"momentum_product"}};

  template <class V>
  struct Prepared {
    V learning_rate, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon, next_momentum, one_minus_next_product,
        one_minus_momentum, one_minus_product, one_minus_beta_2_power;
  };

  // The momentum at a step.
  template <class V>
  static FUSEMIN_HOST_DEVICE V Momentum(V beta_1, V decay, V exponent, V step) {
    return beta_1 * (Constant(step, 1.0) - Constant(step, 0.5) * Pow(decay, exponent * step));
  }

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* scalars, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide wide_one = Constant(step, 1.0);
    const V one = narrow(wide_one);
    const V beta_1 = narrow(hyperparameters[1]), beta_2 = narrow(hyperparameters[2]);
    const V decay = narrow(hyperparameters[4]), exponent = narrow(hyperparameters[5]);
    const V momentum = Momentum(beta_1, decay, exponent, narrow(step));
    const V next_momentum = Momentum(beta_1, decay, exponent, narrow(step + wide_one));
    scalars[0] = scalars[0] * Momentum(hyperparameters[6], hyperparameters[7], hyperparameters[5], step);
    const V product = narrow(scalars[0]);
    return Prepared<V>{narrow(hyperparameters[0]),
                       beta_1,
                       narrow(wide_one - hyperparameters[1]),
                       beta_2,
                       narrow(wide_one - hyperparameters[2]),
                       narrow(hyperparameters[3]),
                       next_momentum,
                       one - product * next_momentum,
                       one - momentum,
                       one - product,
                       one - Pow(beta_2, narrow(step))};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    if constexpr (kLegacy) {
      slots[0] = slots[0] * c.beta_1 + gradient * c.one_minus_beta_1;
      slots[1] = slots[1] * c.beta_2 + gradient * gradient * c.one_minus_beta_2;
    } else {
      slots[0] = slots[0] + (gradient - slots[0]) * c.one_minus_beta_1;
      slots[1] = slots[1] + (gradient * gradient - slots[1]) * c.one_minus_beta_2;
    }
    const V momentum =
        slots[0] * c.next_momentum / c.one_minus_next_product + gradient * c.one_minus_momentum / c.one_minus_product;
    param = param - momentum * c.learning_rate / (Sqrt(slots[1] / c.one_minus_beta_2_power) + c.epsilon);
  }
};

using Rules = RuleList<Nadam<false>, Nadam<true>>;

}  // namespace fusemin::rules::nadam

#endif  // FUSEMIN_RULES_NADAM_H_
