#include "xla/hlo_step.h"

#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo_rule.h"

namespace fusemin::hlo {
namespace {

constexpr double kOff = StepOptions::kOff;

Value Int(xla::XlaBuilder* builder, int64_t c) { return {xla::ConstantR0<int64_t>(builder, c), xla::S64}; }
Condition Equal(Value a, Value b) { return {xla::Eq(a.op, b.op)}; }
Condition And(Condition a, Condition b) { return {xla::And(a.op, b.op)}; }

// The call after `iterations` is one of `every`, the last of each.
Condition IsLastOf(Value iterations, double every) {
  xla::XlaBuilder* const builder = iterations.op.builder();
  const Value n = Int(builder, static_cast<int64_t>(every));
  return Equal({xla::Rem((iterations + Int(builder, 1)).op, n.op), xla::S64}, Int(builder, 0));
}

Value SumOfSquares(Value x) {
  const Value wide = Convert(x, xla::F64);
  xla::XlaBuilder* const builder = x.op.builder();
  return {xla::ReduceAll(xla::Mul(wide.op, wide.op), xla::ConstantR0<double>(builder, 0.0),
                         xla::CreateScalarAddComputation(xla::F64, builder)),
          xla::F64};
}

Condition AllFinite(Value x) {
  xla::XlaBuilder* const builder = x.op.builder();
  return {xla::ReduceAll(xla::IsFinite(x.op), xla::ConstantR0<bool>(builder, true),
                         xla::CreateScalarAndComputation(xla::PRED, builder))};
}

class Step {
 public:
  Step(const StepAttributes& attributes, const StepValues& before)
      : a_(attributes),
        user_(attributes.options),
        before_(before),
        after_(before),
        builder_(before.segments[0].param.op.builder()),
        stored_(before.segments[0].param.type),
        // As numeric/half.h has it.
        arithmetic_(stored_ == xla::F64 ? xla::F64 : xla::F32) {}

  StepValues operator()() {
    const bool accumulates = a_.has_accumulators;
    const Value updates = accumulates ? Value{xla::Div(before_.iterations.op, SumSteps().op), xla::S64}  //
                                      : before_.iterations;
    if (accumulates) {
      Accumulate();
      applies_ = IsLastOf(before_.iterations, user_.gradient_accumulation_steps);
    }
    const std::vector<Value> scales = Scales();
    Value scalars[kMaxScalars];
    std::copy(std::begin(before_.scalars), std::end(before_.scalars), scalars);
    const std::unique_ptr<PreparedRule> rule =
        FindRule(a_.rule->name)(before_.hyperparameters, Convert(updates, xla::F64) + Wide(1.0), scalars, arithmetic_);
    for (int i = 0; i < a_.num_params; ++i) Update(*rule, i, scales);
    if (a_.has_averages) FollowByAverages(updates);
    for (int k = 0; k < a_.rule->num_scalars; ++k) after_.scalars[k] = IfApplies(scalars[k], before_.scalars[k]);
    after_.iterations = before_.iterations + Int(builder_, 1);
    if (a_.has_loss_scale) SkipIfNotFinite();
    return after_;
  }

 private:
  Value Wide(double c) const { return Scalar(builder_, xla::F64, c); }
  Value SumSteps() const { return Int(builder_, static_cast<int64_t>(user_.gradient_accumulation_steps)); }
  Value Load(Value x) const { return Convert(x, arithmetic_); }
  Value Store(Value x) const { return Convert(x, stored_); }
  Value Narrow(Value x) const { return Convert(x, arithmetic_); }
  Value IfApplies(Value yes, Value no) const { return a_.has_accumulators ? Select(applies_, yes, no) : yes; }

  // What the gradient is multiplied with as it comes in.
  Value GradientScale() const {
    if (a_.has_loss_scale) return Wide(1.0) / before_.loss_scale;
    return Wide(user_.loss_scale_factor != kOff ? 1.0 / user_.loss_scale_factor : 1.0);
  }

  void Accumulate() {
    const Value scale = Narrow(GradientScale());
    for (SegmentValues& segment : after_.segments) {
      segment.accumulator = Store(Load(segment.accumulator) + Load(segment.gradient) * scale);
    }
  }

  // The gradient as the update begins with it.
  Value Gradient(int i) const {
    return a_.has_accumulators ? after_.segments[i].accumulator : before_.segments[i].gradient;
  }

  // What each gradient is multiplied with; none if that is 1. Sets `finite_`.
  std::vector<Value> Scales() {
    const bool dynamic = a_.has_loss_scale;
    const Value scale = a_.has_accumulators ? Wide(1.0 / user_.gradient_accumulation_steps) : GradientScale();
    const bool scaled = a_.has_accumulators || dynamic || user_.loss_scale_factor != kOff;
    const auto scaled_norm = [&](Value squares) { return Sqrt(squares) * scale; };
    std::vector<Value> scales(scaled ? a_.num_params : 0, scale);
    if (dynamic) {
      for (int i = 0; i < a_.num_params; ++i) {
        const Condition finite = AllFinite(Gradient(i));
        finite_ = i == 0 ? finite : And(finite_, finite);
      }
    }
    if (user_.clipnorm != kOff) {
      const Value limit = Wide(user_.clipnorm);
      scales.resize(a_.num_params);
      for (int i = 0; i < a_.num_params; ++i) {
        // As in tf.clip_by_norm: a norm of infinity leaves 0, and NaN where the gradient is infinite.
        scales[i] = scale * (limit / Max(scaled_norm(SumOfSquares(Gradient(i))), limit));
      }
    } else if (user_.global_clipnorm != kOff) {
      Value squares = Wide(0.0);
      for (int i = 0; i < a_.num_params; ++i) squares = squares + SumOfSquares(Gradient(i));
      const Value norm = scaled_norm(squares), limit = Wide(user_.global_clipnorm);
      // As in tf.clip_by_global_norm: a norm that is not finite makes all gradients NaN.
      const Value factor = limit * Min(Wide(1.0) / norm, Wide(1.0) / limit) + (norm - norm);
      scales.assign(a_.num_params, scale * factor);
    }
    return scales;
  }

