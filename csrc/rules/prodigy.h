// Prodigy: Adam that finds its own learning rate, from an estimate d of the distance from the start to the solution.
//
// In the paper, with d_t at step t, a gradient g, the start x0, and gamma the learning rate, which is 1:
//
//   m <- beta_1 m + (1 - beta_1) d_t g;  v <- beta_2 v + (1 - beta_2) d_t^2 g^2
//   r <- beta_3 r + (1 - beta_3) gamma d_t^2 <g, x0 - p>;  s <- beta_3 s + (1 - beta_3) gamma d_t^2 g
//   p <- p - gamma d_t (m / (sqrt(v) + d_t epsilon) + weight_decay p);  d_{t+1} = max(d_t, d_coef r / |s|_1)
//
// <,> and |.|_1 are over all parameters: the step's sums. Here m is divided by d_t, and v, s and r by d_t^2, which is
// the same and leaves them of the size of gradients: with d = 1e-6 a half would hold none of them. So what they were at
// the step before is multiplied with d_{t-1} / d_t, the scalar `d_ratio`, or its square.
//
// Source: Mishchenko & Defazio 2023, arXiv 2306.06101, Algorithm 4, one pass, with d_t beside epsilon, where the
// authors' code, konstmish/prodigy, has d_{t+1}. beta_3, d_coef, weight decay, and the correction of gamma by sqrt(1 -
// beta_2^t) / (1 - beta_1^t) are from there.
//
// Traps. An estimate that is NaN or infinite over infinite must not become d, which would never recover.
#ifndef FUSEMIN_RULES_PRODIGY_H_
#define FUSEMIN_RULES_PRODIGY_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::prodigy {

struct Prodigy {
  static constexpr const char* kName = "prodigy";
  static constexpr Names<8> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "beta_3", "epsilon", "weight_decay", "d_coef", "use_bias_correction"}};
  static constexpr Names<4> kSlots{{"momentum", "velocity", "s", "start"}};
  static constexpr Names<3> kScalars{{"d", "d_ratio", "r"}};
  static constexpr Names<2> kStepSums{{"descent", "magnitude"}};

  template <class V>
  struct Prepared {
    V keeps_momentum, one_minus_beta_1, keeps_velocity, one_minus_beta_2, keeps_s, takes_s, epsilon, rate, keeps_param;
  };

  // The learning rate, corrected for means that begin at 0 if that is asked for.
  template <class Wide>
  static FUSEMIN_HOST_DEVICE Wide Gamma(const Wide* hyperparameters, Wide step) {
    const Wide zero = Constant(step, 0.0), one = Constant(step, 1.0);
    const Wide correction = Sqrt(one - Pow(hyperparameters[2], step)) / (one - Pow(hyperparameters[1], step));
    return hyperparameters[0] * Select(Less(zero, hyperparameters[7]), correction, one);
  }

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* scalars, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide one = Constant(step, 1.0);
    const Wide beta_1 = hyperparameters[1], beta_2 = hyperparameters[2], beta_3 = hyperparameters[3];
    const Wide gamma = Gamma(hyperparameters, step), rate = gamma * scalars[0], ratio = scalars[1];
    return Prepared<V>{narrow(beta_1 * ratio),
                       narrow(one - beta_1),
                       narrow(beta_2 * ratio * ratio),
                       narrow(one - beta_2),
                       narrow(beta_3 * ratio * ratio),
                       narrow((one - beta_3) * gamma),
                       narrow(hyperparameters[4]),
                       narrow(rate),
                       narrow(one - rate * hyperparameters[5])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots, V* addends) {
    const V g = gradient;
    addends[0] = g * (slots[3] - param);
    slots[0] = slots[0] * c.keeps_momentum + g * c.one_minus_beta_1;
    slots[1] = slots[1] * c.keeps_velocity + g * g * c.one_minus_beta_2;
    slots[2] = slots[2] * c.keeps_s + g * c.takes_s;
    addends[1] = Abs(slots[2]);
    param = param * c.keeps_param - slots[0] * c.rate / (Sqrt(slots[1]) + c.epsilon);
  }

  template <class Wide>
  static FUSEMIN_HOST_DEVICE void Finish(const Wide* hyperparameters, Wide step, const Wide* sums, Wide* scalars) {
    const Wide zero = Constant(step, 0.0), one = Constant(step, 1.0);
    const Wide beta_3 = hyperparameters[3], ratio = scalars[1], d = scalars[0];
    scalars[2] = scalars[2] * beta_3 * ratio * ratio + sums[0] * (one - beta_3) * Gamma(hyperparameters, step);
    const Wide estimate = Select(Less(zero, sums[1]), hyperparameters[6] * scalars[2] / sums[1], zero);
    scalars[0] = KernelMax(d, estimate);
    scalars[1] = d / scalars[0];
  }
};

using Rules = RuleList<Prodigy>;

}  // namespace fusemin::rules::prodigy

#endif  // FUSEMIN_RULES_PRODIGY_H_
