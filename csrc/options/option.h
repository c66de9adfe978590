// What a header of an option declares about itself.
//
// An option is what users ask of every optimizer beside its rule: a struct with
//   a double for each number that users give, by the name that Keras has for it; its initial value leaves the option
//   off; kNumbers  what there is to know of these numbers, in an array of OptionNumber; and what it does, once a step
//   or once an element, in the vocabulary of numeric/math.h, for the CPU, CUDA and XLA.
// `UserOptions` in user_options.h lists the options; table.h has the numbers of all of them.
#ifndef FUSEMIN_OPTIONS_OPTION_H_
#define FUSEMIN_OPTIONS_OPTION_H_

#include "numeric/math.h"

namespace fusemin {

constexpr double kOptionOff = -1.0;

enum class NumberKind { kReal, kFlag, kCountOfSteps };

// The tensors or variables that must be there with an option, and only with it.
enum class OptionTensors { kNone, kDecays, kAverages, kAccumulators, kLossScale };

// What must be summed up over the gradients before the update begins.
enum class OptionSums { kNone, kOfEachTensor, kOfAllTensors };

template <class Option>
struct OptionNumber {
  const char* name;
  double Option::* field;
  const char* doc;
  NumberKind kind = NumberKind::kReal;
  OptionTensors tensors = OptionTensors::kNone;
  OptionSums sums = OptionSums::kNone;
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_OPTION_H_
