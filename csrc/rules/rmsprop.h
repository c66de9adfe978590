// RMSprop: the gradient over the root of the mean of its squares, or, when
// centered, over the root of its variance; with momentum if wanted.
//
//   v <- rho v + (1 - rho) g^2   [centered: a <- rho a + (1 - rho) g]
//   d = lr g / (sqrt(v [- a^2] + epsilon) + epsilon_outside)
//   plain:     p <- p - d
//   momentum:  m <- momentum m + d;  p <- p - m
//
// Sources: Hinton 2012, Neural Networks for Machine Learning, lecture 6e;
// Graves 2013, section 4.2 (centered); keras.optimizers.RMSprop, the kernels
// ResourceApplyRMSProp and ResourceApplyCenteredRMSProp.
//
// Traps. epsilon is inside the root everywhere but in the legacy optimizer of
// tf_keras, which without momentum adds it to the root. Each is added where it
// is 0 too: that changes no bit, and costs nothing beside the memory traffic.
// The kernels write the means as v + (g^2 - v)(1 - rho): the step after an
// infinite gradient makes NaN of that, where Keras' form stays infinite.
#ifndef FUSEMIN_RULES_RMSPROP_H_
#define FUSEMIN_RULES_RMSPROP_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::rmsprop {

template <bool kMomentum>
struct Hyperparameters {
  static constexpr Names<4> kHyperparameters{{"learning_rate", "rho", "epsilon", "epsilon_outside"}};
};

template <>
struct Hyperparameters<true> {
  static constexpr Names<5> kHyperparameters{{"learning_rate", "rho", "epsilon", "epsilon_outside", "momentum"}};
};

template <bool kCentered, bool kMomentum>
struct Slots {
  static constexpr Names<1> kSlots{{"velocity"}};
};

template <>
struct Slots<false, true> {
  static constexpr Names<2> kSlots{{"velocity", "momentum"}};
};

template <>
struct Slots<true, false> {
  static constexpr Names<2> kSlots{{"velocity", "average_gradient"}};
};

template <>
struct Slots<true, true> {
  static constexpr Names<3> kSlots{{"velocity", "average_gradient", "momentum"}};
};

template <bool kCentered, bool kMomentum, bool kKernel>
struct RMSprop : Hyperparameters<kMomentum>, Slots<kCentered, kMomentum> {
  static_assert(kMomentum || !kKernel, "the kernels always have momentum");
  static constexpr const char* kName =
      kKernel ? (kCentered ? "rmsprop_centered_momentum_kernel" : "rmsprop_momentum_kernel")
              : (kCentered ? (kMomentum ? "rmsprop_centered_momentum" : "rmsprop_centered")
                           : (kMomentum ? "rmsprop_momentum" : "rmsprop"));
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, rho, one_minus_rho, epsilon, epsilon_outside, momentum;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    return Prepared<V>{
        narrow(hyperparameters[0]), narrow(hyperparameters[1]), narrow(Constant(step, 1.0) - hyperparameters[1]),
        narrow(hyperparameters[2]), narrow(hyperparameters[3]), narrow(hyperparameters[kMomentum ? 4 : 0])};
  }

  template <class V>
  static FUSEMIN_HOST_DEVICE V Mean(const Prepared<V>& c, V old, V value) {
    if constexpr (kKernel) {
      return old + (value - old) * c.one_minus_rho;
    } else {
      return old * c.rho + value * c.one_minus_rho;
    }
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    slots[0] = Mean<V>(c, slots[0], gradient * gradient);
    V square = slots[0];
    if constexpr (kCentered) {
      slots[1] = Mean<V>(c, slots[1], gradient);
      square = square - slots[1] * slots[1];
    }
    const V descent = gradient * c.learning_rate / (Sqrt(square + c.epsilon) + c.epsilon_outside);
    if constexpr (kMomentum) {
      V& momentum = slots[kCentered ? 2 : 1];
      momentum = momentum * c.momentum + descent;
      param = param - momentum;
    } else {
      param = param - descent;
    }
  }
};

using Rules = RuleList<RMSprop<false, false, false>, RMSprop<false, true, false>, RMSprop<true, false, false>,
                       RMSprop<true, true, false>, RMSprop<false, true, true>, RMSprop<true, true, true>>;

}  // namespace fusemin::rules::rmsprop

#endif  // FUSEMIN_RULES_RMSPROP_H_
