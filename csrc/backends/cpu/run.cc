#include "backends/cpu/run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "backends/cpu/registry.h"
#include "options/table.h"
#include "step/slices.h"

namespace fusemin::cpu {
namespace {

// Without chunks, a task's share begins at a multiple of this many elements of the whole, so that two tasks seldom
// write one cache line.
constexpr int64_t kShareAlignment = 64;

int64_t NumChunks(int64_t size) { return (size + kChunk - 1) / kChunk; }

// How many elements of the gradient of a segment are in memory.
int64_t GradientSize(const Segment& segment) {
  return segment.slices != nullptr ? segment.slices->num_slices * segment.slices->row_size : segment.size;
}

// Of what a rule itself moves: the gradient is read, the parameter and the slots are read and written.
int64_t BytesPerElement(const Rule& rule, DType dtype) {
  return int64_t{3 + 2 * rule.num_slots} * kDTypeSize[static_cast<int>(dtype)];
}

// Elements that a rule is tried on at a time: few enough for copies of the parameter, the gradient and the slots to
// stay in the first-level cache.
constexpr int64_t kTrialChunk = 512;

constexpr PreparedOptions kNoOptions{};

bool HasRows(const Segment& segment) { return segment.param_row != nullptr || segment.gradient_row != nullptr; }

// `work(i, piece, piece of i)` for the pieces of n segments, which are numbered through, where `count(i)` is how many
// segment i has. Each task has an equal share of them.
template <class Count, class Work>
void ForEachPiece(int num_tasks, const ParallelFor& parallel_for, int n, const Count& count, const Work& work) {
  int64_t pieces = 0;
  for (int i = 0; i < n; ++i) pieces += count(i);
  const auto share = [&](int task) {
    const int64_t share_begin = pieces * task / num_tasks;
    const int64_t share_end = pieces * (task + 1) / num_tasks;
    int64_t at = 0;
    for (int i = 0; i < n && at < share_end; ++i) {
      const int64_t here = count(i);
      for (int64_t p = std::max(share_begin - at, int64_t{0}); p < std::min(share_end - at, here); ++p) {
        work(i, at + p, p);
      }
      at += here;
    }
  };
  if (num_tasks == 1) return share(0);
  parallel_for(num_tasks, share);
}

// `work(begin, end, row)` for the rows with slices, or parts of them, that are among the elements [begin, end); rows
// that follow one another are one. `row` is the position of the first of them in `slices.rows`.
template <class Work>
void ForEachTouched(const Slices& slices, int64_t begin, int64_t end, const Work& work) {
  if (slices.row_size == 0) return;
  const auto first = std::lower_bound(slices.rows.begin(), slices.rows.end(), begin / slices.row_size);
  const int64_t num_rows = static_cast<int64_t>(slices.rows.size());
  for (int64_t row = first - slices.rows.begin(); row < num_rows && slices.rows[row] * slices.row_size < end;) {
    int64_t next = row + 1;
    while (next < num_rows && slices.rows[next] == slices.rows[next - 1] + 1 &&
           slices.rows[next] * slices.row_size < end) {
      ++next;
    }
    work(std::max(begin, slices.rows[row] * slices.row_size),
         std::min(end, (slices.rows[next - 1] + 1) * slices.row_size), row);
    row = next;
  }
}

// One call of RunStep.
class Run {
 public:
  Run(const Step& step, const Segment* segments, int num_segments, int max_threads, const ParallelFor& parallel_for)
      : step_(step),
        kernels_(step.rule->kernels[static_cast<int>(step.dtype)]),
        options_(FindOptionKernels(step.isa)[static_cast<int>(step.dtype)]),
        element_size_(kDTypeSize[static_cast<int>(step.dtype)]),
        segments_(segments),
        num_segments_(num_segments),
        parallel_for_(parallel_for) {
    int64_t untouched = 0;
    for (int i = 0; i < num_segments; ++i) {
      total_ += segments[i].size;
      if (segments[i].slices == nullptr) continue;
      any_slices_ = true;
      only_touched_.resize(num_segments, 0);
      only_touched_[i] = TouchesOnlyItsRows(segments[i]);
      if (only_touched_[i]) {
        const Slices& slices = *segments[i].slices;
        untouched += segments[i].size - static_cast<int64_t>(slices.rows.size()) * slices.row_size;
      }
    }
    const int64_t elements = total_ - untouched;
    const int64_t bytes = elements * BytesPerElement(*step.rule, step.dtype);
    num_tasks_ = static_cast<int>(std::clamp<int64_t>(bytes / kMinBytesPerThread, 1, std::max(max_threads, 1)));
  }

