// The loops of AroundKernels, compiled once for each instruction set. See rule_loops.h for what that forbids.
#ifndef FUSEMIN_KERNELS_CPU_AROUND_LOOPS_H_
#define FUSEMIN_KERNELS_CPU_AROUND_LOOPS_H_

#include "backends/cpu/independent.h"
#include "numeric/half.h"
#include "numeric/math.h"
#include "options/user_options.h"
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
struct Around {
  using Value = typename Number<T>::Value;

  static bool Reduce(const void* x, int64_t n, double* squares) {
    // Lanes, so that the compiler can add vectors without changing the order of additions; double, so that float32
    // neither overflows nor loses small elements beside large ones.
    constexpr int kLanes = 16;
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

  static void ScaleAndClip(const void* x, void* out, int64_t n, double scale, double limit) {
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(out);
    const Value factor = static_cast<Value>(scale), bound = static_cast<Value>(limit);
    if (limit < 0) {
      FUSEMIN_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) to[i] = Number<T>::Store(Scaled(Number<T>::Load(from[i]), factor));
      return;
    }
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(Clipped(Scaled(Number<T>::Load(from[i]), factor), bound));
    }
  }

  static void Accumulate(const void* x, const void* gradient, void* out, int64_t n, double scale) {
    const T* from = static_cast<const T*>(x);
    const T* add = static_cast<const T*>(gradient);
    T* to = static_cast<T*>(out);
    const Value factor = static_cast<Value>(scale);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(Accumulated(Number<T>::Load(from[i]), Number<T>::Load(add[i]), factor));
    }
  }

  static void Decay(const void* param, void* out, int64_t n, double weight_decay, double learning_rate) {
    const T* from = static_cast<const T*>(param);
    T* to = static_cast<T*>(out);
    const Value decay = static_cast<Value>(weight_decay), rate = static_cast<Value>(learning_rate);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(Decayed(Number<T>::Load(from[i]), decay, rate));
    }
  }

  static void Average(const void* average, const void* param, void* out, int64_t n, double momentum,
                      double complement) {
    const T* old = static_cast<const T*>(average);
    const T* from = static_cast<const T*>(param);
    T* to = static_cast<T*>(out);
    const Value keep = static_cast<Value>(momentum), take = static_cast<Value>(complement);
    FUSEMIN_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      to[i] = Number<T>::Store(Averaged(Number<T>::Load(old[i]), Number<T>::Load(from[i]), keep, take));
    }
  }

  static void SumSlices(const void* values, const int64_t* order, int64_t count, int64_t row_size, void* out, int64_t n,
                        double scale, double limit) {
    const T* from = static_cast<const T*>(values);
    T* to = static_cast<T*>(out);
    if (count == 1) {
      const T* slice = from + order[0] * row_size;
      if (scale == 1.0 && limit < 0) {
        memcpy(to, slice, n * sizeof(T));
      } else {
        ScaleAndClip(slice, to, n, scale, limit);
      }
      return;
    }
    // A block of elements at a time, so that a sum is rounded to a half once only.
    constexpr int64_t kBlock = 256;
    for (int64_t block = 0; block < n; block += kBlock) {
      const int64_t m = n - block < kBlock ? n - block : kBlock;
      Value sum[kBlock], squares[kBlock], magnitudes[kBlock];
      SumPowers(from + block, order, count, row_size, sum, squares, magnitudes, m, scale, limit);
      for (int64_t j = 0; j < m; ++j) to[block + j] = Number<T>::Store(sum[j]);
    }
  }

  static void SumPowers(const void* values, const int64_t* order, int64_t count, int64_t row_size, void* sum,
                        void* squares, void* magnitudes, int64_t n, double scale, double limit) {
    const T* from = static_cast<const T*>(values);
    Value* s = static_cast<Value*>(sum);
    Value* q = static_cast<Value*>(squares);
    Value* a = static_cast<Value*>(magnitudes);
    const Value factor = static_cast<Value>(scale);
    const Value bound = limit < 0 ? static_cast<Value>(__builtin_inf()) : static_cast<Value>(limit);
    for (int64_t i = 0; i < count; ++i) {
      const T* slice = from + order[i] * row_size;
      const bool first = i == 0;
      FUSEMIN_INDEPENDENT
      for (int64_t j = 0; j < n; ++j) {
        const Value value = Clipped(Scaled(Number<T>::Load(slice[j]), factor), bound);
        s[j] = first ? value : s[j] + value;
        q[j] = first ? value * value : q[j] + value * value;
        a[j] = first ? Abs(value) : a[j] + Abs(value);
      }
    }
  }

  static constexpr AroundKernels kKernels{Reduce, ScaleAndClip, Accumulate, Decay, Average, SumSlices, SumPowers};
};

constexpr AroundKernels kAroundKernels[kNumDTypes] = {Around<float>::kKernels, Around<double>::kKernels,
                                                      Around<Float16>::kKernels, Around<BFloat16>::kKernels};

}  // namespace
}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_CPU_AROUND_LOOPS_H_
