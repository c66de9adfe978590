// The vocabulary in which the rules are written.
//
// A rule calls these functions unqualified, on a value type that it does not
// know. For float and double they are the ones below; a compiler back end with
// a value type of its own (an expression of XLA, say) supplies overloads beside
// that type, where argument-dependent lookup finds them. Everything here is
// free of state and may be called from any thread.
#ifndef FUSEMIN_NUMERIC_MATH_H_
#define FUSEMIN_NUMERIC_MATH_H_

#include <cstdint>

#if defined(__CUDACC__)
#define FUSEMIN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FUSEMIN_HOST_DEVICE inline __attribute__((always_inline))
#include <cmath>
#endif

namespace fusemin {

FUSEMIN_HOST_DEVICE float Sqrt(float x) { return sqrtf(x); }
FUSEMIN_HOST_DEVICE double Sqrt(double x) { return sqrt(x); }

namespace internal {
// The second if either is NaN. Two choices in turn are vectorised where one
// between conditions joined by || is not.
template <class T>
FUSEMIN_HOST_DEVICE T NanOr(T a, T b) {
  return a != a ? a : b;
}
}  // namespace internal

// NaN in either argument gives NaN, as in TensorFlow's maximum.
FUSEMIN_HOST_DEVICE float Max(float a, float b) { return internal::NanOr(a, a > b ? a : b); }
FUSEMIN_HOST_DEVICE double Max(double a, double b) { return internal::NanOr(a, a > b ? a : b); }
FUSEMIN_HOST_DEVICE float Min(float a, float b) { return internal::NanOr(a, a < b ? a : b); }
FUSEMIN_HOST_DEVICE double Min(double a, double b) { return internal::NanOr(a, a < b ? a : b); }

FUSEMIN_HOST_DEVICE float Abs(float x) { return fabsf(x); }
FUSEMIN_HOST_DEVICE double Abs(double x) { return fabs(x); }

// -1, 0 or 1; NaN of NaN.
FUSEMIN_HOST_DEVICE float Sign(float x) { return x > 0 ? 1 : (x < 0 ? -1 : x); }
FUSEMIN_HOST_DEVICE double Sign(double x) { return x > 0 ? 1 : (x < 0 ? -1 : x); }

// Rules compare with `Less` and choose with `Select`: a value need not be a
// number that C++ could branch on. Both of the alternatives are computed.
FUSEMIN_HOST_DEVICE bool Less(float a, float b) { return a < b; }
FUSEMIN_HOST_DEVICE bool Less(double a, double b) { return a < b; }
FUSEMIN_HOST_DEVICE bool Equal(float a, float b) { return a == b; }
FUSEMIN_HOST_DEVICE bool Equal(double a, double b) { return a == b; }
FUSEMIN_HOST_DEVICE bool Equal(int64_t a, int64_t b) { return a == b; }
FUSEMIN_HOST_DEVICE bool And(bool a, bool b) { return a && b; }
FUSEMIN_HOST_DEVICE float Select(bool condition, float yes, float no) { return condition ? yes : no; }
FUSEMIN_HOST_DEVICE double Select(bool condition, double yes, double no) { return condition ? yes : no; }

// float goes through double: that rounds correctly but for about one case in
// 10^8, so every compiler and library gives the same bits.
#if defined(__CUDACC__)
// Function calls: on a GPU it is some hundred instructions, which a rule that takes a power of each element would have
// many times.
#define FUSEMIN_POW static __host__ __device__ __noinline__
#else
#define FUSEMIN_POW FUSEMIN_HOST_DEVICE
#endif
FUSEMIN_POW double Pow(double base, double exponent) { return pow(base, exponent); }
FUSEMIN_POW float Pow(float base, float exponent) {
  return static_cast<float>(pow(static_cast<double>(base), static_cast<double>(exponent)));
}
#undef FUSEMIN_POW

// Of integers that are not negative.
FUSEMIN_HOST_DEVICE int64_t Remainder(int64_t a, int64_t b) { return a % b; }

// The number `c` as a value of the type of `like`.
FUSEMIN_HOST_DEVICE float Constant(float, double c) { return static_cast<float>(c); }
FUSEMIN_HOST_DEVICE double Constant(double, double c) { return c; }
FUSEMIN_HOST_DEVICE int64_t Constant(int64_t, double c) { return static_cast<int64_t>(c); }

// A condition whose value is known when the code is built, beside a value of the type of `like`.
FUSEMIN_HOST_DEVICE bool Known(float, bool condition) { return condition; }
FUSEMIN_HOST_DEVICE bool Known(double, bool condition) { return condition; }
FUSEMIN_HOST_DEVICE bool Known(int64_t, bool condition) { return condition; }

// The same number in float64.
FUSEMIN_HOST_DEVICE double Widen(float x) { return x; }
FUSEMIN_HOST_DEVICE double Widen(double x) { return x; }

}  // namespace fusemin

#endif  // FUSEMIN_NUMERIC_MATH_H_