  bool operator()(double* scalars) {
    const UserOptions& options = step_.options;
    const bool rows = std::any_of(segments_, segments_ + num_segments_, HasRows);
    if (!step_.has_options && kernels_.update != nullptr && !rows && !any_slices_) {
      ForEachShare([this](const Segment& segment, int64_t begin, int64_t end) {
        kernels_.update(step_.prepared, segment, begin, end);
      });
      return true;
    }

    if (step_.sums != nullptr) {
      sums_ = *step_.sums;
    } else if (options.SkipsNonFinite()) {
      sums_ = SumGradients(step_.dtype, step_.isa, segments_, num_segments_, num_tasks_, parallel_for_);
    }
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access): they are there if the option needs them.
    if (options.SkipsNonFinite() && sums_->not_finite != 0.0) {
      CopyRows();
      return false;
    }
    // Of the gradient, where it is not scaled for its norm.
    const double scale = collects_ ? options.CollectedScale() : step_.gradient_scale;
    scales_.assign(num_segments_, scale);
    if (collects_) Collect();
    if (step_.applies && options.WhichNorm() != Norm::kNone) ScaleByNorms(scale);
    if (step_.applies && step_.rule->has_trust_ratio) {
      UpdateByTrustRatio();
    } else if (step_.applies && acts_on_move_) {
      SetMoveFactors([this](int i, int64_t begin, int64_t end) { return TryRule(i, begin, end); });
    }
    // Of each piece, added up in their order, whoever computed them.
    std::vector<RuleSums> step_sums;
    if (step_.applies && kernels_.finish != nullptr) {
      for (int i = 0; i < num_segments_; ++i) step_sums.resize(step_sums.size() + NumPieces(i));
    }
    ForEachPiece([this](int i) { return NumPieces(i); },
                 [&](int i, int64_t number, int64_t piece) {
                   if (IsOnlyTouched(i)) return UpdateRows(i, piece);
                   UpdateChunk(i, piece * kChunk, std::min((piece + 1) * kChunk, segments_[i].size),
                               step_sums.empty() ? nullptr : &step_sums[number]);
                 });
    if (step_.applies && kernels_.finish != nullptr) Finish(step_sums, scalars);
    return true;
  }

 private:
  const void* At(const void* memory, int64_t element) const {
    return static_cast<const char*>(memory) + element * element_size_;
  }
  void* At(void* memory, int64_t element) const { return static_cast<char*>(memory) + element * element_size_; }

  // `work(segment, begin, end)` for the elements laid end to end, in equal shares.
  template <class Work>
  void ForEachShare(const Work& work) const {
    const int64_t blocks = (total_ + kShareAlignment - 1) / kShareAlignment;
    Split([&](int task) {
      const int64_t share_begin = blocks * task / num_tasks_ * kShareAlignment;
      const int64_t share_end = std::min(blocks * (task + 1) / num_tasks_ * kShareAlignment, total_);
      int64_t at = 0;
      for (int i = 0; i < num_segments_ && at < share_end; ++i) {
        const int64_t first = std::max(share_begin - at, int64_t{0});
        const int64_t last = std::min(share_end - at, segments_[i].size);
        if (first < last) work(segments_[i], first, last);
        at += segments_[i].size;
      }
    });
  }

  template <class Count, class Work>
  void ForEachPiece(const Count& count, const Work& work) const {
    fusemin::cpu::ForEachPiece(num_tasks_, parallel_for_, num_segments_, count, work);
  }

