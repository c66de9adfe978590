// The rules as HLO: each rule header, instantiated with expressions for values.
#ifndef FUSEMIN_XLA_HLO_RULE_H_
#define FUSEMIN_XLA_HLO_RULE_H_

#include <memory>
#include <string_view>

#include "backends/xla/value.h"

namespace fusemin::hlo {

// A rule at one step, prepared. Values are of the type of the arithmetic, arrays of the shape of the parameter.
class PreparedRule {
 public:
  virtual ~PreparedRule() = default;

  virtual bool has_trust_ratio() const = 0;
  // How many sums of a step the rule has.
  virtual int num_step_sums() const = 0;
  // Replaces the parameter and its slots by the new ones, and leaves the addends of the step's sums. Only without a
  // trust ratio.
  virtual void Update(Value gradient, Value* param, Value* slots, Value* addends) const = 0;
  // Replaces the scalars, as the preparation left them. Only with sums of a step.
  virtual void Finish(const Value* hyperparameters, Value step, const Value* sums, Value* scalars) const = 0;
  // Only with a trust ratio; see csrc/rules/lamb.h.
  virtual void UpdateSlots(Value gradient, Value* slots) const = 0;
  virtual Value Direction(const Value* slots) const = 0;
  virtual Value Ratio(Value param_norm, Value direction_norm) const = 0;
};

// Prepares a step: scalars of float64 in, the next `scalars` out. `narrow` is the type of the arithmetic.
using PrepareRule = std::unique_ptr<PreparedRule> (*)(const Value* hyperparameters, Value step, Value* scalars,
                                                      xla::PrimitiveType narrow);

// Null if there is no rule of that name. Thread-safe.
PrepareRule FindRule(std::string_view name);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_HLO_RULE_H_
