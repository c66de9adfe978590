// Adagrad: the gradient over the root of the sum of all its squares.
//
//   a <- a + g^2;  p <- p - lr g / (sqrt(a + epsilon) + epsilon_outside)
//
// Sources: Duchi, Hazan & Singer 2011; keras.optimizers.Adagrad, the kernels
// ResourceApplyAdagrad (no epsilon) and ResourceApplyAdagradV2 (epsilon added
// to the root, where Keras has it inside).
#ifndef FUSEMIN_RULES_ADAGRAD_H_
#define FUSEMIN_RULES_ADAGRAD_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::adagrad {

struct Adagrad {
  static constexpr char kName[] = "adagrad";
  static constexpr Names<3> kHyperparameters{{"learning_rate", "epsilon", "epsilon_outside"}};
  static constexpr Names<1> kSlots{{"accumulator"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, epsilon, epsilon_outside;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide /*step*/, Wide* /*scalars*/,
                                          Narrow narrow) {
    using V = decltype(narrow(hyperparameters[0]));
    return Prepared<V>{narrow(hyperparameters[0]), narrow(hyperparameters[1]), narrow(hyperparameters[2])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    slots[0] = slots[0] + gradient * gradient;
    param = param - gradient * c.learning_rate / (Sqrt(slots[0] + c.epsilon) + c.epsilon_outside);
  }
};

using Rules = RuleList<Adagrad>;

}  // namespace fusemin::rules::adagrad

#endif  // FUSEMIN_RULES_ADAGRAD_H_
