// Adamax: Adam with the largest gradient of late in place of the mean square.
//
//   m <- m + (g - m)(1 - beta_1);  u <- max(beta_2 u, |g|)
//   p <- p - lr m / ((1 - beta_1^t)(u + epsilon))
//
// Sources: Kingma & Ba 2014, section 7.1; keras.optimizers.Adamax, the kernel
// ResourceApplyAdaMax.
//
// Trap: as for Adam, Keras takes 1 - beta_1 from the number that the user gave,
// but the power from that number rounded to float32. The kernel's maximum is
// another one where the gradient is NaN.
#ifndef FUSEMIN_RULES_ADAMAX_H_
#define FUSEMIN_RULES_ADAMAX_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::adamax {

// kDecayed: the mean is written as beta_1 m + (1 - beta_1) g, as in stock's sparse update of tf_keras legacy. See
// adam.h.
template <bool kKernel, bool kDecayed = false>
struct Adamax {
  static constexpr const char* kName = kKernel ? "adamax_kernel" : kDecayed ? "adamax_decayed" : "adamax";
  static constexpr Names<5> kHyperparameters{{"learning_rate", "beta_1", "beta_2", "epsilon", "beta_1_power_base"}};
  static constexpr Names<2> kSlots{{"momentum", "norm"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, beta_1, one_minus_beta_1, beta_2, epsilon, one_minus_beta_1_power;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide one = Constant(step, 1.0);
    return Prepared<V>{narrow(hyperparameters[0]),       narrow(hyperparameters[1]),
                       narrow(one - hyperparameters[1]), narrow(hyperparameters[2]),
                       narrow(hyperparameters[3]),       narrow(one) - Pow(narrow(hyperparameters[4]), narrow(step))};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    if constexpr (kDecayed) {
      slots[0] = slots[0] * c.beta_1 + gradient * c.one_minus_beta_1;
    } else {
      slots[0] = slots[0] + (gradient - slots[0]) * c.one_minus_beta_1;
    }
    const V decayed = slots[1] * c.beta_2;
    slots[1] = kKernel ? KernelMax(decayed, Abs(gradient)) : Max(decayed, Abs(gradient));
    param = param - slots[0] * c.learning_rate / (c.one_minus_beta_1_power * (slots[1] + c.epsilon));
  }
};

using Rules = RuleList<Adamax<false>, Adamax<true>, Adamax<false, true>>;

}  // namespace fusemin::rules::adamax

#endif  // FUSEMIN_RULES_ADAMAX_H_
