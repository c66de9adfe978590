#include "step/slices.h"

#include <algorithm>

namespace fusemin {
namespace {

// Digits of the radix sort: a table of counts that stays in the first-level cache.
constexpr int kDigitBits = 11;
constexpr int64_t kDigits = int64_t{1} << kDigitBits;

template <class Index>
int64_t Sort(const Index* indices, int64_t num_rows, Slices* slices) {
  const int64_t n = slices->num_slices;
  Index largest = 0;
  bool sorted = true;
  for (int64_t i = 0; i < n; ++i) {
    if (indices[i] < 0 || static_cast<int64_t>(indices[i]) >= num_rows) return i;
    sorted = sorted && (i == 0 || indices[i - 1] <= indices[i]);
    largest = std::max(largest, indices[i]);
  }
  std::vector<int64_t>& order = slices->order;
  order.resize(n);
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  if (!sorted) {
    // By one digit after another, each time keeping the order of what is equal. Linear in the number of slices.
    std::vector<int64_t> other(n), ends(kDigits);
    for (int shift = 0; (static_cast<int64_t>(largest) >> shift) > 0; shift += kDigitBits) {
      const auto digit = [&](int64_t i) { return (static_cast<int64_t>(indices[i]) >> shift) & (kDigits - 1); };
      std::fill(ends.begin(), ends.end(), 0);
      for (int64_t i : order) ++ends[digit(i)];
      for (int64_t d = 1; d < kDigits; ++d) ends[d] += ends[d - 1];
      for (int64_t k = n - 1; k >= 0; --k) other[--ends[digit(order[k])]] = order[k];
      order.swap(other);
    }
  }
  slices->rows.clear();
  slices->first.clear();
  for (int64_t k = 0; k < n; ++k) {
    const int64_t row = indices[order[k]];
    if (k == 0 || row != slices->rows.back()) {
      slices->rows.push_back(row);
      slices->first.push_back(k);
    }
  }
  slices->first.push_back(n);
  return -1;
}

}  // namespace

int64_t SortSlices(const int32_t* indices, int64_t num_rows, Slices* slices) { return Sort(indices, num_rows, slices); }
int64_t SortSlices(const int64_t* indices, int64_t num_rows, Slices* slices) { return Sort(indices, num_rows, slices); }

}  // namespace fusemin
