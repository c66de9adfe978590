// Adan: Nesterov momentum of the gradient and of its differences.
//
//   d = g - g', where g' is the gradient of the step before; 0 at the first step
//   m <- beta_1 m + (1 - beta_1) g;  v <- beta_2 v + (1 - beta_2) d
//   n <- beta_3 n + (1 - beta_3) (g + beta_2 d)^2
//   p <- (p - lr (m / (1 - beta_1^t) + beta_2 v / (1 - beta_2^t)) / (sqrt(n / (1 - beta_3^t)) + epsilon))
//        / (1 + lr weight_decay)
//
// Source: Xie et al. 2022, arXiv 2208.06677, Algorithm 1, whose betas are 1 minus these; the corrections by powers of
// beta, and the proximal weight decay by the learning rate alone, are those of the authors' code, sail-sg/Adan.
#ifndef FUSEMIN_RULES_ADAN_H_
#define FUSEMIN_RULES_ADAN_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::adan {

struct Adan {
  static constexpr const char* kName = "adan";
  static constexpr Names<6> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "beta_3", "epsilon", "weight_decay"}};
  static constexpr Names<4> kSlots{{"momentum", "difference", "velocity", "previous_gradient"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, beta_3, one_minus_beta_3, epsilon;
    // 0 at the first step, else 1.
    V has_previous;
    V momentum_rate, difference_rate, root_correction, shrinkage;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide zero = Constant(step, 0.0), one = Constant(step, 1.0);
    const Wide rate = hyperparameters[0], beta_1 = hyperparameters[1], beta_2 = hyperparameters[2],
               beta_3 = hyperparameters[3];
    return Prepared<V>{narrow(beta_1),
                       narrow(one - beta_1),
                       narrow(beta_2),
                       narrow(one - beta_2),
                       narrow(beta_3),
                       narrow(one - beta_3),
                       narrow(hyperparameters[4]),
                       narrow(Select(Less(one, step), one, zero)),
                       narrow(rate / (one - Pow(beta_1, step))),
                       narrow(rate * beta_2 / (one - Pow(beta_2, step))),
                       narrow(Sqrt(one - Pow(beta_3, step))),
                       narrow(one / (one + rate * hyperparameters[5]))};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    const V g = gradient;
    const V difference = (g - slots[3]) * c.has_previous;
    const V ahead = g + difference * c.beta_2;
    slots[0] = slots[0] * c.beta_1 + g * c.one_minus_beta_1;
    slots[1] = slots[1] * c.beta_2 + difference * c.one_minus_beta_2;
    slots[2] = slots[2] * c.beta_3 + ahead * ahead * c.one_minus_beta_3;
    slots[3] = g;
    const V descent =
        (slots[0] * c.momentum_rate + slots[1] * c.difference_rate) / (Sqrt(slots[2]) / c.root_correction + c.epsilon);
    param = (param - descent) * c.shrinkage;
  }
};

using Rules = RuleList<Adan>;

}  // namespace fusemin::rules::adan

#endif  // FUSEMIN_RULES_ADAN_H_
