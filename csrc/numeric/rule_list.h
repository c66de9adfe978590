// What a rule header declares about itself.
//
// A rule is a struct with
//   kName             the name in the op's attribute `rule`;
//   kHyperparameters  Names: the raw hyperparameters, in the op's order;
//   kSlots            Names: the slot variables of one parameter, in order;
//   kScalars          Names: scalar variables that the step reads and replaces;
//   Prepared<V>       what `Prepare` hands to `Update`;
//   Prepare           once a step; `narrow` rounds a wide number (double) to the
//                     value type. Stock optimizers round there too, and which
//                     operation comes before the rounding is part of the rule;
//   Update            once an element: new parameter and slots from old. The
//                     gradient is of a type of its own, G, which multiplies,
//                     divides and converts to V: its square, `gradient *
//                     gradient`, need not be that of its value, see
//                     SeparateSlices in backends/cpu/rule_loops.h.
// The namespace of the header is its file name, and holds `using Rules =
// RuleList<...>` with the variants that the file defines.
#ifndef FUSEMIN_NUMERIC_RULE_LIST_H_
#define FUSEMIN_NUMERIC_RULE_LIST_H_

#include "numeric/math.h"

namespace fusemin {

template <int N>
struct Names {
  static constexpr int kSize = N;
  const char* text[N == 0 ? 1 : N];
};

template <class... R>
struct RuleList {};

// Whether a rule has `Direction` and `Ratio` instead of an `Update` of the parameter.
template <class R, class = void>
struct HasTrustRatio {
  static constexpr bool kValue = false;
};
template <class R>
struct HasTrustRatio<R, decltype(static_cast<void>(R::kTrustRatio))> {
  static constexpr bool kValue = R::kTrustRatio;
};

// The larger of two as TensorFlow's kernels of optimizers have it: the first,
// if one of them is NaN. `Max` is NaN then, as TensorFlow's op `Maximum`.
template <class V>
FUSEMIN_HOST_DEVICE V KernelMax(V a, V b) {
  return Select(Less(a, b), b, a);
}

}  // namespace fusemin

#endif  // FUSEMIN_NUMERIC_RULE_LIST_H_
