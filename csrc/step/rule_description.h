// What the other layers see of a rule, but for its kernels.
#ifndef FUSEMIN_KERNELS_RULE_DESCRIPTION_H_
#define FUSEMIN_KERNELS_RULE_DESCRIPTION_H_

#include "numeric/rule_list.h"
#include "step/step.h"

namespace fusemin {

template <class R>
constexpr FUSEMIN_HOST_DEVICE Rule Describe() {
  Rule rule{};
  rule.name = R::kName;
  rule.num_hyperparameters = R::kHyperparameters.kSize;
  rule.num_slots = R::kSlots.kSize;
  rule.num_scalars = R::kScalars.kSize;
  rule.num_step_sums = StepSums<R>::kNames.kSize;
  rule.has_trust_ratio = HasTrustRatio<R>::kValue;
  rule.hyperparameters = R::kHyperparameters.text;
  rule.slots = R::kSlots.text;
  rule.scalars = R::kScalars.text;
  rule.step_sums = StepSums<R>::kNames.text;
  return rule;
}

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_RULE_DESCRIPTION_H_
