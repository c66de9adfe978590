#include "backends/xla/hlo_step.h"

#include <algorithm>

#include "backends/xla/element_reads.h"
#include "backends/xla/hlo_rule.h"
#include "backends/xla/loop_body.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/shape_util.h"

namespace fusemin::hlo {
namespace {

// Of float64.
Value Sum(Value x) {
  xla::XlaBuilder* const builder = x.op.builder();
  return {
      xla::ReduceAll(x.op, xla::ConstantR0<double>(builder, 0.0), xla::CreateScalarAddComputation(xla::F64, builder)),
      xla::F64};
}

Value SumOfSquares(Value x) {
  const Value wide = Convert(x, xla::F64);
  return Sum(wide * wide);
}

// Whether all gradients are finite.
Value AllFinite(const std::vector<SegmentValues>& segments) {
  xla::XlaBuilder* const builder = segments[0].gradient.op.builder();
  const auto flag = [](xla::XlaOp truth) { return xla::Reshape(xla::ConvertElementType(truth, xla::S32), {1}); };
  std::vector<xla::XlaOp> not_finite;
  for (const SegmentValues& segment : segments) {
    const xla::XlaOp finite = xla::ReduceAll(xla::IsFinite(segment.gradient.op), xla::ConstantR0<bool>(builder, true),
                                             xla::CreateScalarAndComputation(xla::PRED, builder));
    not_finite.push_back(flag(xla::Not(finite)));
  }
  // The first that is not, or the last here. Not by `And`: XLA makes a chain of that, and of every plain reduction of
  // so few, and computes the chain anew in each kernel that asks.
  not_finite.push_back(flag(xla::ConstantR0<bool>(builder, true)));
  const xla::XlaOp first = xla::ArgMax(xla::ConcatInDim(builder, not_finite, 0), xla::S32, 0);
  return {xla::Eq(first, xla::ConstantR0<int32_t>(builder, static_cast<int32_t>(segments.size()))), xla::PRED};
}

// All that does not depend on the element. What a step does not need is left uninitialized.
struct Scalars {
  std::unique_ptr<PreparedRule> rule;
  // Of the update, from 1.
  Value number;
  UserOptions::Prepared<Value> options;
  // What the gradient is multiplied with as it is collected, and as it is used: for each parameter, or none.
  Value collected_scale;
  std::vector<Value> scales;
  // Whether this call applies the rule, and whether it changes anything but the scalars of the options.
  Value applies, taken;
};

class Step {
 public:
  Step(const StepAttributes& attributes, const StepValues& before)
      : a_(attributes),
        user_(attributes.options),
        before_(before),
        after_(before),
        builder_(before.segments[0].param.op.builder()),
        reads_(builder_, ReplacedArrays(before.segments)),
        stored_(before.segments[0].param.type),
        // As numeric/half.h has it.
        arithmetic_(stored_ == xla::F64 ? xla::F64 : xla::F32) {}

  std::optional<StepValues> operator()(Loops loops) {
    Value next_scalars[kMaxScalars];
    const Scalars scalars = Prepare(next_scalars);
    for (int k = 0; k < scalars.rule->num_step_sums(); ++k) step_sums_[k] = Wide(0.0);
    for (int i = 0; i < a_.num_params; ++i) {
      const bool is_loop = loops != Loops::kNone && UpdateInLoop(scalars, i);
      if (!is_loop && loops == Loops::kAll) return std::nullopt;
      if (!is_loop) after_.segments[i] = Update(scalars, i, before_.segments[i]);
    }
    if (scalars.rule->num_step_sums() > 0) {
      scalars.rule->Finish(before_.hyperparameters, scalars.number, step_sums_, next_scalars);
    }
    for (int k = 0; k < a_.rule->num_scalars; ++k) {
      const Value next = Select(scalars.applies, next_scalars[k], before_.scalars[k]);
      after_.scalars[k] = Select(scalars.taken, next, before_.scalars[k]);
    }
    after_.iterations = Select(scalars.taken, Next(before_.iterations), before_.iterations);
    user_.NextScalars(after_.option_scalars, scalars.taken);
    return std::move(after_);
  }

 private:
  Value Wide(double c) const { return Scalar(builder_, xla::F64, c); }
  static Value Next(Value count) { return count + Constant(count, 1.0); }
  Value Load(Value x) const { return Convert(x, arithmetic_); }
  Value Store(Value x) const { return Convert(x, stored_); }

