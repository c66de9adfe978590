// The loops of a rule over memory, compiled once for each instruction set.
//
// This file is included by translation units with different -m flags. All it
// defines is in an unnamed namespace or a template over a local type, and it
// includes no header with inline functions of its own: the linker must never
// choose an AVX-512 copy of a shared inline function for a machine without it.
#ifndef FUSEMIN_KERNELS_CPU_RULE_LOOPS_H_
#define FUSEMIN_KERNELS_CPU_RULE_LOOPS_H_

#include "backends/cpu/independent.h"
#include "numeric/half.h"
#include "numeric/rule_list.h"
#include "step/rule_description.h"
#include "step/step.h"

namespace fusemin {
namespace {

template <class V>
struct Narrow {
  V operator()(double x) const { return static_cast<V>(x); }
};

// A gradient that is the sum of several slices of a row, where the optimizer takes the square, or the magnitude, of
// each slice and adds up those. A rule that scales it before it squares it gets the sum of the squares of the scaled
// slices.
template <class V>
struct SeparateSlices {
  V sum, squares, magnitudes;

  operator V() const { return sum; }  // NOLINT: a rule that takes the value means the sum.
};

template <class V>
FUSEMIN_HOST_DEVICE SeparateSlices<V> operator*(SeparateSlices<V> x, V factor) {
  return {x.sum * factor, x.squares * (factor * factor), x.magnitudes * Abs(factor)};
}
template <class V>
FUSEMIN_HOST_DEVICE SeparateSlices<V> operator*(V factor, SeparateSlices<V> x) {
  return {factor * x.sum, x.squares * (factor * factor), x.magnitudes * Abs(factor)};
}
template <class V>
FUSEMIN_HOST_DEVICE SeparateSlices<V> operator/(SeparateSlices<V> x, V divisor) {
  return {x.sum / divisor, x.squares / (divisor * divisor), x.magnitudes / Abs(divisor)};
}
// Of a gradient with itself: no rule multiplies two.
template <class V>
FUSEMIN_HOST_DEVICE V operator*(SeparateSlices<V> x, SeparateSlices<V> /*same*/) {
  return x.squares;
}
template <class V>
FUSEMIN_HOST_DEVICE V Abs(SeparateSlices<V> x) {
  return x.magnitudes;
}

template <class R, class T>
struct Loops {
  using Value = typename Number<T>::Value;
  using Prepared = typename R::template Prepared<Value>;
  static constexpr int kSlots = R::kSlots.kSize;
  static_assert(sizeof(Prepared) <= sizeof(PreparedStep));
  static_assert(kSlots <= kMaxSlots && R::kScalars.kSize <= kMaxScalars &&
                R::kHyperparameters.kSize <= kMaxHyperparameters && StepSums<R>::kNames.kSize <= kMaxStepSums);

  static void Prepare(const double* hyperparameters, double step, double* scalars, PreparedStep* prepared) {
    const Prepared p = R::Prepare(hyperparameters, step, scalars, Narrow<Value>());
    memcpy(prepared->bytes, &p, sizeof p);
  }

  // A segment's memory, typed and in local variables, from which the compiler knows that no store changes it.
  struct Memory {
    explicit Memory(const Segment& segment)
        : gradient(static_cast<const T*>(segment.gradient)),
          param_in(static_cast<const T*>(segment.param_in)),
          param_out(static_cast<T*>(segment.param_out)) {
      for (int k = 0; k < kSlots; ++k) {
        slot_in[k] = static_cast<const T*>(segment.slot_in[k]);
        slot_out[k] = static_cast<T*>(segment.slot_out[k]);
      }
    }

    // Into the cache, for writing where it is written. Past the end of the arrays too, where it does nothing.
    void Prefetch(int64_t i) const {
      __builtin_prefetch(gradient + i, 0);
      __builtin_prefetch(param_out + i, 1);
      for (int k = 0; k < kSlots; ++k) __builtin_prefetch(slot_out[k] + i, 1);
    }

    const T* gradient;
    const T* param_in;
    T* param_out;
    const T* slot_in[kSlots + 1];
    T* slot_out[kSlots + 1];
  };

  // Bytes of an element in all arrays.
  static constexpr int64_t kElementBytes = (2 + kSlots) * sizeof(T);
  // Where the arrays are about as large as a last-level cache, or larger, the hardware looks ahead too little or too
  // late: told what comes 2 KiB later, Adam on 1,000,000 elements took 0.87 of the time. In smaller caches it costs 5%.
  static constexpr int64_t kPrefetchFrom = 6 << 20;
  static constexpr int64_t kLine = 64 / sizeof(T), kAhead = 2048 / sizeof(T);
  // Of one line only, the loop over float64 was not vectorised.
  static constexpr int64_t kBlock = 4 * kLine;

