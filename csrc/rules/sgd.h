// Gradient descent, with momentum and Nesterov momentum in the form of Keras:
// the slot holds the last displacement, so a change of the learning rate takes
// effect on new gradients only.
//
//   plain:     p <- p - lr g
//   momentum:  m <- momentum m - lr g;  p <- p + m
//   nesterov:  m <- momentum m - lr g;  p <- p + (momentum m - lr g)
//
// Sources: Sutskever et al. 2013 (momentum); keras.optimizers.SGD, the kernel
// ResourceApplyKerasMomentum.
#ifndef FUSEMIN_RULES_SGD_H_
#define FUSEMIN_RULES_SGD_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::sgd {

struct Plain {
  static constexpr char kName[] = "sgd";
  static constexpr Names<1> kHyperparameters{{"learning_rate"}};
  static constexpr Names<0> kSlots{};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide /*step*/, Wide* /*scalars*/,
                                          Narrow narrow) {
    using V = decltype(narrow(hyperparameters[0]));
    return Prepared<V>{narrow(hyperparameters[0])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* /*slots*/) {
    param = param - gradient * c.learning_rate;
  }
};

template <bool kNesterov>
struct Momentum {
  static constexpr const char* kName = kNesterov ? "sgd_nesterov" : "sgd_momentum";
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
    const V descent = gradient * c.learning_rate;
    slots[0] = slots[0] * c.momentum - descent;
    if constexpr (kNesterov) {
      param = param + (slots[0] * c.momentum - descent);
    } else {
      param = param + slots[0];
    }
  }
};

using Rules = RuleList<Plain, Momentum<false>, Momentum<true>>;

}  // namespace fusemin::rules::sgd

#endif  // FUSEMIN_RULES_SGD_H_
