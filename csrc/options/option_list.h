// Options in the order in which a step applies them, composed: what the back ends call at each place of a step. See
// option.h for the places.
#ifndef FUSEMIN_OPTIONS_OPTION_LIST_H_
#define FUSEMIN_OPTIONS_OPTION_LIST_H_

#include "options/option.h"

namespace fusemin {

// Has...<Option>::kValue is whether an option does something at a place.
#define FUSEMIN_PLACE(Has, ...)                                           \
  template <class Option, class = void>                                   \
  struct Has {                                                            \
    static constexpr bool kValue = false;                                 \
  };                                                                      \
  template <class Option>                                                 \
  struct Has<Option, decltype(static_cast<void>(&Option::__VA_ARGS__))> { \
    static constexpr bool kValue = true;                                  \
  };
FUSEMIN_PLACE(HasUpdates, template Updates<int64_t>)
FUSEMIN_PLACE(HasApplies, template Applies<double, int64_t>)
FUSEMIN_PLACE(HasGradientScale, template GradientScale<double, int64_t>)
FUSEMIN_PLACE(HasWhichNorm, WhichNorm)
FUSEMIN_PLACE(HasSkipsNonFinite, SkipsNonFinite)
FUSEMIN_PLACE(HasNextScalars, template NextScalars<double, bool>)
FUSEMIN_PLACE(HasCollect, template Collect<float>)
FUSEMIN_PLACE(HasOnGradient, template OnGradient<float>)
FUSEMIN_PLACE(HasBeforeRule, template BeforeRule<float>)
FUSEMIN_PLACE(HasOnMove, template OnMove<float>)
FUSEMIN_PLACE(HasAfterRule, template AfterRule<float>)
#undef FUSEMIN_PLACE

// An option at one step: whether it is on, and its Prepared<V> if it has that.
template <class Option, class V, class = void>
struct AtStep {
  bool on;
};
template <class Option, class V>
struct AtStep<Option, V, decltype(static_cast<void>(sizeof(typename Option::template Prepared<V>)))> {
  bool on;
  typename Option::template Prepared<V> numbers;
};

// Which options are on, as a constant, a bit for each: loops over memory have no branches then.
template <unsigned kBits>
struct On {};
// As is prepared.
constexpr unsigned kAsPrepared = ~0u;

template <class... Option>
struct OptionList : Option... {
  // All options at one step.
  template <class V>
  struct Prepared : AtStep<Option, V>... {};

  template <template <class, class> class Has>
  static constexpr int kNumAt = (0 + ... + static_cast<int>(Has<Option, void>::kValue));
  static_assert(kNumAt<HasCollect> <= 1 && kNumAt<HasAfterRule> <= 1 && kNumAt<HasOnMove> <= 1 &&
                    kNumAt<HasWhichNorm> <= 1 && kNumAt<HasNextScalars> <= 1,
                "a second option would need tensors, sums or variables of its own");

  // `visit(number)` for what there is to know of each number.
  template <class Visit>
  static constexpr void ForEachNumber(const Visit& visit) {
    (VisitAll<Option>(visit), ...);
  }

  // Whether an option is on that does something at a place.
  template <template <class, class> class Has>
  FUSEMIN_HOST_DEVICE bool Any() const {
    return (... || (Has<Option, void>::kValue && Option::IsOn()));
  }
  // The same before the rule, where a parameter `decays` or not.
  FUSEMIN_HOST_DEVICE bool AnyBeforeRule(bool decays) const { return (... || IsBeforeRule<Option>(decays)); }
  FUSEMIN_HOST_DEVICE bool SkipsNonFinite() const { return (... || Skips<Option>()); }
  FUSEMIN_HOST_DEVICE Norm WhichNorm() const {
    Norm norm = Norm::kNone;
    ((norm = NormOf<Option>(norm)), ...);
    return norm;
  }

  // Once a step.
  template <class Int>
  FUSEMIN_HOST_DEVICE Int Updates(Int calls) const {
    ((calls = UpdatesOf<Option>(calls)), ...);
    return calls;
  }
  template <class Wide, class Int>
  FUSEMIN_HOST_DEVICE TruthOf<Wide> Applies(const Now<Wide, Int>& now) const {
    TruthOf<Wide> applies = Known(now.iterations, true);
    ((applies = AppliesOf<Option>(applies, now)), ...);
    return applies;
  }
  // Of the gradients that come.
  template <class Wide, class Int>
  FUSEMIN_HOST_DEVICE Wide GradientScale(const Now<Wide, Int>& now) const {
    Wide scale = Constant(now.learning_rate, 1.0);
    ((scale = GradientScaleOf<Option>(scale, now)), ...);
    return scale;
  }
  // Of those that have been collected.
  FUSEMIN_HOST_DEVICE double CollectedScale() const {
    double scale = 1.0;
    ((scale = CollectedScaleOf<Option>(scale)), ...);
    return scale;
  }
  template <class Wide>
  FUSEMIN_HOST_DEVICE Wide NormFactor(Wide norm) const {
    Wide factor = norm;
    ((factor = NormFactorOf<Option>(factor)), ...);
    return factor;
  }
  template <class Wide, class Bool>
  FUSEMIN_HOST_DEVICE void NextScalars(Wide* scalars, Bool taken) const {
    (NextScalarsOf<Option>(scalars, taken), ...);
  }
  template <class V, class Wide, class Int, class Narrow>
  FUSEMIN_HOST_DEVICE void Prepare(const Now<Wide, Int>& now, const Narrow& narrow, Prepared<V>* prepared) const {
    (PrepareOne<Option>(now, narrow, static_cast<AtStep<Option, V>*>(prepared)), ...);
  }