  // `work(i, chunk, begin, end)` for the chunks of the segments, which are numbered through, but for those that are
  // only touched where they have slices.
  template <class Work>
  void ForEachChunk(const Work& work) const {
    ForEachPiece([this](int i) { return IsOnlyTouched(i) ? 0 : NumChunks(segments_[i].size); },
                 [&](int i, int64_t chunk, int64_t piece) {
                   work(i, chunk, piece * kChunk, std::min((piece + 1) * kChunk, segments_[i].size));
                 });
  }

  bool IsOnlyTouched(int i) const { return !only_touched_.empty() && only_touched_[i]; }

  // Chunks, or sets of rows of a segment that is only touched where it has slices.
  int64_t NumPieces(int i) const {
    if (!IsOnlyTouched(i)) return NumChunks(segments_[i].size);
    const Slices& slices = *segments_[i].slices;
    const int64_t rows = static_cast<int64_t>(slices.rows.size());
    return slices.row_size == 0 ? 0 : (rows + RowsOfPiece(slices) - 1) / RowsOfPiece(slices);
  }

  static int64_t RowsOfPiece(const Slices& slices) { return std::max(kChunk / slices.row_size, int64_t{1}); }

  // Whether nothing is read or written of the rows of a segment that have no slice.
  bool TouchesOnlyItsRows(const Segment& segment) const {
    const UserOptions& options = step_.options;
    bool in_place = kernels_.update != nullptr && segment.param_in == segment.param_out;
    for (int k = 0; k < step_.rule->num_slots; ++k) in_place = in_place && segment.slot_in[k] == segment.slot_out[k];
    return step_.sparse.rows == SparseRows::kTouched && in_place && !HasRows(segment) &&
           !options.AnyBeforeRule(segment.decays) && !options.Any<HasAfterRule>() && !collects_ && !acts_on_move_;
  }

  template <class Work>
  void Split(const Work& work) const {
    if (num_tasks_ == 1) return work(0);
    parallel_for_(num_tasks_, work);
  }

  // Adds the gradients to the accumulators, which are the gradients of the rest of the step.
  void Collect() const {
    ForEachChunk([this](int i, int64_t /*chunk*/, int64_t begin, int64_t end) {
      const Segment& s = segments_[i];
      if (s.slices == nullptr) {
        options_.collect(At(s.accumulator_in, begin), At(s.gradient, begin), At(s.accumulator_out, begin), end - begin,
                         step_.gradient_scale);
        return;
      }
      Copy(s.accumulator_in, s.accumulator_out, begin, end);
      ForEachTouched(*s.slices, begin, end, [&](int64_t from, int64_t to, int64_t row) {
        alignas(64) char scratch[kChunk * sizeof(double)];
        Gather(kNoOptions, *s.slices, from, to, row, step_.gradient_scale, scratch);
        void* sum = At(s.accumulator_out, from);
        options_.collect(sum, scratch, sum, to - from, 1.0);
      });
    });
  }

  // Whether the rule sees the segment's slices, and not a sum of gradients that is dense.
  bool SeesSlices(const Segment& segment) const { return segment.slices != nullptr && !collects_; }

  // The gradient in memory: dense, or the values of the slices.
  const void* Gradient(const Segment& segment) const {
    return collects_ ? segment.accumulator_out : segment.slices != nullptr ? segment.slices->values : segment.gradient;
  }

  // The scales that clip the gradients by their norms. The norm of slices is that of all of them, as they came.
  void ScaleByNorms(double scale) {
    const auto count = [this](int i) {
      return NumChunks(SeesSlices(segments_[i]) ? GradientSize(segments_[i]) : segments_[i].size);
    };
    int64_t chunks = 0;
    for (int i = 0; i < num_segments_; ++i) chunks += count(i);
    // Added in the order of the chunks, whoever computed them.
    std::vector<double> squares(chunks, 0.0);
    const bool per_segment = step_.options.WhichNorm() == Norm::kOfTensor;
    const bool summed = sums_.has_value() && !collects_;
    if (per_segment || !summed) {
      ForEachPiece(count, [&](int i, int64_t chunk, int64_t piece) {
        const int64_t size = SeesSlices(segments_[i]) ? GradientSize(segments_[i]) : segments_[i].size;
        const int64_t begin = piece * kChunk, end = std::min(begin + kChunk, size);
        options_.reduce(At(Gradient(segments_[i]), begin), end - begin, &squares[chunk]);
      });
    }
    const auto sum = [&](int64_t first, int64_t last) {
      return std::accumulate(squares.begin() + first, squares.begin() + last, 0.0);
    };
    if (per_segment) {
      int64_t at = 0;
      for (int i = 0; i < num_segments_; ++i) {
        scales_[i] = scale * step_.options.NormFactor(std::sqrt(sum(at, at + count(i))) * scale);
        at += count(i);
      }
      return;
    }
    const double norm = std::sqrt(summed ? sums_->squares : sum(0, chunks)) * scale;
    std::fill(scales_.begin(), scales_.end(), scale * step_.options.NormFactor(norm));
  }

