// What a header of an option declares about itself.
//
// An option is what users ask of every optimizer beside its rule: a struct with
//   a double for each number that users give, by the name that Keras has for it; its initial value leaves it off;
//   kNumbers  what there is to know of these numbers, in an array of OptionNumber;
//   IsOn      whether the option does anything;
// and a function for each place of a step at which it does something. CPU, CUDA and XLA call what there is of all
// options, in the order of the list in user_options.h, and know no option. The functions are templates in the
// vocabulary of numeric/math.h: `V` is the type that elements are computed in, `Wide` float64, `Int` int64, `Bool` what
// a comparison gives.
//
// Once a step; `now` is a Now<Wide, Int>:
//   Int Updates<Int>(Int calls)               how often the rule is applied in so many calls
//   Bool Applies<Wide, Int>(now)              whether it is at this call
//   Wide GradientScale<Wide, Int>(Wide, now)  what the gradients that come are multiplied with, from what it is without
//   double CollectedScale()                   the same of what Collect has made
//   Norm WhichNorm()                          the norm of gradients that it needs
//   Wide NormFactor<Wide>(Wide norm)          what the gradients are multiplied with, by that norm
//   bool SkipsNonFinite()                     whether a gradient that is not finite skips the call
//   NextScalars<Wide, Bool>(Wide*, taken)     replaces the variables of OptionTensors::kLossScale after the call
//   Prepared<V> and Prepare<Wide, Int, Narrow>(now, narrow)   what the functions of elements are given
// Once an element, static:
//   V Collect<V>(V sum, V gradient)           in a tensor of OptionTensors::kAccumulators, which the rule sees instead
//   V OnGradient<V>(prepared, V gradient)     after all that scales it
//   V BeforeRule<V>(prepared, V param)        of all parameters, or those of OptionTensors::kDecays
//   V MoveTerm<V>(V gradient, V move)         summed up over a parameter; `move` is what the rule would subtract
//   Wide MoveFactor<Wide>(Wide sum, Wide size)   and what OnMove is given of the sum; `size` is of the parameter
//   V OnMove<V>(V gradient, V move, V factor) what is subtracted instead
//   V AfterRule<V>(prepared, V average, V param)   in a tensor of OptionTensors::kAverages
//   Bool Replaces<V>(prepared)                once a step: whether the parameter becomes that
//
// A place with a tensor or a sum, and the norm, can be of one option only; the list asserts it.
#ifndef FUSEMIN_OPTIONS_OPTION_H_
#define FUSEMIN_OPTIONS_OPTION_H_

#include "numeric/math.h"

namespace fusemin {

constexpr double kOptionOff = -1.0;

enum class NumberKind { kReal, kFlag, kCountOfSteps };

// The tensors or variables that must be there with an option, and only with it.
enum class OptionTensors { kNone, kDecays, kAverages, kAccumulators, kLossScale };
// Variables of kLossScale.
constexpr int kNumOptionScalars = 2;

// What must be summed up over the gradients, or over what the rule would do, before anything is updated.
enum class OptionSums { kNone, kOfEachTensor, kOfAllTensors, kOfEachMove };

// The gradients of one tensor, or those of the step.
enum class Norm { kNone, kOfTensor, kOfStep };

template <class Option>
struct OptionNumber {
  const char* name;
  double Option::* field;
  const char* doc;
  NumberKind kind = NumberKind::kReal;
  OptionTensors tensors = OptionTensors::kNone;
  OptionSums sums = OptionSums::kNone;
  // Null, or why there must be no sparse gradients with it.
  const char* dense_only = nullptr;
};

// The step after so many calls.
template <class Wide, class Int>
struct Now {
  // How often the rule was applied in them is `updates`.
  Int iterations, updates;
  Wide learning_rate;
  Wide scalars[kNumOptionScalars];
};

// Whether the step after so many is the last of each `every`.
template <class Int>
FUSEMIN_HOST_DEVICE auto IsLastOf(Int steps, double every) {
  return Equal(Remainder(steps + Constant(steps, 1.0), Constant(steps, every)), Constant(steps, 0.0));
}

template <class V>
using TruthOf = decltype(Less(V(), V()));

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_OPTION_H_