  Scalars Prepare(Value* next_scalars) const {
    Scalars s;
    Now<Value, Value> now{before_.iterations, user_.Updates(before_.iterations), before_.hyperparameters[0], {}};
    std::copy(std::begin(before_.option_scalars), std::end(before_.option_scalars), now.scalars);
    const auto narrow = [this](Value x) { return Load(x); };
    user_.Prepare(now, narrow, &s.options);
    s.applies = user_.Applies(now);
    s.taken = user_.SkipsNonFinite() ? AllFinite(before_.segments) : Known(now.iterations, true);
    Value scale = user_.GradientScale(now);
    if (a_.has_accumulators) {
      s.collected_scale = Load(scale);
      scale = Wide(user_.CollectedScale());
    }
    SetScales(scale, &s);
    std::copy(std::begin(before_.scalars), std::end(before_.scalars), next_scalars);
    // Of the integer that replaces the count, so that the old one is not needed beside it.
    s.number = Convert(Next(now.updates), xla::F64);
    s.rule = FindRule(a_.rule->name)(before_.hyperparameters, s.number, next_scalars, arithmetic_);
    return s;
  }

  // `scale` is what all gradients are multiplied with.
  void SetScales(Value scale, Scalars* s) const {
    const auto factor = [&](Value squares) { return Load(scale * user_.NormFactor(Sqrt(squares) * scale)); };
    if (scale.known != 1.0) s->scales.assign(a_.num_params, Load(scale));
    if (user_.WhichNorm() == Norm::kOfTensor) {
      s->scales.resize(a_.num_params);
      for (int i = 0; i < a_.num_params; ++i) {
        s->scales[i] = factor(SumOfSquares(Gradient(*s, before_.segments[i])));
      }
    } else if (user_.WhichNorm() == Norm::kOfStep) {
      Value squares = Wide(0.0);
      for (int i = 0; i < a_.num_params; ++i) {
        squares = squares + SumOfSquares(Gradient(*s, before_.segments[i]));
      }
      s->scales.assign(a_.num_params, factor(squares));
    }
  }

  // The gradient as the update begins with it, as stored.
  Value Gradient(const Scalars& s, const SegmentValues& segment) const {
    if (!a_.has_accumulators) return segment.gradient;
    return Store(UserOptions::Collect(Load(segment.accumulator), Load(segment.gradient) * s.collected_scale));
  }

  // Where the parameter goes that a rule would move from `old` to `moved`.
  Value OnMove(Value gradient, Value old, Value moved) const {
    const absl::StatusOr<xla::Shape> shape = builder_->GetShape(old.op);
    if (!shape.ok()) return {builder_->ReportError(shape.status()), old.type};
    const Value move = old - Load(Store(moved));
    const Value sum = Sum(Convert(UserOptions::MoveTerm(gradient, move), xla::F64));
    const Value size = Wide(static_cast<double>(xla::ShapeUtil::ElementsIn(*shape)));
    return old - UserOptions::OnMove(gradient, move, Load(UserOptions::MoveFactor(sum, size)));
  }

  // Parameter i with its slots after the step.
  SegmentValues Update(const Scalars& s, int i, const SegmentValues& old) {
    SegmentValues segment = old;
    const int num_slots = a_.rule->num_slots;
    const Value collected = Gradient(s, old);
    Value gradient = Load(collected);
    if (!s.scales.empty()) gradient = gradient * s.scales[i];
    gradient = Load(Store(UserOptions::OnGradient(s.options, gradient)));
    Value param = Load(old.param), slots[kMaxSlots];
    for (int k = 0; k < num_slots; ++k) slots[k] = Load(old.slots[k]);
    const bool decays = !a_.decays.empty() && a_.decays[i];
    if (user_.AnyBeforeRule(decays)) param = Load(Store(UserOptions::BeforeRule(s.options, decays, param)));
    const Value before_rule = param;
    if (s.rule->has_trust_ratio()) {
      s.rule->UpdateSlots(gradient, slots);
      for (int k = 0; k < num_slots; ++k) slots[k] = Load(Store(slots[k]));
      const Value direction = s.rule->Direction(slots);
      const Value param_norm = Load(Sqrt(SumOfSquares(param)));
      const Value direction_norm = Load(Sqrt(SumOfSquares(direction)));
      param = param - s.rule->Ratio(param_norm, direction_norm) * direction;
    } else {
      Value addends[kMaxStepSums];
      s.rule->Update(gradient, &param, slots, addends);
      for (int k = 0; k < s.rule->num_step_sums(); ++k) {
        step_sums_[k] = step_sums_[k] + Sum(Convert(addends[k], xla::F64));
      }
    }
    if (user_.Any<HasOnMove>()) param = OnMove(gradient, before_rule, param);
    segment.param = Select(s.applies, Store(param), old.param);
    for (int k = 0; k < num_slots; ++k) segment.slots[k] = Select(s.applies, Store(slots[k]), old.slots[k]);
    if (a_.has_accumulators) segment.accumulator = Select(s.applies, Constant(old.param, 0.0), collected);
    if (a_.has_averages) {
      segment.average = Store(UserOptions::AfterRule(s.options, Load(old.average), Load(segment.param)));
      // Outside of a loop over elements: XLA refuses what nobody uses there.
      const Value replaces = UserOptions::Replaces(s.options, Known(before_.iterations, false));
      segment.param = Select(replaces, segment.average, segment.param);
    }
    ForEach([&](auto member) { member(segment) = Select(s.taken, member(segment), member(old)); });
    return segment;
  }