  // Writes the dense gradient of [begin, end), as the options make it, to `out`. `row` is the position in `slices.rows`
  // of the first row that is not before `begin`.
  void Gather(const PreparedOptions& options, const Slices& slices, int64_t begin, int64_t end, int64_t row,
              double scale, void* out) const {
    char* const to = static_cast<char*>(out);
    int64_t at = begin;
    const auto zero_until = [&](int64_t until) {
      std::memset(to + (at - begin) * element_size_, 0, (until - at) * element_size_);
    };
    ForEachRowOf(slices, begin, end, row, [&](int64_t from, int64_t until, const void* values, int64_t r) {
      zero_until(from);
      options_.sum_slices(options, values, &slices.order[slices.first[r]], slices.first[r + 1] - slices.first[r],
                          slices.row_size, to + (from - begin) * element_size_, until - from, scale);
      at = until;
    });
    zero_until(end);
  }

  // `work(begin, end, values, row)` for each row from position `row` on, or the part of it that is in [begin, end),
  // with the values of the slices from the element that corresponds to `begin`.
  template <class Work>
  void ForEachRowOf(const Slices& slices, int64_t begin, int64_t end, int64_t row, const Work& work) const {
    const int64_t num_rows = static_cast<int64_t>(slices.rows.size());
    for (; row < num_rows && slices.rows[row] * slices.row_size < end; ++row) {
      const int64_t row_begin = slices.rows[row] * slices.row_size;
      const int64_t from = std::max(begin, row_begin), until = std::min(end, row_begin + slices.row_size);
      work(from, until, At(slices.values, from - row_begin), row);
    }
  }

  static int64_t FirstRow(const Slices& slices, int64_t begin) {
    if (slices.row_size == 0) return static_cast<int64_t>(slices.rows.size());
    return std::lower_bound(slices.rows.begin(), slices.rows.end(), begin / slices.row_size) - slices.rows.begin();
  }

  // What happens to a parameter before the rule, everywhere in [begin, end). Returns the segment as the rule is to see
  // it.
  Segment BeforeRule(const Segment& segment, int64_t begin, int64_t end) const {
    Segment seen = segment;
    if (step_.options.AnyBeforeRule(segment.decays)) {
      options_.before_rule(step_.prepared_options, segment.decays, At(segment.param_in, begin),
                           At(segment.param_out, begin), end - begin);
      seen.param_in = segment.param_out;
    }
    return seen;
  }

  // The gradient that the rule sees at [begin, end) of segment i, as memory of the whole segment; in `scratch`, if it
  // is not as it came.
  const void* SeenGradient(int i, int64_t begin, int64_t end, char* scratch) const {
    const Segment& segment = segments_[i];
    if (SeesSlices(segment)) {
      Gather(step_.prepared_options, *segment.slices, begin, end, FirstRow(*segment.slices, begin), scales_[i],
             scratch);
    } else if (scales_[i] != 1.0 || acts_on_gradient_) {
      options_.on_gradient(step_.prepared_options, At(Gradient(segment), begin), scratch, end - begin, scales_[i]);
    } else {
      return Gradient(segment);
    }
    return scratch - begin * element_size_;
  }

  void Finish(const std::vector<RuleSums>& of_pieces, double* scalars) const {
    RuleSums sums;
    for (const RuleSums& piece : of_pieces) {
      for (int k = 0; k < kMaxStepSums; ++k) sums.sum[k] += piece.sum[k];
    }
    kernels_.finish(step_.hyperparameters, step_.number, sums.sum, scalars);
  }