  // `gradient` is a Value, or SeparateSlices. The addends are of the sums of a step, if the rule has some.
  template <class G>
  static FUSEMIN_HOST_DEVICE void UpdateAt(const Prepared& c, const Memory& at, int64_t i, G gradient,
                                           Value* addends = nullptr) {
    Value slots[kSlots + 1];
    for (int k = 0; k < kSlots; ++k) slots[k] = Number<T>::Load(at.slot_in[k][i]);
    Value param = Number<T>::Load(at.param_in[i]);
    UpdateElement<R>(c, gradient, param, slots, addends);
    at.param_out[i] = Number<T>::Store(param);
    for (int k = 0; k < kSlots; ++k) at.slot_out[k][i] = Number<T>::Store(slots[k]);
  }

  static Prepared Unpack(const PreparedStep& prepared) {
    Prepared c;
    memcpy(&c, prepared.bytes, sizeof c);
    return c;
  }

  // Element i of a gradient of separate slices.
  struct Separate {
    Separate(const PowerSums& sums, int64_t begin)
        : sum(static_cast<const Value*>(sums.sum)),
          squares(static_cast<const Value*>(sums.squares)),
          magnitudes(static_cast<const Value*>(sums.magnitudes)),
          begin(begin) {}
    SeparateSlices<Value> operator[](int64_t i) const {
      return {sum[i - begin], squares[i - begin], magnitudes[i - begin]};
    }

    const Value *sum, *squares, *magnitudes;
    int64_t begin;
  };
  struct Dense {
    explicit Dense(const T* gradient) : gradient(gradient) {}
    Value operator[](int64_t i) const { return Number<T>::Load(gradient[i]); }

    const T* gradient;
  };

  static void Update(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end) {
    const Prepared c = Unpack(prepared);
    const Memory at(segment);
    const Dense gradient(at.gradient);
    int64_t first = begin;
    if ((end - begin) * kElementBytes >= kPrefetchFrom) {
      for (; first + kBlock <= end; first += kBlock) {
        for (int64_t i = first; i < first + kBlock; i += kLine) at.Prefetch(i + kAhead);
        FUSEMIN_INDEPENDENT
        for (int64_t i = first; i < first + kBlock; ++i) UpdateAt(c, at, i, gradient[i]);
      }
    }
    FUSEMIN_INDEPENDENT
    for (int64_t i = first; i < end; ++i) UpdateAt(c, at, i, gradient[i]);
  }
  static void UpdateSeparate(const PreparedStep& prepared, const Segment& segment, const PowerSums& sums, int64_t begin,
                             int64_t end) {
    const Prepared c = Unpack(prepared);
    const Memory at(segment);
    const Separate gradient(sums, begin);
    FUSEMIN_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) UpdateAt(c, at, i, gradient[i]);
  }

  // Sums run in this many lanes, so that the compiler can add vectors without changing the order of additions.
  static constexpr int kLanes = 16;

  static void UpdateAndSum(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end,
                           RuleSums* sums) {
    UpdateAndSumBy(prepared, segment, Dense(static_cast<const T*>(segment.gradient)), begin, end, sums);
  }
  static void UpdateAndSumSeparate(const PreparedStep& prepared, const Segment& segment, const PowerSums& gradient,
                                   int64_t begin, int64_t end, RuleSums* sums) {
    UpdateAndSumBy(prepared, segment, Separate(gradient, begin), begin, end, sums);
  }

  template <class Gradient>
  static FUSEMIN_HOST_DEVICE void UpdateAndSumBy(const PreparedStep& prepared, const Segment& segment,
                                                 const Gradient gradient, int64_t begin, int64_t end, RuleSums* sums) {
    if constexpr (HasTrustRatio<R>::kValue) {
      UpdateSlotsBy(prepared, segment, gradient, begin, end, sums);
    } else {
      UpdateWithStepSums(prepared, segment, gradient, begin, end, sums);
    }
  }

