// What a step costs, by its sizes alone: for `explain` and the launcher of the CUDA kernels.
#ifndef FUSEMIN_KERNELS_STEP_COST_H_
#define FUSEMIN_KERNELS_STEP_COST_H_

#include <cstdint>

#include "options/table.h"
#include "step/step.h"

namespace fusemin {

// Elements of one tensor that a step reads and writes.
inline uint64_t ElementsMoved(const Rule& rule, const UserOptions& options, const Segment& segment) {
  const bool averages = segment.average_in != nullptr, accumulates = segment.accumulator_in != nullptr;
  uint64_t n = 1 + 2 + 2 * rule.num_slots;  // The gradient, the parameter, the slots.
  if (averages) n += 2;
  if (accumulates) n += 2;
  if (segment.gradient_row != nullptr) n += 1;
  if (segment.param_row != nullptr) n += 1;
  if (NeedsSums(options)) {
    n += 1;  // The gradient once more, and the accumulator, or the new accumulator instead of the gradient.
    if (accumulates) n += segment.gradient_row == nullptr || options.SkipsNonFinite() ? 1 : 2;
  }
  if (rule.has_trust_ratio) {
    n += 1 + rule.num_slots;  // Parameter and slots are read once more, and a parameter that decays is written.
    if (options.AnyBeforeRule(segment.decays)) n += 1;
  }
  if (options.Any<HasOnMove>()) {
    n += rule.has_trust_ratio ? 1 : 0;  // The gradient once more, in the pass that moves the parameter.
    n += 2 + rule.num_slots;            // A trial reads what the rule does.
  }
  return n * segment.size;
}

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_STEP_COST_H_
