// Momentum in the form of tf.compat.v1.train.MomentumOptimizer: the slot holds
// an accumulation of gradients, which the learning rate multiplies afterwards.
//
//   momentum:  a <- momentum a + g;  p <- p - lr a
//   nesterov:  a <- momentum a + g;  p <- p - (lr g + a momentum lr)
//
// Sources: Sutskever et al. 2013; the kernel ResourceApplyMomentum.
#ifndef FUSEMIN_RULES_MOMENTUM_H_
#define FUSEMIN_RULES_MOMENTUM_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::momentum {

template <bool kNesterov>
struct Momentum {
  static constexpr const char* kName = kNesterov ? "momentum_nesterov" : "momentum";
  static constexpr Names<2> kHyperparameters{{"learning_rate", "momentum"}};
  static constexpr Names<1> kSlots{{"momentum"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, momentum;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide /*step*/, Wide* /*scalars*/,
                                          Narrow narrow) {
    using V = decltype(narrow(hyperparameters[0]));
    return Prepared<V>{narrow(hyperparameters[0]), narrow(hyperparameters[1])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    slots[0] = slots[0] * c.momentum + gradient;
    if constexpr (kNesterov) {
      param = param - (gradient * c.learning_rate + slots[0] * c.momentum * c.learning_rate);
    } else {
      param = param - slots[0] * c.learning_rate;
    }
  }
};

using Rules = RuleList<Momentum<false>, Momentum<true>>;

}  // namespace fusemin::rules::momentum

#endif  // FUSEMIN_RULES_MOMENTUM_H_