  // The kernel of the rule, which adds to the sums if it has some.
  void CallRule(const Segment& seen, int64_t begin, int64_t end, RuleSums* sums) const {
    if (sums != nullptr) {
      kernels_.update_and_sum(step_.prepared, seen, begin, end, sums);
    } else {
      kernels_.update(step_.prepared, seen, begin, end);
    }
  }

  // The rule at [begin, end) of segment i, which it sees as `seen`. `sums` is for rules that have some.
  void ApplyRule(int i, Segment seen, int64_t begin, int64_t end, RuleSums* sums) const {
    alignas(64) char scratch[kChunk * sizeof(double)];
    if (SeesSlices(seen) && step_.sparse.separate_duplicates) {
      const int64_t row = FirstRow(*seen.slices, begin);
      if (HasDuplicates(*seen.slices, end, row)) {
        return ApplyRuleSeparately(seen, scales_[i], begin, end, row, sums);
      }
    }
    seen.gradient = SeenGradient(i, begin, end, scratch);
    // With a trust ratio it does not move anything yet.
    if (acts_on_move_ && !step_.rule->has_trust_ratio) {
      MoveOtherwise(i, seen, begin, end, [&](const Segment& to) { CallRule(to, begin, end, sums); });
    } else {
      CallRule(seen, begin, end, sums);
    }
  }

  // `move(segment)`, by which a rule moves the parameter, at [begin, end) of segment i, as the options change it.
  template <class Move>
  void MoveOtherwise(int i, const Segment& seen, int64_t begin, int64_t end, const Move& move) const {
    alignas(64) char moved[kChunk * sizeof(double)];
    Segment aside = seen;
    aside.param_out = moved - begin * element_size_;
    move(aside);
    options_.on_move(At(seen.gradient, begin), At(seen.param_in, begin), moved, At(seen.param_out, begin), end - begin,
                     move_factors_[i]);
  }

  // The sum over what the rule would do at [begin, end) of segment i. Writes nothing.
  double TryRule(int i, int64_t begin, int64_t end) const {
    alignas(64) char param[kTrialChunk * sizeof(double)], gradient[kTrialChunk * sizeof(double)];
    alignas(64) char moved[kTrialChunk * sizeof(double)], slots[kMaxSlots][kTrialChunk * sizeof(double)];
    Segment seen = segments_[i];
    if (step_.options.AnyBeforeRule(seen.decays)) {
      options_.before_rule(step_.prepared_options, seen.decays, At(seen.param_in, begin), param, end - begin);
      seen.param_in = param - begin * element_size_;
    }
    seen.gradient = SeenGradient(i, begin, end, gradient);
    seen.param_out = moved - begin * element_size_;
    for (int k = 0; k < step_.rule->num_slots; ++k) seen.slot_out[k] = slots[k] - begin * element_size_;
    RuleSums unused;
    CallRule(seen, begin, end, kernels_.finish != nullptr ? &unused : nullptr);
    return options_.sum_move(At(seen.gradient, begin), At(seen.param_in, begin), moved, end - begin);
  }

  // Sets the factors of what the rule does, by the sums `sum(i, begin, end)`.
  template <class Sum>
  void SetMoveFactors(const Sum& sum) {
    int64_t chunks = 0;
    for (int i = 0; i < num_segments_; ++i) chunks += NumChunks(segments_[i].size);
    std::vector<double> sums(chunks, 0.0);
    ForEachChunk([&](int i, int64_t chunk, int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at += kTrialChunk) sums[chunk] += sum(i, at, std::min(at + kTrialChunk, end));
    });
    move_factors_.assign(num_segments_, 0.0);
    auto next = sums.begin();
    for (int i = 0; i < num_segments_; ++i) {
      const auto end = next + NumChunks(segments_[i].size);
      move_factors_[i] =
          step_.options.MoveFactor(std::accumulate(next, end, 0.0), static_cast<double>(segments_[i].size));
      next = end;
    }
  }