  Value ScaledAndClipped(int i, const std::vector<Value>& scales) const {
    Value gradient = Load(Gradient(i));
    if (!scales.empty()) gradient = gradient * Narrow(scales[i]);
    if (user_.clipvalue != kOff) {
      const Value limit = Narrow(Wide(user_.clipvalue));
      // NaN stays.
      gradient = Min(Max(gradient, -limit), limit);
    }
    return Load(Store(gradient));
  }

  void Update(const PreparedRule& rule, int i, const std::vector<Value>& scales) {
    const SegmentValues& old = before_.segments[i];
    SegmentValues& segment = after_.segments[i];
    const int num_slots = a_.rule->num_slots;
    Value param = Load(old.param), slots[kMaxSlots];
    for (int k = 0; k < num_slots; ++k) slots[k] = Load(old.slots[k]);
    if (!a_.decays.empty() && a_.decays[i]) {
      param = param - param * Narrow(Wide(user_.weight_decay)) * Narrow(before_.hyperparameters[0]);
      param = Load(Store(param));
    }
    const Value gradient = ScaledAndClipped(i, scales);
    if (rule.has_trust_ratio()) {
      rule.UpdateSlots(gradient, slots);
      for (int k = 0; k < num_slots; ++k) slots[k] = Load(Store(slots[k]));
      const Value direction = rule.Direction(slots);
      const Value param_norm = Sqrt(SumOfSquares(param)), direction_norm = Sqrt(SumOfSquares(direction));
      param = param - rule.Ratio(Narrow(param_norm), Narrow(direction_norm)) * direction;
    } else {
      rule.Update(gradient, &param, slots);
    }
    segment.param = IfApplies(Store(param), old.param);
    for (int k = 0; k < num_slots; ++k) segment.slots[k] = IfApplies(Store(slots[k]), old.slots[k]);
    if (a_.has_accumulators) segment.accumulator = Select(applies_, Constant(old.param, 0.0), segment.accumulator);
  }

  void FollowByAverages(Value updates) {
    Value keep = Wide(user_.ema_momentum);
    if (user_.ema_starts_at_param != 0.0) keep = Select(Equal(updates, Int(builder_, 0)), Wide(0.0), keep);
    // Keras 3 subtracts the momentum from 1 in the type of the variable, tf_keras before it is rounded to that.
    const Value take = Wide(1.0) - (user_.ema_starts_at_param != 0.0 ? Convert(Narrow(keep), xla::F64) : keep);
    for (int i = 0; i < a_.num_params; ++i) {
      SegmentValues& segment = after_.segments[i];
      segment.average = Store(Narrow(keep) * Load(before_.segments[i].average) + Narrow(take) * Load(segment.param));
      if (user_.ema_overwrite_frequency != kOff) {
        const Condition overwrites = IsLastOf(updates, user_.ema_overwrite_frequency);
        segment.param = Select(overwrites, segment.average, segment.param);
      }
    }
  }

  // All stays as it was, but the loss scale, if a gradient is not finite in a call that applies.
  void SkipIfNotFinite() {
    const Condition taken = a_.has_accumulators ? Condition{xla::Or(finite_.op, xla::Not(applies_.op))} : finite_;
    const auto if_taken = [&](Value* after, Value before) { *after = Select(taken, *after, before); };
    for (int i = 0; i < a_.num_params; ++i) {
      SegmentValues& segment = after_.segments[i];
      const SegmentValues& old = before_.segments[i];
      if_taken(&segment.param, old.param);
      for (int k = 0; k < a_.rule->num_slots; ++k) if_taken(&segment.slots[k], old.slots[k]);
      if (a_.has_averages) if_taken(&segment.average, old.average);
      if (a_.has_accumulators) if_taken(&segment.accumulator, old.accumulator);
    }
    for (int k = 0; k < a_.rule->num_scalars; ++k) if_taken(&after_.scalars[k], before_.scalars[k]);
    if_taken(&after_.iterations, before_.iterations);
    const Value counted = before_.loss_counter + Wide(1.0);
    const Condition grows = And(taken, Equal(counted, Wide(user_.dynamic_growth_steps)));
    after_.loss_scale = before_.loss_scale * Select(grows, Wide(2.0), Select(taken, Wide(1.0), Wide(0.5)));
    after_.loss_counter = Select(taken, Select(grows, Wide(0.0), counted), Wide(0.0));
  }

  const StepAttributes& a_;
  const UserOptions& user_;
  const StepValues& before_;
  StepValues after_;
  xla::XlaBuilder* const builder_;
  const xla::PrimitiveType stored_, arithmetic_;
  // Whether this call uses the accumulated gradients, and whether all gradients are finite.
  Condition applies_, finite_;
};

}  // namespace

StepValues HloStep(const StepAttributes& attributes, const StepValues& before) { return Step(attributes, before)(); }

}  // namespace fusemin::hlo
