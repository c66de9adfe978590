// Enqueues one step over many tensors of device memory.
#ifndef FUSEMIN_KERNELS_CUDA_RUN_H_
#define FUSEMIN_KERNELS_CUDA_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/parameters.h"
#include "options/user_options.h"
#include "step/step.h"

namespace fusemin::cuda {

// What of a step is the same for all tensors.
struct Step {
  // Of `FindRule`.
  const Rule* rule;
  DType dtype;
  UserOptions options;
  // Bits of float64 where the type is kNumber, else device addresses, which are read when the step runs.
  uint64_t hyperparameters[kMaxHyperparameters];
  ScalarType hyperparameter_types[kMaxHyperparameters];
  // Read when the step runs, and written after it.
  ScalarMemory scalars[kNumScalars];
  ScalarType scalar_types[kNumScalars];
};

// Device memory to copy `count` times, to `to` and what follows it.
struct RowCopies {
  void* to;
  const void* from;
  uint64_t bytes, count;
};

// The launches of a step. Knows the addresses only: nothing is read or written before `Enqueue`.
class FUSEMIN_CUDA_API Plan {
 public:
  // The copies are made after the update.
  Plan(const Step& step, const Segment* segments, int num_segments, const std::vector<RowCopies>& copies);

  int num_launches() const { return static_cast<int>(launches_.size() + fills_.size()); }
  // What the launches read and write of tensors; at a step that uses the accumulators, if there are some.
  uint64_t num_bytes() const { return num_bytes_; }
  // Device memory that must be given to `Enqueue`, of any content; it may be freed, in the order of the stream, after.
  size_t scratch_bytes() const { return scratch_bytes_; }

  // Enqueues the launches. `tickets` are kNumTickets uint32 of device memory, all 0 before the first step of a stream,
  // and for the use of one stream only. Returns an error, or "". If there is one, a part of the step may have been
  // enqueued: the driver has failed then.
  std::string Enqueue(Stream stream, uint64_t scratch, uint64_t tickets);

 private:
  struct Launch {
    // Of the rule, or of none.
    const Rule* rule;
    std::string variant;
    StepParameters parameters;
  };

  void AddLaunches(const std::vector<StepParameters>& groups, const Rule* rule, const std::string& variant,
                   Phase phase);

  std::vector<Launch> launches_;
  std::vector<RowFillParameters> fills_;
  uint64_t num_chunks_ = 0, num_tensors_ = 0;
  uint64_t num_bytes_ = 0;
  size_t scratch_bytes_ = 0;
};

// Zeroes the tickets of `Enqueue`.
FUSEMIN_CUDA_API std::string ZeroTickets(Stream stream, uint64_t tickets);

// Enqueues copies of rows, which must not overlap. Returns an error, or "".
FUSEMIN_CUDA_API std::string EnqueueCopies(Stream stream, const std::vector<RowCopies>& copies);

// How many launches those are.
FUSEMIN_CUDA_API int NumCopyLaunches(const std::vector<RowCopies>& copies);

}  // namespace fusemin::cuda

#endif  // FUSEMIN_KERNELS_CUDA_RUN_H_
