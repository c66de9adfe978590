// Runs one step over many segments, on one thread or on several.
#ifndef FUSEMIN_KERNELS_CPU_RUN_H_
#define FUSEMIN_KERNELS_CPU_RUN_H_

#include <cstdint>
#include <functional>

#include "backends/cpu/isa.h"
#include "backends/cpu/option_kernels.h"
#include "options/user_options.h"
#include "step/step.h"

namespace fusemin::cpu {

// Below this many bytes moved for each thread, fewer threads are faster than waking another. tests/sanitizers has
// threads share less.
#ifndef FUSEMIN_MIN_BYTES_PER_THREAD
#define FUSEMIN_MIN_BYTES_PER_THREAD 1024 * 1024
#endif
constexpr int64_t kMinBytesPerThread = FUSEMIN_MIN_BYTES_PER_THREAD;

// Elements that are worked on at a time where more than the rule's own loop goes over them: few enough to be still in
// the first-level cache for the next loop.
constexpr int64_t kChunk = 2048;

// Calls task(0) ... task(n - 1), in any order or at once, and returns when all are done.
using ParallelFor = std::function<void(int n, const std::function<void(int)>& task)>;

// Sums over gradients, of which those of several sets of gradients may be added up.
struct GradientSums {
  double squares = 0.0;
  // How many sets have an element that is not finite.
  double not_finite = 0.0;
};

// A step that is ready to run: the same for all of its segments. See `PrepareStep`.
struct Step {
  const Rule* rule;
  DType dtype;
  Isa isa;
  PreparedStep prepared;
  UserOptions options;
  PreparedOptions prepared_options;
  // Whether there are options at all: a step without is the rule alone.
  bool has_options;
  // What the gradients that come are multiplied with, and whether the rule is applied at this call.
  double gradient_scale;
  bool applies;
  // With the number of the update, from 1, for a rule that ends with the sums of the step.
  double hyperparameters[kMaxHyperparameters];
  double number;
  SparseOptions sparse = {};
  // Null, or the sums over all gradients of a step of which this is a part.
  const GradientSums* sums = nullptr;
};

// The step after so many calls. `option_scalars` are the variables of the options, see Now. `scalars` is read and
// replaced by what it is after an update.
Step PrepareStep(const Rule& rule, DType dtype, Isa isa, const UserOptions& options, const double* hyperparameters,
                 int64_t iterations, const double* option_scalars, double* scalars);

// Bytes that the rule itself reads and writes in a step.
int64_t StepBytes(const Rule& rule, DType dtype, const Segment* segments, int num_segments);

// Updates every element of every segment and writes the rows. False if an option skips the step for a gradient
// that is not finite: then nothing but the rows is written. The work is split over at most `max_threads` tasks by the
// sizes alone, so that a task meets the same part again at the next step, and the result does not depend on the split.
// `scalars` are what `PrepareStep` left; the sums of the step replace them, if the rule has some and is applied.
bool RunStep(const Step& step, const Segment* segments, int num_segments, int max_threads,
             const ParallelFor& parallel_for, double* scalars);

// The sums over the elements of the gradients of the segments, dense ones and the slices of sparse ones. They do not
// depend on the number of tasks.
GradientSums SumGradients(DType dtype, Isa isa, const Segment* segments, int num_segments, int max_threads,
                          const ParallelFor& parallel_for);

}  // namespace fusemin::cpu

#endif  // FUSEMIN_KERNELS_CPU_RUN_H_