  // The same by one loop over the elements of parameter i, or as XLA makes one of it by itself. False where neither can
  // be.
  bool UpdateInLoop(const Scalars& s, int i) {
    SegmentValues old = before_.segments[i];
    const std::vector<xla::XlaOp> replaced = ReplacedArrays({old});
    const absl::StatusOr<xla::Shape> shape = builder_->GetShape(old.param.op);
    const std::optional<int64_t> min_bytes = LoopBody::MinBytes();
    // With a trust ratio, and where an option changes what the rule does, there are sums between two loops. Of sums of
    // the step, a loop gives none over its elements.
    const bool has_sums = s.rule->has_trust_ratio() || user_.Any<HasOnMove>() || s.rule->num_step_sums() > 0;
    if (!shape.ok() || !min_bytes.has_value() || has_sums) return false;
    if (replaced.size() == 1 ||
        static_cast<int64_t>(replaced.size()) * xla::ShapeUtil::ByteSizeOf(*shape) < *min_bytes) {
      after_.segments[i] = Update(s, i, old);
      return true;
    }
    // Of bfloat16 XLA has no reductions, and would replace the root of the loop.
    const auto is_state = [&](xla::XlaOp array) { return reads_.IsLoopState(array); };
    if (stored_ == xla::BF16 || !std::all_of(replaced.begin(), replaced.end(), is_state)) return false;
    LoopBody body(builder_);
    // In the order of the results that replace them.
    ForEach([&](auto member) { member(old) = body.Bring(member(old)); });
    old.gradient = body.Bring(old.gradient);
    SegmentValues segment = Update(s, i, old);
    for (size_t k = replaced.size(); k < body.operands().size(); ++k) {
      if (!reads_.AreOfElement(body.operands()[k], replaced)) return false;
    }
    std::vector<Value*> results;
    ForEach([&](auto member) { results.push_back(&member(segment)); });
    body.Finish(results);
    after_.segments[i] = segment;
    return true;
  }

  std::vector<xla::XlaOp> ReplacedArrays(const std::vector<SegmentValues>& segments) const {
    std::vector<xla::XlaOp> arrays;
    for (const SegmentValues& segment : segments) {
      ForEach([&](auto member) { arrays.push_back(member(segment).op); });
    }
    return arrays;
  }

  // `visit(member)` for each tensor of a segment that a step replaces; `member` is a function from the segment to it.
  template <class Visit>
  void ForEach(const Visit& visit) const {
    visit([](auto& segment) -> auto& { return segment.param; });
    for (int k = 0; k < a_.rule->num_slots; ++k) visit([k](auto& segment) -> auto& { return segment.slots[k]; });
    if (a_.has_averages) visit([](auto& segment) -> auto& { return segment.average; });
    if (a_.has_accumulators) visit([](auto& segment) -> auto& { return segment.accumulator; });
  }

  const StepAttributes& a_;
  const UserOptions& user_;
  const StepValues& before_;
  StepValues after_;
  Value step_sums_[kMaxStepSums];
  xla::XlaBuilder* const builder_;
  ElementReads reads_;
  const xla::PrimitiveType stored_, arithmetic_;
};

}  // namespace

std::optional<StepValues> HloStep(const StepAttributes& attributes, const StepValues& before, Loops loops) {
  return Step(attributes, before)(loops);
}

}  // namespace fusemin::hlo