  static bool HasDuplicates(const Slices& slices, int64_t end, int64_t row) {
    for (; row < static_cast<int64_t>(slices.rows.size()) && slices.rows[row] * slices.row_size < end; ++row) {
      if (slices.first[row + 1] - slices.first[row] > 1) return true;
    }
    return false;
  }

  // The same where a row of several slices is there, and the rule is to get the powers of each of them.
  void ApplyRuleSeparately(const Segment& seen, double scale, int64_t begin, int64_t end, int64_t row,
                           RuleSums* sums) const {
    alignas(64) char powers[3][kChunk * sizeof(double)];
    const int64_t value_size = step_.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
    const Slices& slices = *seen.slices;
    for (char* power : powers) std::memset(power, 0, (end - begin) * value_size);
    ForEachRowOf(slices, begin, end, row, [&](int64_t from, int64_t until, const void* values, int64_t r) {
      const int64_t offset = (from - begin) * value_size;
      options_.sum_powers(step_.prepared_options, values, &slices.order[slices.first[r]],
                          slices.first[r + 1] - slices.first[r], slices.row_size, powers[0] + offset,
                          powers[1] + offset, powers[2] + offset, until - from, scale);
    });
    const PowerSums gradient{powers[0], powers[1], powers[2]};
    if (sums != nullptr) {
      kernels_.update_and_sum_separate(step_.prepared, seen, gradient, begin, end, sums);
    } else {
      kernels_.update_separate(step_.prepared, seen, gradient, begin, end);
    }
  }

  // The update of a rule without a trust ratio.
  void Update(int i, int64_t begin, int64_t end, RuleSums* sums) const {
    const Segment& segment = segments_[i];
    Segment seen = BeforeRule(segment, begin, end);
    if (!SeesSlices(segment) || step_.sparse.rows == SparseRows::kEvery) {
      return ApplyRule(i, seen, begin, end, sums);
    }
    Copy(seen.param_in, seen.param_out, begin, end);
    seen.param_in = seen.param_out;
    if (step_.sparse.rows == SparseRows::kSlotsOfEvery) {
      alignas(64) char moved[kChunk * sizeof(double)];
      seen.param_out = moved - begin * element_size_;
      ApplyRule(i, seen, begin, end, sums);
      ForEachTouched(*segment.slices, begin, end, [&](int64_t from, int64_t to, int64_t /*row*/) {
        Copy(seen.param_out, segment.param_out, from, to);
      });
      return;
    }
    for (int k = 0; k < step_.rule->num_slots; ++k) {
      Copy(seen.slot_in[k], seen.slot_out[k], begin, end);
      seen.slot_in[k] = seen.slot_out[k];
    }
    ForEachTouched(*segment.slices, begin, end,
                   [&](int64_t from, int64_t to, int64_t /*row*/) { ApplyRule(i, seen, from, to, sums); });
  }

  // Slots and norms first, everywhere, then the move: a norm is that of a whole segment.
  void UpdateByTrustRatio() {
    int64_t chunks = 0;
    for (int i = 0; i < num_segments_; ++i) chunks += NumChunks(segments_[i].size);
    std::vector<RuleSums> sums(chunks);
    ForEachChunk([&](int i, int64_t chunk, int64_t begin, int64_t end) {
      ApplyRule(i, BeforeRule(segments_[i], begin, end), begin, end, &sums[chunk]);
    });
    std::vector<RuleSums> squares(num_segments_);
    int64_t at = 0;
    for (int i = 0; i < num_segments_; ++i) {
      for (int64_t c = 0; c < NumChunks(segments_[i].size); ++c, ++at) {
        for (int k = 0; k < 2; ++k) squares[i].sum[k] += sums[at].sum[k];
      }
    }
    const auto move = [&](int i, const Segment& seen, int64_t begin, int64_t end) {
      kernels_.move(step_.prepared, seen, begin, end, std::sqrt(squares[i].sum[0]), std::sqrt(squares[i].sum[1]));
    };
    // What the first pass has made.
    const auto as_seen = [this](int i) {
      Segment seen = segments_[i];
      if (step_.options.AnyBeforeRule(seen.decays)) seen.param_in = seen.param_out;
      return seen;
    };
    if (acts_on_move_) {
      SetMoveFactors([&](int i, int64_t begin, int64_t end) {
        alignas(64) char gradient[kTrialChunk * sizeof(double)], moved[kTrialChunk * sizeof(double)];
        Segment seen = as_seen(i);
        seen.param_out = moved - begin * element_size_;
        move(i, seen, begin, end);
        return options_.sum_move(At(SeenGradient(i, begin, end, gradient), begin), At(seen.param_in, begin), moved,
                                 end - begin);
      });
    }
    ForEachChunk([&](int i, int64_t /*chunk*/, int64_t begin, int64_t end) {
      Segment seen = as_seen(i);
      if (!acts_on_move_) return move(i, seen, begin, end);
      alignas(64) char gradient[kChunk * sizeof(double)];
      seen.gradient = SeenGradient(i, begin, end, gradient);
      MoveOtherwise(i, seen, begin, end, [&](const Segment& to) { move(i, to, begin, end); });
    });
  }

