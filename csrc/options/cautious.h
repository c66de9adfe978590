// What a rule does to an element is left out where it disagrees with the gradient, and enlarged elsewhere, by the
// number of elements of the parameter over the number of those that agree.
//
//   u = p - p'  with p' what the rule makes of p
//   phi = 1 where u g > 0, else 0
//   p <- p - d / (|phi|_0 + 1) phi u,  d the number of elements of the parameter
//
// Source: Liang et al. 2024, Cautious Optimizers: Improving Training with One Line of Code, arXiv:2411.16085,
// Algorithm 1. Here g is the gradient that the rule sees (scaled, accumulated, clipped), and p the parameter that it
// sees (after weight decay, which is neither masked nor enlarged, as in the paper).
//
// Traps. Where u is not finite its product with a mask of 0 is NaN, as in the authors' code: a rule that has gone wrong
// is not hidden. u is of p' as it is stored: what is lost in rounding is not enlarged.
#ifndef FUSEMIN_OPTIONS_CAUTIOUS_H_
#define FUSEMIN_OPTIONS_CAUTIOUS_H_

#include "options/option.h"

namespace fusemin {

struct Cautious {
  double cautious = 0.0;

  static constexpr OptionNumber<Cautious> kNumbers[] = {
      {"cautious", &Cautious::cautious,
       "1 where elements that a rule moves up the gradient stay, and it moves the others the further.",
       NumberKind::kFlag, OptionTensors::kNone, OptionSums::kOfEachMove,
       "it enlarges a move by the number of elements that do not, which are nearly all of a sparse gradient"},
  };

  FUSEMIN_HOST_DEVICE bool IsOn() const { return cautious != 0.0; }

  // 1 or `agreeing` where the move agrees with the gradient, else 0.
  template <class V>
  static FUSEMIN_HOST_DEVICE V Mask(V gradient, V move, V agreeing) {
    const V zero = Constant(move, 0.0);
    return Select(Less(zero, move * gradient), agreeing, zero);
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE V MoveTerm(V gradient, V move) {
    return Mask(gradient, move, Constant(move, 1.0));
  }
  template <class Wide>
  static FUSEMIN_HOST_DEVICE Wide MoveFactor(Wide sum, Wide size) {
    return size / (sum + Constant(sum, 1.0));
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE V OnMove(V gradient, V move, V factor) {
    return move * Mask(gradient, move, factor);
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_CAUTIOUS_H_
