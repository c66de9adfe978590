// Schedule-free AdamW: the average of the iterates takes the place of a schedule of the learning rate.
//
//   lr_t = lr min(1, t / warmup_steps) sqrt(1 - beta_2^t);  L <- max(L, lr_t)
//   w = t^r L^weight_lr_power;  W <- W + w;  c = w / W
//   v <- beta_2 v + (1 - beta_2) g^2;  u = g / (sqrt(v) + epsilon) + weight_decay y
//   y <- y + c (z - y) - lr_t (1 - beta_1 (1 - c)) u;  z <- z - lr_t u
//
// y, where the gradient is taken, is the parameter. The average x = y + (z - y)(1 - 1 / beta_1) is not held:
// y <- (1 - beta_1) z + beta_1 x of the paper, with x <- (1 - c) x + c z, is the line above.
//
// Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682, Algorithm 1 and section 4; the form without
// x, and the weights, which are lr_t^2 in the paper, are those of the authors' code, facebookresearch/schedule_free.
#ifndef FUSEMIN_RULES_SCHEDULE_FREE_H_
#define FUSEMIN_RULES_SCHEDULE_FREE_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::schedule_free {

struct ScheduleFreeAdamW {
  static constexpr const char* kName = "schedule_free_adamw";
  static constexpr Names<8> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay", "warmup_steps", "r", "weight_lr_power"}};
  static constexpr Names<2> kSlots{{"z", "velocity"}};
  static constexpr Names<2> kScalars{{"weight_sum", "largest_rate"}};

  template <class V>
  struct Prepared {
    V beta_2, one_minus_beta_2, epsilon, weight_decay;
    // c, lr_t and lr_t (1 - beta_1 (1 - c)).
    V weight, rate, param_rate;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* scalars, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide zero = Constant(step, 0.0), one = Constant(step, 1.0);
    const Wide beta_2 = hyperparameters[2], warmup_steps = hyperparameters[5];
    const Wide warmup = Select(Less(step, warmup_steps), step / warmup_steps, one);
    const Wide rate = hyperparameters[0] * warmup * Sqrt(one - Pow(beta_2, step));
    scalars[1] = Max(scalars[1], rate);
    const Wide weight = Pow(step, hyperparameters[6]) * Pow(scalars[1], hyperparameters[7]);
    scalars[0] = scalars[0] + weight;
    const Wide share = Select(Less(zero, scalars[0]), weight / scalars[0], zero);
    return Prepared<V>{narrow(beta_2),
                       narrow(one - beta_2),
                       narrow(hyperparameters[3]),
                       narrow(hyperparameters[4]),
                       narrow(share),
                       narrow(rate),
                       narrow(rate * (one - hyperparameters[1] * (one - share)))};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    const V g = gradient;
    slots[1] = slots[1] * c.beta_2 + g * g * c.one_minus_beta_2;
    const V descent = g / (Sqrt(slots[1]) + c.epsilon) + param * c.weight_decay;
    param = param + (slots[0] - param) * c.weight - descent * c.param_rate;
    slots[0] = slots[0] - descent * c.rate;
  }
};

using Rules = RuleList<ScheduleFreeAdamW>;

}  // namespace fusemin::rules::schedule_free

#endif  // FUSEMIN_RULES_SCHEDULE_FREE_H_
