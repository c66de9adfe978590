// Loops over memory that are of no rule: the options, and sums over gradients.
#ifndef FUSEMIN_KERNELS_CPU_OPTION_KERNELS_H_
#define FUSEMIN_KERNELS_CPU_OPTION_KERNELS_H_

#include <cstdint>

#include "options/user_options.h"

namespace fusemin {

// The options at one step, in the type that is computed in. Filled by `OptionKernels::prepare`.
struct PreparedOptions {
  alignas(16) unsigned char bytes[128];
};

// Compiled for one type of number. Arrays are of n elements; input and output are the same or disjoint.
struct OptionKernels {
  void (*prepare)(const UserOptions& options, const Now<double, int64_t>& now, PreparedOptions* prepared);
  // Adds the squares of x to *squares; false if an element is not finite.
  bool (*reduce)(const void* x, int64_t n, double* squares);
  // out = the gradient that a rule sees of the gradient x * scale.
  void (*on_gradient)(const PreparedOptions& options, const void* x, void* out, int64_t n, double scale);
  // out = what is collected of `sum` and gradient * scale.
  void (*collect)(const void* sum, const void* gradient, void* out, int64_t n, double scale);
  void (*before_rule)(const PreparedOptions& options, bool decays, const void* param, void* out, int64_t n);
  // The sum of the terms of what a rule that has made `moved` of `param` would do.
  double (*sum_move)(const void* gradient, const void* param, const void* moved, int64_t n);
  // out = where the parameter goes instead.
  void (*on_move)(const void* gradient, const void* param, const void* moved, void* out, int64_t n, double factor);
  // average_out = the next average; it may replace `param`.
  void (*after_rule)(const PreparedOptions& options, const void* average, void* average_out, void* param, int64_t n);
  // out[j] = the sum of on_gradient(slice[j]) over the slices values + order[i] * row_size, i < count.
  void (*sum_slices)(const PreparedOptions& options, const void* values, const int64_t* order, int64_t count,
                     int64_t row_size, void* out, int64_t n, double scale);
  // The same, in the type that rules compute in, with the sums of the squares and of the magnitudes.
  void (*sum_powers)(const PreparedOptions& options, const void* values, const int64_t* order, int64_t count,
                     int64_t row_size, void* sum, void* squares, void* magnitudes, int64_t n, double scale);
};

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_CPU_OPTION_KERNELS_H_