  // The rows of a piece of a segment that is only touched where it has slices. A gradient that is one slice, as it
  // came, is read where it is.
  void UpdateRows(int i, int64_t piece) const {
    const Segment& segment = segments_[i];
    const Slices& slices = *segment.slices;
    const bool as_it_came = scales_[i] == 1.0 && !acts_on_gradient_;
    const int64_t end = std::min((piece + 1) * RowsOfPiece(slices), static_cast<int64_t>(slices.rows.size()));
    Segment seen = segment;
    for (int64_t row = piece * RowsOfPiece(slices); row < end; ++row) {
      const int64_t first = slices.rows[row] * slices.row_size, last = first + slices.row_size;
      if (as_it_came && slices.first[row + 1] - slices.first[row] == 1) {
        seen.gradient = At(slices.values, slices.order[slices.first[row]] * slices.row_size - first);
        kernels_.update(step_.prepared, seen, first, last);
        continue;
      }
      for (int64_t at = first; at < last; at += kChunk) {
        ApplyRule(i, segment, at, std::min(at + kChunk, last), nullptr);
      }
    }
  }

  void UpdateChunk(int i, int64_t begin, int64_t end, RuleSums* sums) const {
    const Segment& segment = segments_[i];
    const int64_t n = end - begin;
    if (!step_.applies) {
      Copy(segment.param_in, segment.param_out, begin, end);
      for (int k = 0; k < step_.rule->num_slots; ++k) Copy(segment.slot_in[k], segment.slot_out[k], begin, end);
    } else if (!step_.rule->has_trust_ratio) {
      Update(i, begin, end, sums);
    }
    if (step_.applies && collects_) std::memset(At(segment.accumulator_out, begin), 0, n * element_size_);
    if (acts_after_rule_) {
      options_.after_rule(step_.prepared_options, At(segment.average_in, begin), At(segment.average_out, begin),
                          At(segment.param_out, begin), n);
    }
    CopyGradient(segment, begin, end);
    Copy(segment.param_out, segment.param_row, begin, end);
  }

  // To the row of the gradient, as it came, summed where it is sparse.
  void CopyGradient(const Segment& segment, int64_t begin, int64_t end) const {
    if (segment.slices == nullptr) return Copy(segment.gradient, segment.gradient_row, begin, end);
    if (segment.gradient_row == nullptr) return;
    Gather(kNoOptions, *segment.slices, begin, end, FirstRow(*segment.slices, begin), 1.0,
           At(segment.gradient_row, begin));
  }

  // Where a step is skipped, the rows are those of a step that changes nothing.
  void CopyRows() const {
    ForEachChunk([this](int i, int64_t /*chunk*/, int64_t begin, int64_t end) {
      CopyGradient(segments_[i], begin, end);
      Copy(segments_[i].param_in, segments_[i].param_row, begin, end);
    });
  }

  void Copy(const void* from, void* to, int64_t begin, int64_t end) const {
    if (to != nullptr && to != from) std::memcpy(At(to, begin), At(from, begin), (end - begin) * element_size_);
  }

