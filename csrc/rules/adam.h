// Adam and AMSGrad, in the form before section 2.1 of the paper ("epsilon hat").
//
//   m <- m + (g - m)(1 - beta_1);  v <- v + (g^2 - v)(1 - beta_2)
//   [amsgrad: w <- max(w, v), else w = v]
//   p <- p - (m alpha) / (sqrt(w) + epsilon)
//   alpha = lr sqrt(1 - beta_2^t) / (1 - beta_1^t)
//
// Sources: Kingma & Ba 2014; Reddi et al. 2018; keras.optimizers.Adam, the
// kernel ResourceApplyAdam.
//
// Traps. Stock computes the powers in the type of the parameter, and 1 -
// beta_2^t loses most of its digits in float32 at small t: to agree, the power
// must be rounded where stock rounds it. Keras takes 1 - beta from the number
// that the user gave, but the powers from that number rounded to float32, so
// the bases of the powers are hyperparameters of their own. The optimizers of
// tf.compat.v1 keep the powers in two variables instead of a count of steps.
// The maximum of the kernel of AMSGrad is another one where v is NaN.
#ifndef FUSEMIN_RULES_ADAM_H_
#define FUSEMIN_RULES_ADAM_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::adam {

// How the two variants come by beta^t.
struct FromIterations {
  static constexpr Names<6> kHyperparameters{
      {"learning_rate", "beta_1", "beta_2", "epsilon", "beta_1_power_base", "beta_2_power_base"}};
  static constexpr Names<0> kScalars{};

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Power(int which, const Wide* hyperparameters, Wide step, Wide* /*scalars*/,
                                        Narrow narrow) {
    return Pow(narrow(hyperparameters[4 + which]), narrow(step));
  }
};

struct FromVariables {
  static constexpr Names<4> kHyperparameters{{"learning_rate", "beta_1", "beta_2", "epsilon"}};
  static constexpr Names<2> kScalars{{"beta_1_power", "beta_2_power"}};

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Power(int which, const Wide* hyperparameters, Wide /*step*/, Wide* scalars,
                                        Narrow narrow) {
    const auto power = narrow(scalars[which]);
    scalars[which] = scalars[which] * hyperparameters[1 + which];
    return power;
  }
};

template <bool kAmsgrad>
struct Slots {
  static constexpr Names<2> kSlots{{"momentum", "velocity"}};
};

template <>
struct Slots<true> {
  static constexpr Names<3> kSlots{{"momentum", "velocity", "velocity_hat"}};
};

enum class Hat { kNone, kMax, kKernelMax };

// kDecayed: the means are written as beta m + (1 - beta) g, which stays infinite after an infinite gradient where the
// other form becomes NaN. So does stock with sparse gradients, in tf_keras legacy and tf.compat.v1.
template <Hat kHat, class Powers, bool kDecayed = false>
struct Adam : Slots<kHat != Hat::kNone>, Powers {
  static constexpr bool kAmsgrad = kHat != Hat::kNone;
  static constexpr const char* kName = kHat == Hat::kMax         ? (kDecayed ? "amsgrad_decayed" : "amsgrad")
                                       : kHat == Hat::kKernelMax ? "amsgrad_kernel"
                                       : Powers::kScalars.kSize  ? (kDecayed ? "adam_powers_decayed" : "adam_powers")
                                                                 : (kDecayed ? "adam_decayed" : "adam");

  template <class V>
  struct Prepared {
    V alpha, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* scalars, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide wide_one = Constant(step, 1.0);
    const V one = narrow(wide_one);
    const V beta_1_power = Powers::Power(0, hyperparameters, step, scalars, narrow);
    const V beta_2_power = Powers::Power(1, hyperparameters, step, scalars, narrow);
    const V alpha = narrow(hyperparameters[0]) * Sqrt(one - beta_2_power) / (one - beta_1_power);
    return Prepared<V>{alpha,
                       narrow(hyperparameters[1]),
                       narrow(wide_one - hyperparameters[1]),
                       narrow(hyperparameters[2]),
                       narrow(wide_one - hyperparameters[2]),
                       narrow(hyperparameters[3])};
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    if constexpr (kDecayed) {
      slots[0] = slots[0] * c.beta_1 + gradient * c.one_minus_beta_1;
      slots[1] = slots[1] * c.beta_2 + gradient * gradient * c.one_minus_beta_2;
    } else {
      slots[0] = slots[0] + (gradient - slots[0]) * c.one_minus_beta_1;
      slots[1] = slots[1] + (gradient * gradient - slots[1]) * c.one_minus_beta_2;
    }
    if constexpr (kHat == Hat::kMax) slots[2] = Max(slots[2], slots[1]);
    if constexpr (kHat == Hat::kKernelMax) slots[2] = KernelMax(slots[2], slots[1]);
    param = param - slots[0] * c.alpha / (Sqrt(slots[kAmsgrad ? 2 : 1]) + c.epsilon);
  }
};

using Rules =
    RuleList<Adam<Hat::kNone, FromIterations>, Adam<Hat::kMax, FromIterations>, Adam<Hat::kKernelMax, FromIterations>,
             Adam<Hat::kNone, FromVariables>, Adam<Hat::kNone, FromIterations, true>,
             Adam<Hat::kMax, FromIterations, true>, Adam<Hat::kNone, FromVariables, true>>;

}  // namespace fusemin::rules::adam

#endif  // FUSEMIN_RULES_ADAM_H_
