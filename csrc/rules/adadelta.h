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

struct Adadelta {
  static constexpr char kName[] = "adadelta";
  static constexpr Names<3> kHyperparameters{{"learning_rate", "rho", "epsilon"}};
  static constexpr Names<2> kSlots{{"accumulated_gradient", "accumulated_displacement"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, rho, one_minus_rho, epsilon;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    return Prepared<V>{narrow(hyperparameters[0]), narrow(hyperparameters[1]),
                       narrow(Constant(step, 1.0) - hyperparameters[1]), narrow(hyperparameters[2])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    slots[0] = slots[0] * c.rho + gradient * gradient * c.one_minus_rho;
    const auto displacement = Sqrt(slots[1] + c.epsilon) * gradient / Sqrt(slots[0] + c.epsilon);
    slots[1] = slots[1] * c.rho + displacement * displacement * c.one_minus_rho;
    param = param - displacement * c.learning_rate;
  }
};

using Rules = RuleList<Adadelta>;

}  // namespace fusemin::rules::adadelta

#endif  // FUSEMIN_RULES_ADADELTA_H_
