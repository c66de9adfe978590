// The loops of OptionKernels, compiled once for each instruction set. See rule_loops.h for what that forbids.
#ifndef FUSEMIN_KERNELS_CPU_OPTION_LOOPS_H_
#define FUSEMIN_KERNELS_CPU_OPTION_LOOPS_H_

#include "backends/cpu/independent.h"
#include "backends/cpu/option_kernels.h"
#include "numeric/half.h"
#include "numeric/math.h"
#include "step/step.h"

namespace fusemin {
namespace {

// Whether a number is finite, by its exponent: a comparison of floats would not do with infinity optimised away.
inline bool IsFinite(float x) { return (internal::Bits(x) & 0x7F800000u) != 0x7F800000u; }
inline bool IsFinite(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return (u & 0x7FF0000000000000u) != 0x7FF0000000000000u;
}

template <class T>
struct OptionLoops {
  using Value = typename Number<T>::Value;

  // Lanes of sums, so that the compiler can add vectors without changing the order of additions.
  static constexpr int kLanes = 16;

  static bool Reduce(const void* x, int64_t n, double* squares) {
    // Of double, so that float32 neither overflows nor loses small elements beside large ones.
    const T* from = static_cast<const T*>(x);
    double lanes[kLanes] = {};
    int64_t bad = 0;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const Value value = Number<T>::Load(from[i + lane]);
        lanes[lane] += static_cast<double>(value) * value;
        bad += !IsFinite(value);
      }
    }
    for (int lane = 0; i < n; ++i, ++lane) {
      const Value value = Number<T>::Load(from[i]);
      lanes[lane] += static_cast<double>(value) * value;
      bad += !IsFinite(value);
    }
    for (double lane : lanes) *squares += lane;
    return bad == 0;
  }

  using Prepared = UserOptions::Prepared<Value>;
  static_assert(sizeof(Prepared) <= sizeof(PreparedOptions));

  struct Narrow {
    Value operator()(double x) const { return static_cast<Value>(x); }
  };

  static void Prepare(const UserOptions& options, const Now<double, int64_t>& now, PreparedOptions* prepared) {
    Prepared c{};
    options.Prepare(now, Narrow(), &c);
    memcpy(prepared->bytes, &c, sizeof c);
  }
  static Prepared Unpack(const PreparedOptions& prepared) {
    Prepared c;
    memcpy(&c, prepared.bytes, sizeof c);
    return c;
  }

  template <unsigned kOn>
  static FUSEMIN_HOST_DEVICE bool IsNone(On<kOn>) {
    return kOn == 0;
  }

