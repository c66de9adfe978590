// Sparse gradients: slices, each of which belongs to a row of the parameter.
#ifndef FUSEMIN_KERNELS_SLICES_H_
#define FUSEMIN_KERNELS_SLICES_H_

#include <cstdint>
#include <vector>

namespace fusemin {

// The gradient of one parameter, sorted by rows. Several slices may be of one row, whose gradient is their sum.
struct Slices {
  int64_t num_slices = 0;
  // Elements of a row, and of a slice.
  int64_t row_size = 0;
  // The caller's memory, [num_slices, row_size].
  const void* values = nullptr;
  // The rows that have slices, ascending. Those of rows[j] are order[first[j]] to order[first[j + 1] - 1], in the order
  // in which they came, which is the order in which they are added up.
  std::vector<int64_t> rows, first, order;
};

// Fills `rows`, `first` and `order` from the row of each slice. Returns -1, or the position of the first index that is
// not in [0, num_rows); then the slices are not to be used.
int64_t SortSlices(const int32_t* indices, int64_t num_rows, Slices* slices);
int64_t SortSlices(const int64_t* indices, int64_t num_rows, Slices* slices);

}  // namespace fusemin

#endif  // FUSEMIN_KERNELS_SLICES_H_
