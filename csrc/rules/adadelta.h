// Adadelta: the gradient scaled by the ratio of the mean square of past
// displacements to its own.
//
//   a <- rho a + (1 - rho) g^2
//   d = sqrt(b + epsilon) g / sqrt(a + epsilon)
//   b <- rho b + (1 - rho) d^2;  p <- p - lr d
//
// Sources: Zeiler 2012, which has no learning rate; keras.optimizers.Adadelta,
// the kernel ResourceApplyAdadelta.
#ifndef FUSEMIN_RULES_ADADELTA_H_
#define FUSEMIN_RULES_ADADELTA_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::adadelta {

// kByDifference: the mean of the squares is written as a + (rho - 1) a + (1 - rho) g^2, which is NaN where a was
// infinite, as in the sparse update of tf_keras.optimizers.Adadelta.
template <bool kByDifference>
struct Adadelta {
  static constexpr const char* kName = kByDifference ? "adadelta_by_difference" : "adadelta";
  static constexpr Names<3> kHyperparameters{{"learning_rate", "rho", "epsilon"}};
  static constexpr Names<2> kSlots{{"accumulated_gradient", "accumulated_displacement"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, rho, rho_minus_one, one_minus_rho, epsilon;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide one = Constant(step, 1.0);
    return Prepared<V>{narrow(hyperparameters[0]), narrow(hyperparameters[1]), narrow(hyperparameters[1] - one),
                       narrow(one - hyperparameters[1]), narrow(hyperparameters[2])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    const V decayed = kByDifference ? slots[0] + slots[0] * c.rho_minus_one : slots[0] * c.rho;
    slots[0] = decayed + gradient * gradient * c.one_minus_rho;
    const auto displacement = Sqrt(slots[1] + c.epsilon) * gradient / Sqrt(slots[0] + c.epsilon);
    slots[1] = slots[1] * c.rho + displacement * displacement * c.one_minus_rho;
    param = param - displacement * c.learning_rate;
  }
};

using Rules = RuleList<Adadelta<false>, Adadelta<true>>;

}  // namespace fusemin::rules::adadelta

#endif  // FUSEMIN_RULES_ADADELTA_H_