  template <unsigned kOn>
  static FUSEMIN_HOST_DEVICE void GradientLoop(On<kOn>, const Prepared& c, const T* from, T* to, int64_t n,
                                               Value factor) {
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(UserOptions::OnGradient<kOn>(c, Number<T>::Load(from[i]) * factor));
    }
  }
  static void OnGradient(const PreparedOptions& options, const void* x, void* out, int64_t n, double scale) {
    const Prepared c = Unpack(options);
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(out);
    const Value factor = static_cast<Value>(scale);
    UserOptions::WithOn<HasOnGradient>(c, [&](auto on) { GradientLoop(on, c, from, to, n, factor); });
  }

  static void Collect(const void* sum, const void* gradient, void* out, int64_t n, double scale) {
    const T* from = static_cast<const T*>(sum);
    const T* add = static_cast<const T*>(gradient);
    T* to = static_cast<T*>(out);
    const Value factor = static_cast<Value>(scale);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(UserOptions::Collect(Number<T>::Load(from[i]), Number<T>::Load(add[i]) * factor));
    }
  }

  template <unsigned kOn>
  static FUSEMIN_HOST_DEVICE void ParamLoop(On<kOn>, const Prepared& c, bool decays, const T* from, T* to, int64_t n) {
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(UserOptions::BeforeRule<kOn>(c, decays, Number<T>::Load(from[i])));
    }
  }
  static void BeforeRule(const PreparedOptions& options, bool decays, const void* param, void* out, int64_t n) {
    const Prepared c = Unpack(options);
    const T* from = static_cast<const T*>(param);
    T* to = static_cast<T*>(out);
    UserOptions::WithOn<HasBeforeRule>(c, [&](auto on) {
      // Each with its constant, since a loop must not ask.
      if (decays) {
        ParamLoop(on, c, true, from, to, n);
      } else {
        ParamLoop(on, c, false, from, to, n);
      }
    });
  }

  static double SumMove(const void* gradient, const void* param, const void* moved, int64_t n) {
    const T* g = static_cast<const T*>(gradient);
    const T* from = static_cast<const T*>(param);
    const T* to = static_cast<const T*>(moved);
    double lanes[kLanes] = {};
    for (int64_t first = 0; first < n; first += kLanes) {
      const int count = n - first < kLanes ? static_cast<int>(n - first) : kLanes;
      for (int lane = 0; lane < count; ++lane) {
        const int64_t i = first + lane;
        const Value move = Number<T>::Load(from[i]) - Number<T>::Load(to[i]);
        lanes[lane] += static_cast<double>(UserOptions::MoveTerm(Number<T>::Load(g[i]), move));
      }
    }
    double sum = 0.0;
    for (double lane : lanes) sum += lane;
    return sum;
  }

  static void OnMove(const void* gradient, const void* param, const void* moved, void* out, int64_t n, double factor) {
    const T* g = static_cast<const T*>(gradient);
    const T* from = static_cast<const T*>(param);
    const T* rule = static_cast<const T*>(moved);
    T* to = static_cast<T*>(out);
    const Value narrow = static_cast<Value>(factor);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      const Value old = Number<T>::Load(from[i]);
      const Value move = old - Number<T>::Load(rule[i]);
      to[i] = Number<T>::Store(old - UserOptions::OnMove(Number<T>::Load(g[i]), move, narrow));
    }
  }

  static void AfterRule(const PreparedOptions& options, const void* average, void* average_out, void* param,
                        int64_t n) {
    const Prepared c = Unpack(options);
    const T* old = static_cast<const T*>(average);
    const T* from = static_cast<const T*>(param);
    T* to = static_cast<T*>(average_out);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(UserOptions::AfterRule(c, Number<T>::Load(old[i]), Number<T>::Load(from[i])));
    }
    if (UserOptions::Replaces(c, false)) memcpy(param, average_out, n * sizeof(T));
  }

  static void SumSlices(const PreparedOptions& options, const void* values, const int64_t* order, int64_t count,
                        int64_t row_size, void* out, int64_t n, double scale) {
    const T* from = static_cast<const T*>(values);
    T* to = static_cast<T*>(out);
    if (count == 1) {
      const Prepared c = Unpack(options);
      const T* slice = from + order[0] * row_size;
      UserOptions::WithOn<HasOnGradient>(c, [&](auto on) {
        if (IsNone(on) && scale == 1.0) {
          memcpy(to, slice, n * sizeof(T));
        } else {
          GradientLoop(on, c, slice, to, n, static_cast<Value>(scale));
        }
      });
      return;
    }
    // A block of elements at a time, so that a sum is rounded to a half once only.
    constexpr int64_t kBlock = 256;
    for (int64_t block = 0; block < n; block += kBlock) {
      const int64_t m = n - block < kBlock ? n - block : kBlock;
      Value sum[kBlock], squares[kBlock], magnitudes[kBlock];
      SumPowers(options, from + block, order, count, row_size, sum, squares, magnitudes, m, scale);
      for (int64_t j = 0; j < m; ++j) to[block + j] = Number<T>::Store(sum[j]);
    }
  }

  template <unsigned kOn>
  static FUSEMIN_HOST_DEVICE void AddSlice(On<kOn>, const Prepared& c, const T* slice, bool first, Value* s, Value* q,
                                           Value* a, int64_t n, Value factor) {
    FUSEMIN_INDEPENDENT
    for (int64_t j = 0; j < n; ++j) {
      const Value value = UserOptions::OnGradient<kOn>(c, Number<T>::Load(slice[j]) * factor);
      s[j] = first ? value : s[j] + value;
      q[j] = first ? value * value : q[j] + value * value;
      a[j] = first ? Abs(value) : a[j] + Abs(value);
    }
  }
  static void SumPowers(const PreparedOptions& options, const void* values, const int64_t* order, int64_t count,
                        int64_t row_size, void* sum, void* squares, void* magnitudes, int64_t n, double scale) {
    const Prepared c = Unpack(options);
    const T* from = static_cast<const T*>(values);
    Value* s = static_cast<Value*>(sum);
    Value* q = static_cast<Value*>(squares);
    Value* a = static_cast<Value*>(magnitudes);
    const Value factor = static_cast<Value>(scale);
    UserOptions::WithOn<HasOnGradient>(c, [&](auto on) {
      for (int64_t i = 0; i < count; ++i) AddSlice(on, c, from + order[i] * row_size, i == 0, s, q, a, n, factor);
    });
  }

  static constexpr OptionKernels kKernels{Prepare, Reduce, OnGradient, Collect,   BeforeRule,
                                          SumMove, OnMove, AfterRule,  SumSlices, SumPowers};
};

constexpr OptionKernels kOptionKernels[kNumDTypes] = {OptionLoops<float>::kKernels, OptionLoops<double>::kKernels,
                                                      OptionLoops<Float16>::kKernels, OptionLoops<BFloat16>::kKernels};

}  // namespace
}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_CPU_OPTION_LOOPS_H_
