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
// A rule may also declare
//   kStepSums         Names: sums over all elements of all parameters of a step;
//   Update            then has one more argument, where it leaves the addends of
//                     its element;
//   Finish            once a step, after all elements, from the sums: scalars, as
//                     `Prepare` left them, to the next ones. All of a step must
//                     then be one call: what the rule updates is of one device
//                     and one dtype, or stock's.
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

template <class R, class = void>
struct StepSums {
  static constexpr Names<0> kNames{};
};
template <class R>
struct StepSums<R, decltype(static_cast<void>(R::kStepSums))> {
  static constexpr auto kNames = R::kStepSums;
};
template <class R>
struct HasStepSums {
  static constexpr bool kValue = StepSums<R>::kNames.kSize > 0;
};

// `Update`, with the addends of the step's sums where the rule has some.
template <class R, class Prepared, class G, class V>
FUSEMIN_HOST_DEVICE void UpdateElement(const Prepared& c, G gradient, V& param, V* slots, V* addends) {
  if constexpr (HasStepSums<R>::kValue) {
    R::Update(c, gradient, param, slots, addends);
  } else {
    R::Update(c, gradient, param, slots);
  }
}

// The larger of two as TensorFlow's kernels of optimizers have it: the first,
// if one of them is NaN. `Max` is NaN then, as TensorFlow's op `Maximum`.
template <class V>
FUSEMIN_HOST_DEVICE V KernelMax(V a, V b) {
  return Select(Less(a, b), b, a);
}

}  // namespace fusemin

#endif  // FUSEMIN_NUMERIC_RULE_LIST_H_
