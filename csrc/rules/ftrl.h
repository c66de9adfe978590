// Ftrl, "follow the regularised leader": the parameter is the minimum of all
// past gradients' linear models under an L1 and an L2 penalty.
//
//   a' = a + g^2;  s(x) = x^(-learning_rate_power)
//   z <- z + g + 2 l2_shrinkage p - (s(a') - s(a)) p / lr
//   q = s(a') / lr + 2 (l2 + beta / (2 lr));  a <- a'
//   p <- (clip(z, -l1, l1) - z) / q
//
// Sources: McMahan et al. 2013; keras.optimizers.Ftrl, the kernels
// ResourceApplyFtrl and ResourceApplyFtrlV2.
//
// Traps. The learning rate power is -1/2 but for a few users: then s is a root,
// a rule of its own as a power costs many times more. The kernels write the
// last line as 0 where |z| <= l1, and (sign(z) l1 - z) / q elsewhere: the same,
// but where z is NaN, and where q is 0 since nothing has been accumulated yet.
#ifndef FUSEMIN_RULES_FTRL_H_
#define FUSEMIN_RULES_FTRL_H_

#include "numeric/rule_list.h"

namespace fusemin::rules::ftrl {

template <bool kRoot, bool kKernel>
struct Ftrl {
  static constexpr const char* kName = kKernel ? (kRoot ? "ftrl_kernel" : "ftrl_power_kernel")  //
                                               : (kRoot ? "ftrl" : "ftrl_power");
  static constexpr Names<6> kHyperparameters{
      {"learning_rate", "learning_rate_power", "l1", "l2", "l2_shrinkage", "beta"}};
  static constexpr Names<2> kSlots{{"accumulator", "linear"}};
  static constexpr Names<0> kScalars{};

  template <class V>
  struct Prepared {
    V learning_rate, power, l1, twice_l2, twice_l2_shrinkage;
  };

  template <class Wide, class Narrow>
  static FUSEMIN_HOST_DEVICE auto Prepare(const Wide* hyperparameters, Wide step, Wide* /*scalars*/, Narrow narrow) {
    using V = decltype(narrow(step));
    const Wide wide_two = Constant(step, 2.0);
    const V two = narrow(wide_two);
    const V learning_rate = narrow(hyperparameters[0]);
    const V l2 = narrow(hyperparameters[3]) + narrow(hyperparameters[5]) / (two * learning_rate);
    return Prepared<V>{learning_rate, narrow(-hyperparameters[1]), narrow(hyperparameters[2]), two * l2,
                       narrow(wide_two * hyperparameters[4])};
  }

  template <class V>
  static FUSEMIN_HOST_DEVICE V Scale(const Prepared<V>& c, V accumulator) {
    if constexpr (kRoot) {
      return Sqrt(accumulator);
    } else {
      return Pow(accumulator, c.power);
    }
  }

  template <class V, class G>
  static FUSEMIN_HOST_DEVICE void Update(const Prepared<V>& c, G gradient, V& param, V* slots) {
    const V old_scale = Scale(c, slots[0]);
    slots[0] = slots[0] + gradient * gradient;
    const V scale = Scale(c, slots[0]);
    slots[1] = slots[1] + (gradient + param * c.twice_l2_shrinkage - (scale - old_scale) / c.learning_rate * param);
    const V quadratic = scale / c.learning_rate + c.twice_l2;
    if constexpr (kKernel) {
      param = Select(Less(c.l1, Abs(slots[1])), (c.l1 * Sign(slots[1]) - slots[1]) / quadratic, Constant(param, 0.0));
    } else {
      param = (Max(Min(slots[1], c.l1), -c.l1) - slots[1]) / quadratic;
    }
  }
};

using Rules = RuleList<Ftrl<true, false>, Ftrl<false, false>, Ftrl<true, true>, Ftrl<false, true>>;

}  // namespace fusemin::rules::ftrl

#endif  // FUSEMIN_RULES_FTRL_H_