  // A block of elements at a time, whose addends are then added in lanes: either loop can be vectorised.
  template <class Gradient>
  static FUSEMIN_HOST_DEVICE void UpdateWithStepSums(const PreparedStep& prepared, const Segment& segment,
                                                     const Gradient gradient, int64_t begin, int64_t end,
                                                     RuleSums* sums) {
    constexpr int kSums = StepSums<R>::kNames.kSize;
    constexpr int64_t kSummed = 8 * kLanes;
    const Prepared c = Unpack(prepared);
    const Memory at(segment);
    double lanes[kMaxStepSums][kLanes] = {};
    for (int64_t first = begin; first < end; first += kSummed) {
      const int64_t n = end - first < kSummed ? end - first : kSummed;
      Value addends[kMaxStepSums][kSummed] = {};
      FUSEMIN_INDEPENDENT
      for (int64_t j = 0; j < n; ++j) {
        Value of_element[kMaxStepSums];
        UpdateAt(c, at, first + j, gradient[first + j], of_element);
        for (int k = 0; k < kSums; ++k) addends[k][j] = of_element[k];
      }
      for (int k = 0; k < kSums; ++k) {
        for (int64_t j = 0; j < kSummed; j += kLanes) {
          for (int lane = 0; lane < kLanes; ++lane) lanes[k][lane] += addends[k][j + lane];
        }
      }
    }
    for (int k = 0; k < kSums; ++k) {
      for (int lane = 0; lane < kLanes; ++lane) sums->sum[k] += lanes[k][lane];
    }
  }

  static void Finish(const double* hyperparameters, double step, const double* sums, double* scalars) {
    R::Finish(hyperparameters, step, sums, scalars);
  }

  template <class Gradient>
  static FUSEMIN_HOST_DEVICE void UpdateSlotsBy(const PreparedStep& prepared, const Segment& segment,
                                                const Gradient gradient, int64_t begin, int64_t end, RuleSums* sums) {
    const Prepared c = Unpack(prepared);
    const Memory at(segment);
    double param_lanes[kLanes] = {}, direction_lanes[kLanes] = {};
    for (int64_t first = begin; first < end; first += kLanes) {
      const int lanes = end - first < kLanes ? static_cast<int>(end - first) : kLanes;
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t i = first + lane;
        Value slots[kSlots + 1];
        for (int k = 0; k < kSlots; ++k) slots[k] = Number<T>::Load(at.slot_in[k][i]);
        const Value param = Number<T>::Load(at.param_in[i]);
        R::UpdateSlots(c, gradient[i], slots);
        for (int k = 0; k < kSlots; ++k) {
          at.slot_out[k][i] = Number<T>::Store(slots[k]);
          slots[k] = Number<T>::Load(at.slot_out[k][i]);
        }
        const double direction = R::Direction(c, slots);
        param_lanes[lane] += static_cast<double>(param) * param;
        direction_lanes[lane] += direction * direction;
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      sums->sum[0] += param_lanes[lane];
      sums->sum[1] += direction_lanes[lane];
    }
  }

  static void Move(const PreparedStep& prepared, const Segment& segment, int64_t begin, int64_t end, double param_norm,
                   double direction_norm) {
    const Prepared c = Unpack(prepared);
    const Value ratio = R::Ratio(c, static_cast<Value>(param_norm), static_cast<Value>(direction_norm));
    const Memory at(segment);
    FUSEMIN_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      Value slots[kSlots + 1];
      for (int k = 0; k < kSlots; ++k) slots[k] = Number<T>::Load(at.slot_out[k][i]);
      const Value param = Number<T>::Load(at.param_in[i]);
      at.param_out[i] = Number<T>::Store(param - ratio * R::Direction(c, slots));
    }
  }

  static constexpr RuleKernels Kernels() {
    if constexpr (HasTrustRatio<R>::kValue) {
      return {Prepare, nullptr, UpdateAndSum, Move, nullptr, UpdateAndSumSeparate, nullptr};
    } else if constexpr (HasStepSums<R>::kValue) {
      return {Prepare, nullptr, UpdateAndSum, nullptr, nullptr, UpdateAndSumSeparate, Finish};
    } else {
      return {Prepare, Update, nullptr, nullptr, UpdateSeparate, nullptr, nullptr};
    }
  }
};

template <class R>
constexpr Rule MakeRule() {
  Rule rule = Describe<R>();
  rule.kernels[static_cast<int>(DType::kFloat32)] = Loops<R, float>::Kernels();
  rule.kernels[static_cast<int>(DType::kFloat64)] = Loops<R, double>::Kernels();
  rule.kernels[static_cast<int>(DType::kFloat16)] = Loops<R, Float16>::Kernels();
  rule.kernels[static_cast<int>(DType::kBFloat16)] = Loops<R, BFloat16>::Kernels();
  return rule;
}

template <class List>
struct RuleTable;

template <class... R>
struct RuleTable<RuleList<R...>> {
  static constexpr int kSize = sizeof...(R);
  static constexpr Rule kRules[kSize] = {MakeRule<R>()...};
};

}  // namespace
}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_CPU_RULE_LOOPS_H_