  // Once an element.
  template <class V>
  static FUSEMIN_HOST_DEVICE V Collect(V sum, V gradient) {
    ((sum = CollectOf<Option>(sum, gradient)), ...);
    return sum;
  }
  template <unsigned kOn = kAsPrepared, class V>
  static FUSEMIN_HOST_DEVICE V OnGradient(const Prepared<V>& c, V gradient) {
    ((gradient = OnGradientOf<Option, kOn>(c, gradient)), ...);
    return gradient;
  }
  template <unsigned kOn = kAsPrepared, class V>
  static FUSEMIN_HOST_DEVICE V BeforeRule(const Prepared<V>& c, bool decays, V param) {
    ((param = BeforeRuleOf<Option, kOn>(c, decays, param)), ...);
    return param;
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE V MoveTerm(V gradient, V move) {
    V term = move;
    ((term = MoveTermOf<Option>(gradient, term)), ...);
    return term;
  }
  template <class Wide>
  static FUSEMIN_HOST_DEVICE Wide MoveFactor(Wide sum, Wide size) {
    ((sum = MoveFactorOf<Option>(sum, size)), ...);
    return sum;
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE V OnMove(V gradient, V move, V factor) {
    ((move = OnMoveOf<Option>(gradient, move, factor)), ...);
    return move;
  }
  template <class V>
  static FUSEMIN_HOST_DEVICE V AfterRule(const Prepared<V>& c, V average, V param) {
    ((average = AfterRuleOf<Option>(c, average, param)), ...);
    return average;
  }
  // Once a step.
  template <class V>
  static FUSEMIN_HOST_DEVICE TruthOf<V> Replaces(const Prepared<V>& c, TruthOf<V> replaces) {
    ((replaces = ReplacesOf<Option>(c, replaces)), ...);
    return replaces;
  }

  // `work(On<bits>())` for the options that are on of those that do something at a place.
  template <template <class, class> class Has, class V, class Work>
  static FUSEMIN_HOST_DEVICE void WithOn(const Prepared<V>& c, const Work& work) {
    WithOnFrom<Has, 0, 1, V, Work, Option...>(c, work);
  }

 private:
  template <class...>
  static constexpr bool kNever = false;
  template <class One, class First, class... Rest>
  static constexpr int IndexIn() {
    if constexpr (__is_same(One, First)) {
      return 0;
    } else {
      return 1 + IndexIn<One, Rest...>();
    }
  }

  template <class One, class Visit>
  static constexpr void VisitAll(const Visit& visit) {
    for (const OptionNumber<One>& number : One::kNumbers) visit(number);
  }
  template <class One>
  static constexpr bool OnlyWhereDecays() {
    for (const OptionNumber<One>& number : One::kNumbers) {
      if (number.tensors == OptionTensors::kDecays) return true;
    }
    return false;
  }
  // As a constant: device code may not call what is of the host only.
  template <class One>
  static constexpr bool kOnlyWhereDecays = OnlyWhereDecays<One>();

  template <template <class, class> class Has, unsigned kBits, unsigned kBit, class V, class Work>
  static FUSEMIN_HOST_DEVICE void WithOnFrom(const Prepared<V>&, const Work& work) {
    work(On<kBits>());
  }
  template <template <class, class> class Has, unsigned kBits, unsigned kBit, class V, class Work, class One,
            class... Rest>
  static FUSEMIN_HOST_DEVICE void WithOnFrom(const Prepared<V>& c, const Work& work) {
    if constexpr (Has<One, void>::kValue) {
      if (static_cast<const AtStep<One, V>&>(c).on) {
        return WithOnFrom<Has, kBits | kBit, 2 * kBit, V, Work, Rest...>(c, work);
      }
    }
    WithOnFrom<Has, kBits, 2 * kBit, V, Work, Rest...>(c, work);
  }

  template <class One, unsigned kOn, class V>
  static FUSEMIN_HOST_DEVICE bool IsOnIn(const Prepared<V>& c) {
    if constexpr (kOn == kAsPrepared) {
      return static_cast<const AtStep<One, V>&>(c).on;
    } else {
      return (kOn >> IndexIn<One, Option...>() & 1) != 0;
    }
  }
  template <class One, class V>
  static FUSEMIN_HOST_DEVICE const auto& NumbersOf(const Prepared<V>& c) {
    return static_cast<const AtStep<One, V>&>(c).numbers;
  }

  template <class One>
  FUSEMIN_HOST_DEVICE bool IsBeforeRule(bool decays) const {
    if constexpr (HasBeforeRule<One>::kValue) return One::IsOn() && (decays || !kOnlyWhereDecays<One>);
    return false;
  }
  template <class One>
  FUSEMIN_HOST_DEVICE bool Skips() const {
    if constexpr (HasSkipsNonFinite<One>::kValue) return One::SkipsNonFinite();
    return false;
  }
  template <class One>
  FUSEMIN_HOST_DEVICE Norm NormOf(Norm norm) const {
    if constexpr (HasWhichNorm<One>::kValue) return One::WhichNorm();
    return norm;
  }
  template <class One, class Int>
  FUSEMIN_HOST_DEVICE Int UpdatesOf(Int calls) const {
    if constexpr (HasUpdates<One>::kValue) {
      if (One::IsOn()) return One::Updates(calls);
    }
    return calls;
  }
  template <class One, class Bool, class Wide, class Int>
  FUSEMIN_HOST_DEVICE Bool AppliesOf(Bool applies, const Now<Wide, Int>& now) const {
    if constexpr (HasApplies<One>::kValue) {
      if (One::IsOn()) return And(applies, One::Applies(now));
    }
    return applies;
  }
  template <class One, class Wide, class Int>
  FUSEMIN_HOST_DEVICE Wide GradientScaleOf(Wide scale, const Now<Wide, Int>& now) const {
    if constexpr (HasGradientScale<One>::kValue) {
      if (One::IsOn()) return One::GradientScale(scale, now);
    }
    return scale;
  }
  template <class One>
  FUSEMIN_HOST_DEVICE double CollectedScaleOf(double scale) const {
    if constexpr (HasCollect<One>::kValue) return One::CollectedScale();
    return scale;
  }
  template <class One, class Wide>
  FUSEMIN_HOST_DEVICE Wide NormFactorOf(Wide norm) const {
    if constexpr (HasWhichNorm<One>::kValue) return One::NormFactor(norm);
    return norm;
  }
  template <class One, class Wide, class Bool>
  FUSEMIN_HOST_DEVICE void NextScalarsOf(Wide* scalars, Bool taken) const {
    if constexpr (HasNextScalars<One>::kValue) One::NextScalars(scalars, taken);
  }
  template <class One, class V, class Wide, class Int, class Narrow>
  FUSEMIN_HOST_DEVICE void PrepareOne(const Now<Wide, Int>& now, const Narrow& narrow, AtStep<One, V>* at_step) const {
    at_step->on = One::IsOn();
    if constexpr (sizeof(AtStep<One, V>) > sizeof(bool)) {
      if (at_step->on) at_step->numbers = One::Prepare(now, narrow);
    }
  }

  template <class One, class V>
  static FUSEMIN_HOST_DEVICE V CollectOf(V sum, V gradient) {
    if constexpr (HasCollect<One>::kValue) return One::Collect(sum, gradient);
    return sum;
  }
  template <class One, unsigned kOn, class V>
  static FUSEMIN_HOST_DEVICE V OnGradientOf(const Prepared<V>& c, V gradient) {
    if constexpr (HasOnGradient<One>::kValue) {
      if (IsOnIn<One, kOn>(c)) return One::OnGradient(NumbersOf<One>(c), gradient);
    }
    return gradient;
  }
  template <class One, unsigned kOn, class V>
  static FUSEMIN_HOST_DEVICE V BeforeRuleOf(const Prepared<V>& c, bool decays, V param) {
    if constexpr (HasBeforeRule<One>::kValue) {
      if (IsOnIn<One, kOn>(c) && (decays || !kOnlyWhereDecays<One>)) return One::BeforeRule(NumbersOf<One>(c), param);
    }
    return param;
  }
  template <class One, class V>
  static FUSEMIN_HOST_DEVICE V MoveTermOf(V gradient, V move) {
    if constexpr (HasOnMove<One>::kValue) return One::MoveTerm(gradient, move);
    return move;
  }
  template <class One, class Wide>
  static FUSEMIN_HOST_DEVICE Wide MoveFactorOf(Wide sum, Wide size) {
    if constexpr (HasOnMove<One>::kValue) return One::MoveFactor(sum, size);
    return sum;
  }
  template <class One, class V>
  static FUSEMIN_HOST_DEVICE V OnMoveOf(V gradient, V move, V factor) {
    if constexpr (HasOnMove<One>::kValue) return One::OnMove(gradient, move, factor);
    return move;
  }
  template <class One, class V>
  static FUSEMIN_HOST_DEVICE V AfterRuleOf(const Prepared<V>& c, V average, V param) {
    if constexpr (HasAfterRule<One>::kValue) return One::AfterRule(NumbersOf<One>(c), average, param);
    return average;
  }
  template <class One, class V>
  static FUSEMIN_HOST_DEVICE TruthOf<V> ReplacesOf(const Prepared<V>& c, TruthOf<V> replaces) {
    if constexpr (HasAfterRule<One>::kValue) {
      if (static_cast<const AtStep<One, V>&>(c).on) return One::Replaces(NumbersOf<One>(c));
    }
    return replaces;
  }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_OPTION_LIST_H_