  const Step& step_;
  const RuleKernels& kernels_;
  const OptionKernels& options_;
  const int64_t element_size_;
  const Segment* const segments_;
  const int num_segments_;
  const ParallelFor& parallel_for_;
  // What the options of this step do.
  const bool collects_ = step_.options.Any<HasCollect>(), acts_on_gradient_ = step_.options.Any<HasOnGradient>(),
             acts_on_move_ = step_.options.Any<HasOnMove>(), acts_after_rule_ = step_.options.Any<HasAfterRule>();
  int64_t total_ = 0;
  int num_tasks_ = 1;
  bool any_slices_ = false;
  // Empty, or for each segment whether the step leaves the rows without slices alone.
  std::vector<char> only_touched_;
  // Over the gradients as they came, if they were needed.
  std::optional<GradientSums> sums_;
  // For each segment, what its gradient is multiplied with.
  std::vector<double> scales_;
  // The same of what the rule subtracts, if an option changes that.
  std::vector<double> move_factors_;
};

}  // namespace

Step PrepareStep(const Rule& rule, DType dtype, Isa isa, const UserOptions& options, const double* hyperparameters,
                 int64_t iterations, const double* option_scalars, double* scalars) {
  // By convention the first hyperparameter is the learning rate.
  Now<double, int64_t> now{iterations, options.Updates(iterations), hyperparameters[0], {}};
  std::copy(option_scalars, option_scalars + kNumOptionScalars, now.scalars);
  const double number = static_cast<double>(now.updates + 1);
  Step step{&rule, dtype, isa, {}, options, {}, HasOptions(options), options.GradientScale(now), options.Applies(now),
            {},    number};
  std::copy(hyperparameters, hyperparameters + rule.num_hyperparameters, step.hyperparameters);
  // Zeros are options that are off.
  if (step.has_options) FindOptionKernels(isa)[static_cast<int>(dtype)].prepare(options, now, &step.prepared_options);
  rule.kernels[static_cast<int>(dtype)].prepare(hyperparameters, number, scalars, &step.prepared);
  return step;
}

int64_t StepBytes(const Rule& rule, DType dtype, const Segment* segments, int num_segments) {
  int64_t elements = 0;
  for (int i = 0; i < num_segments; ++i) elements += segments[i].size;
  return elements * BytesPerElement(rule, dtype);
}

GradientSums SumGradients(DType dtype, Isa isa, const Segment* segments, int num_segments, int max_threads,
                          const ParallelFor& parallel_for) {
  const OptionKernels& options = FindOptionKernels(isa)[static_cast<int>(dtype)];
  const int64_t element_size = kDTypeSize[static_cast<int>(dtype)];
  const auto count = [&](int i) { return NumChunks(GradientSize(segments[i])); };
  int64_t chunks = 0, elements = 0;
  for (int i = 0; i < num_segments; ++i) {
    chunks += count(i);
    elements += GradientSize(segments[i]);
  }
  const int num_tasks =
      static_cast<int>(std::clamp<int64_t>(elements * element_size / kMinBytesPerThread, 1, std::max(max_threads, 1)));
  // Added in the order of the chunks, whoever computed them.
  std::vector<double> squares(chunks, 0.0);
  std::vector<char> finite(chunks, 1);
  ForEachPiece(num_tasks, parallel_for, num_segments, count, [&](int i, int64_t chunk, int64_t piece) {
    const void* gradient = segments[i].slices != nullptr ? segments[i].slices->values : segments[i].gradient;
    const int64_t n = std::min(kChunk, GradientSize(segments[i]) - piece * kChunk);
    finite[chunk] =
        options.reduce(static_cast<const char*>(gradient) + piece * kChunk * element_size, n, &squares[chunk]);
  });
  const bool all = std::all_of(finite.begin(), finite.end(), [](char ok) { return ok; });
  return {std::accumulate(squares.begin(), squares.end(), 0.0), all ? 0.0 : 1.0};
}

bool RunStep(const Step& step, const Segment* segments, int num_segments, int max_threads,
             const ParallelFor& parallel_for, double* scalars) {
  return Run(step, segments, num_segments, max_threads, parallel_for)(scalars);
}

}  // namespace fusemin::cpu
