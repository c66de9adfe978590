#include <string>

#include "all_rules.h"
#include "backends/xla/hlo_rule.h"

namespace fusemin::hlo {
namespace {

template <class R>
class Prepared : public PreparedRule {
 public:
  explicit Prepared(const typename R::template Prepared<Value>& c) : c_(c) {}

  bool has_trust_ratio() const override { return HasTrustRatio<R>::kValue; }
  int num_step_sums() const override { return StepSums<R>::kNames.kSize; }
  void Update(Value gradient, Value* param, Value* slots, Value* addends) const override {
    if constexpr (!HasTrustRatio<R>::kValue) UpdateElement<R>(c_, gradient, *param, slots, addends);
  }
  void Finish(const Value* hyperparameters, Value step, const Value* sums, Value* scalars) const override {
    if constexpr (HasStepSums<R>::kValue) R::Finish(hyperparameters, step, sums, scalars);
  }
  void UpdateSlots(Value gradient, Value* slots) const override {
    if constexpr (HasTrustRatio<R>::kValue) R::UpdateSlots(c_, gradient, slots);
  }
  Value Direction(const Value* slots) const override {
    if constexpr (HasTrustRatio<R>::kValue) return R::Direction(c_, slots);
    return {};
  }
  Value Ratio(Value param_norm, Value direction_norm) const override {
    if constexpr (HasTrustRatio<R>::kValue) return R::Ratio(c_, param_norm, direction_norm);
    return {};
  }

 private:
  const typename R::template Prepared<Value> c_;
};

template <class R>
std::unique_ptr<PreparedRule> Prepare(const Value* hyperparameters, Value step, Value* scalars,
                                      xla::PrimitiveType narrow) {
  return std::make_unique<Prepared<R>>(
      R::Prepare(hyperparameters, step, scalars, [narrow](Value x) { return Convert(x, narrow); }));
}

template <class... R>
PrepareRule FindIn(RuleList<R...>, std::string_view name) {
  PrepareRule found = nullptr;
  ((name == R::kName ? found = Prepare<R> : nullptr), ...);
  return found;
}

}  // namespace

PrepareRule FindRule(std::string_view name) {
#define FUSEMIN_FIND_IN(header, name) \
  if (const PrepareRule found = FindIn(rules::header::Rules(), name)) return found;
  FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_FIND_IN, name)
  return nullptr;
}

}  // namespace fusemin::hlo
