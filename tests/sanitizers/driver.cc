// Runs every rule for every type, instruction set and number of threads, over
// memory of exactly the size that a step may touch, for a sanitizer to watch.
// In place or not, with trace rows or not, aligned to vectors or to elements
// only, on one thread or many, a step must give the same bits.
//
//   driver            prints "N steps, M failed"; exits with 0 if M is 0
//   driver --overrun  a segment that is longer than its gradient, to see that
//                     AddressSanitizer is on
//   driver --race     one parameter in two threads, to see that
//                     ThreadSanitizer is on
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "backends/cpu/isa.h"
#include "backends/cpu/registry.h"
#include "backends/cpu/run.h"
#include "backends/cpu/workers.h"
#include "numeric/half.h"
#include "step/dtype_names.h"
#include "step/slices.h"
#include "step/step.h"

namespace fusemin {
namespace {

using cpu::Isa;
using Bytes = std::vector<unsigned char>;
// One of the arrays of a step, for each tensor.
using Tensors = std::vector<Bytes>;

int ItemSize(DType dtype) { return kDTypeSize[static_cast<int>(dtype)]; }

template <class T>
void Put(double number, unsigned char* to) {
  const T stored = Number<T>::Store(static_cast<typename Number<T>::Value>(number));
  memcpy(to, &stored, sizeof stored);
}

Bytes RandomNumbers(DType dtype, int64_t size, double low, double high, std::mt19937& random) {
  using PutFunction = void (*)(double, unsigned char*);
  constexpr PutFunction kPut[kNumDTypes] = {Put<float>, Put<double>, Put<Float16>, Put<BFloat16>};
  std::uniform_real_distribution<double> uniform(low, high);
  Bytes bytes(size * ItemSize(dtype));
  for (int64_t i = 0; i < size; ++i) {
    kPut[static_cast<int>(dtype)](uniform(random), bytes.data() + i * ItemSize(dtype));
  }
  return bytes;
}

// Memory that ends with the last byte of an array, where a sanitizer notices
// what is read or written beyond it. The bytes before the array are checked by
// this class, since they are there to shift its beginning.
class Memory {
 public:
  Memory(const Bytes& initial, size_t shift)
      : size_(initial.size()), shift_(shift), bytes_(new unsigned char[shift + size_]) {
    std::fill_n(bytes_.get(), shift_, kFill);
    std::copy(initial.begin(), initial.end(), bytes_.get() + shift_);
  }

  static Memory Unset(size_t size, size_t shift) { return Memory(Bytes(size, kFill), shift); }

  // Null for an array without elements, as for a tensor of TensorFlow.
  void* data() { return size_ == 0 ? nullptr : bytes_.get() + shift_; }

  Bytes Contents() const { return Bytes(bytes_.get() + shift_, bytes_.get() + shift_ + size_); }

  bool Holds(const Bytes& expected) const {
    return ShiftIsUntouched() && std::equal(expected.begin(), expected.end(), bytes_.get() + shift_);
  }

  bool ShiftIsUntouched() const {
    return std::all_of(bytes_.get(), bytes_.get() + shift_, [](unsigned char byte) { return byte == kFill; });
  }

 private:
  static constexpr unsigned char kFill = 0xA5;
  size_t size_, shift_;
  std::unique_ptr<unsigned char[]> bytes_;
};

// What a step starts from.
struct Problem {
  std::string rule;
  DType dtype;
  int num_threads;
  std::vector<int64_t> sizes;
  Tensors gradient;
  std::vector<Tensors> state;  // The parameter, then the slots, then average and accumulator, if there are options.
  bool has_options;
};

Problem MakeProblem(const Rule& rule, DType dtype, int num_threads, bool has_options) {
  Problem problem{rule.name, dtype, num_threads, {0, 1, 63, 64, 65, 2047, 2048, 2049}, {}, {}, has_options};
  if (num_threads > 1) {
    // Large enough for the step to be worth so many threads.
    Segment element{};
    element.size = 1;
    problem.sizes.push_back(num_threads * cpu::kMinBytesPerThread / cpu::StepBytes(rule, dtype, &element, 1) + 1);
  }
  std::mt19937 random(1);
  const auto tensors = [&](double low, double high) {
    Tensors tensors;
    for (int64_t size : problem.sizes) tensors.push_back(RandomNumbers(dtype, size, low, high, random));
    return tensors;
  };
  problem.gradient = tensors(-2, 2);
  problem.state.push_back(tensors(-2, 2));
  // A slot may be the mean of a square.
  for (int k = 0; k < rule.num_slots; ++k) problem.state.push_back(tensors(0.25, 0.75));
  for (int k = 0; k < 2 && has_options; ++k) problem.state.push_back(tensors(-2, 2));
  return problem;
}

// Where the arrays of a step lie.
struct Placement {
  bool in_place, rows;
  int shift;  // In elements.
};

// The first is the simplest, and the last differs from it in everything.
constexpr Placement kPlacements[] = {{true, false, 0},  {true, false, 1},  {true, true, 0},  {true, true, 1},
                                     {false, false, 0}, {false, false, 1}, {false, true, 0}, {false, true, 1}};
constexpr int kNumPlacements = sizeof kPlacements / sizeof kPlacements[0];

// Every option.
UserOptions AllOptions() {
  UserOptions options;
  options.clipvalue = 0.75;
  options.global_clipnorm = 1.0;
  options.weight_decay = 0.125;
  options.ema_momentum = 0.75;
  options.gradient_accumulation_steps = 2;
  options.dynamic_growth_steps = 10;
  return options;
}

// The step before which the rule was applied twice, and at which it is.
cpu::Step Prepare(const Rule& rule, DType dtype, Isa isa, const UserOptions& options) {
  double hyperparameters[kMaxHyperparameters];
  double scalars[kMaxScalars];
  std::fill(std::begin(hyperparameters), std::end(hyperparameters), 0.5);
  std::fill(std::begin(scalars), std::end(scalars), 0.5);
  const int64_t iterations = options.Any<HasCollect>() ? 5 : 2;
  const double option_scalars[kNumOptionScalars] = {2.0};
  return cpu::PrepareStep(rule, dtype, isa, options, hyperparameters, iterations, option_scalars, scalars);
}

// Returns the number of tasks.
int RunOnThreads(const cpu::Step& step, const std::vector<Segment>& segments, int max_threads) {
  int num_tasks = 1;
  double scalars[kMaxScalars];
  std::fill(std::begin(scalars), std::end(scalars), 0.5);
  cpu::RunStep(
      step, segments.data(), static_cast<int>(segments.size()), max_threads,
      [&](int n, const std::function<void(int)>& task) {
        num_tasks = n;
        std::vector<std::thread> threads;
        for (int i = 0; i < n; ++i) threads.emplace_back(task, i);
        for (std::thread& thread : threads) thread.join();
      },
      scalars);
  return num_tasks;
}

// Runs one step. Returns what of it was wrong, or an empty string, and in
// `*result` the new parameter and slots.
std::string Run(const Problem& problem, Isa isa, int num_threads, const Placement& placement,
                std::vector<Tensors>* result) {
  const Rule& rule = *cpu::FindRule(isa, problem.rule);
  const size_t shift = placement.shift * ItemSize(problem.dtype);
  const int num_tensors = static_cast<int>(problem.sizes.size());
  const int num_arrays = static_cast<int>(problem.state.size());
  std::vector<Memory> gradients, gradient_rows, param_rows;
  std::vector<std::vector<Memory>> in(num_arrays), out(num_arrays);
  std::vector<Segment> segments(num_tensors);
  for (int i = 0; i < num_tensors; ++i) {
    Segment& segment = segments[i];
    const size_t size = problem.gradient[i].size();
    segment.size = problem.sizes[i];
    gradients.emplace_back(problem.gradient[i], shift);
    segment.gradient = gradients[i].data();
    for (int k = 0; k < num_arrays; ++k) {
      in[k].emplace_back(problem.state[k][i], shift);
      if (!placement.in_place) out[k].push_back(Memory::Unset(size, shift));
      void* const from = in[k][i].data();
      void* const to = placement.in_place ? from : out[k][i].data();
      const int after_slots = k - 1 - rule.num_slots;
      (k == 0             ? segment.param_in
       : after_slots < 0  ? segment.slot_in[k - 1]
       : after_slots == 0 ? segment.average_in
                          : segment.accumulator_in) = from;
      (k == 0             ? segment.param_out
       : after_slots < 0  ? segment.slot_out[k - 1]
       : after_slots == 0 ? segment.average_out
                          : segment.accumulator_out) = to;
      segment.decays = i % 2 == 0;
    }
    if (placement.rows) {
      gradient_rows.push_back(Memory::Unset(size, shift));
      param_rows.push_back(Memory::Unset(size, shift));
      segment.gradient_row = gradient_rows[i].data();
      segment.param_row = param_rows[i].data();
    }
  }

  const int num_tasks = RunOnThreads(
      Prepare(rule, problem.dtype, isa, problem.has_options ? AllOptions() : UserOptions()), segments, num_threads);
  if (num_tasks != num_threads) return "ran as " + std::to_string(num_tasks) + " tasks";

  result->assign(num_arrays, {});
  for (int i = 0; i < num_tensors; ++i) {
    for (int k = 0; k < num_arrays; ++k) {
      const Memory& written = placement.in_place ? in[k][i] : out[k][i];
      if (!placement.in_place && !in[k][i].Holds(problem.state[k][i])) return "an input changed";
      if (!written.ShiftIsUntouched()) return "wrote before the begin of an array";
      (*result)[k].push_back(written.Contents());
    }
    if (!gradients[i].Holds(problem.gradient[i])) return "a gradient changed";
    if (placement.rows && !gradient_rows[i].Holds(problem.gradient[i])) return "a row is not the gradient";
    if (placement.rows && !param_rows[i].Holds((*result)[0][i])) return "a row is not the new parameter";
  }
  return "";
}

struct Tally {
  int num_steps = 0, num_failed = 0;

  void Count(const std::string& error, const std::string& what) {
    ++num_steps;
    if (error.empty()) return;
    ++num_failed;
    fprintf(stderr, "%s: %s\n", what.c_str(), error.c_str());
  }
};

void RunEverywhere(const Problem& problem, Tally* tally) {
  const std::string name = problem.rule + " " + NameOf(problem.dtype) + (problem.has_options ? " with options" : "");
  std::vector<Tensors> expected;
  tally->Count(Run(problem, Isa::kBaseline, 1, kPlacements[0], &expected), name);
  for (Isa isa : cpu::SupportedIsas()) {
    // ThreadSanitizer is slow, and what one thread does with each placement is
    // what several do, so those get the first and the last only.
    for (int i = 0; i < kNumPlacements; i += problem.num_threads == 1 ? 1 : kNumPlacements - 1) {
      std::vector<Tensors> result;
      std::string error = Run(problem, isa, problem.num_threads, kPlacements[i], &result);
      if (error.empty() && result != expected) error = "other bits than on one thread of the baseline";
      tally->Count(error, name + " " + cpu::IsaName(isa) + ", " + std::to_string(problem.num_threads) +
                              " threads, placement " + std::to_string(i));
    }
  }
}

#if defined(__SSE__)
// TensorFlow's threads flush denormal floats to zero. A float16 that is
// denormal is a normal float, and must survive there.
void RunWithFlushedDenormals(Tally* tally) {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  constexpr int kInfinity = 0x7C00;
  for (Isa isa : cpu::SupportedIsas()) {
    const Rule& rule = *cpu::FindRule(isa, "sgd");
    std::vector<uint16_t> params;
    for (int bits = 0; bits <= kInfinity; ++bits) {
      for (int sign : {0, 0x8000}) params.push_back(static_cast<uint16_t>(sign | bits));
    }
    const std::vector<uint16_t> expected = params, gradient(params.size());
    Segment segment{};
    segment.size = static_cast<int64_t>(params.size());
    segment.gradient = gradient.data();
    segment.param_in = segment.param_out = params.data();
    const cpu::Step step = Prepare(rule, DType::kFloat16, isa, UserOptions());
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | kFlushToZero | kDenormalsAreZero);
    RunOnThreads(step, {segment}, 1);
    _mm_setcsr(mode);
    tally->Count(params == expected ? "" : "a zero gradient changed a parameter",
                 std::string("float16 with denormal floats flushed ") + cpu::IsaName(isa));
  }
}
#else
void RunWithFlushedDenormals(Tally*) {}
#endif

// A sparse gradient of rows of one size, with several slices of some and none of others, in memory of exactly its size.
// Every instruction set and number of threads must give the same bits in each mode.
void RunSparse(const Rule& rule, DType dtype, int num_threads, int64_t row_size, Tally* tally) {
  Segment element{};
  element.size = 1;
  const int64_t worth =
      num_threads == 1 ? 300
                       : num_threads * cpu::kMinBytesPerThread / cpu::StepBytes(rule, dtype, &element, 1) + row_size;
  // Twice: a step that only touches rows is as large as its slices are.
  const int64_t num_rows = 2 * worth / row_size + 3, num_slices = worth / row_size + num_rows / 4 + 2;
  std::mt19937 random(1);
  std::vector<int32_t> indices(num_slices);
  for (int64_t i = 0; i < num_slices; ++i) indices[i] = static_cast<int32_t>(i < num_rows ? i : random() % num_rows);
  std::shuffle(indices.begin(), indices.end(), random);
  const Bytes values = RandomNumbers(dtype, num_slices * row_size, -2, 2, random);
  Tensors state{RandomNumbers(dtype, num_rows * row_size, -2, 2, random)};
  for (int k = 0; k < rule.num_slots; ++k) {
    state.push_back(RandomNumbers(dtype, num_rows * row_size, 0.25, 0.75, random));
  }
  for (SparseRows rows : {SparseRows::kEvery, SparseRows::kSlotsOfEvery, SparseRows::kTouched}) {
    if (rows != SparseRows::kEvery && rule.kernels[0].update == nullptr) continue;
    for (bool separate : {false, true}) {
      Tensors expected;
      for (Isa isa : cpu::SupportedIsas()) {
        for (int threads : std::set<int>{1, num_threads}) {
          const Memory gradient(values, 0);
          std::vector<Memory> memory;
          for (const Bytes& initial : state) memory.emplace_back(initial, 0);
          Slices slices;
          slices.num_slices = num_slices;
          slices.row_size = row_size;
          slices.values = const_cast<Memory&>(gradient).data();
          std::string error = SortSlices(indices.data(), num_rows, &slices) < 0 ? "" : "an index is refused";
          Segment segment{};
          segment.size = num_rows * row_size;
          segment.slices = &slices;
          segment.param_in = segment.param_out = memory[0].data();
          for (int k = 0; k < rule.num_slots; ++k) segment.slot_in[k] = segment.slot_out[k] = memory[1 + k].data();
          cpu::Step step = Prepare(*cpu::FindRule(isa, rule.name), dtype, isa, UserOptions());
          step.sparse = {rows, separate};
          RunOnThreads(step, {segment}, threads);
          Tensors result;
          for (const Memory& written : memory) result.push_back(written.Contents());
          if (expected.empty()) expected = result;
          if (result != expected) error = "other bits than on one thread of the baseline";
          tally->Count(error, std::string(rule.name) + " sparse " + NameOf(dtype) + " " + cpu::IsaName(isa) + ", " +
                                  std::to_string(threads) + " threads, rows of " + std::to_string(row_size));
        }
      }
    }
  }
}

void Overrun() {
  const Rule& rule = *cpu::FindRule(Isa::kBaseline, "sgd");
  std::vector<float> params(101), gradient(100);
  Segment segment{};
  segment.size = 101;
  segment.gradient = gradient.data();
  segment.param_in = segment.param_out = params.data();
  RunOnThreads(Prepare(rule, DType::kFloat32, Isa::kBaseline, UserOptions()), {segment}, 1);
}

void Race() {
  const Rule& rule = *cpu::FindRule(Isa::kBaseline, "sgd");
  // Worth two threads, which get one segment each.
  std::vector<float> params(cpu::kMinBytesPerThread), gradient(params.size());
  Segment segment{};
  segment.size = static_cast<int64_t>(params.size());
  segment.gradient = gradient.data();
  segment.param_in = segment.param_out = params.data();
  RunOnThreads(Prepare(rule, DType::kFloat32, Isa::kBaseline, UserOptions()), {segment, segment}, 2);
}

// Calls from several threads at once, where only one of them gets workers: each task runs once, and is done when the
// call returns.
void ShareWork(Tally* tally) {
  constexpr int kCallers = 3, kCalls = 400, kMaxTasks = 5;
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&wrong] {
      for (int call = 0; call < kCalls; ++call) {
        // Written by whichever thread takes the task, read by this one.
        int runs[kMaxTasks] = {};
        const int n = 1 + call % kMaxTasks;
        cpu::RunOnWorkers(n, [&runs](int task) { ++runs[task]; });
        // Now and then the workers fall asleep.
        if (call % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        for (int task = 0; task < kMaxTasks; ++task) wrong += runs[task] != (task < n ? 1 : 0);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  tally->Count(wrong == 0 ? "" : std::to_string(wrong) + " tasks did not run once", "workers");
}

// ThreadSanitizer is slow. How the threads share a step does not depend on the type of its numbers, and what one thread
// does alone is no race.
#if defined(__SANITIZE_THREAD__)
constexpr int kTestedDTypes = 1, kMinThreads = 2;
#else
constexpr int kTestedDTypes = kNumDTypes, kMinThreads = 1;
#endif

int RunAll() {
  Tally tally;
  for (const Rule* rule : cpu::AllRules(Isa::kBaseline)) {
    for (int dtype = 0; dtype < kTestedDTypes; ++dtype) {
      for (int num_threads : {1, 2, 7}) {
        if (num_threads < kMinThreads) continue;
        RunEverywhere(MakeProblem(*rule, static_cast<DType>(dtype), num_threads, false), &tally);
      }
      for (int num_threads : {1, 3}) {
        if (num_threads < kMinThreads) continue;
        RunEverywhere(MakeProblem(*rule, static_cast<DType>(dtype), num_threads, true), &tally);
      }
      for (int64_t row_size : {1, 7, 2049}) {
        if (kMinThreads == 1) RunSparse(*rule, static_cast<DType>(dtype), 1, row_size, &tally);
      }
      RunSparse(*rule, static_cast<DType>(dtype), 3, 40, &tally);
    }
  }
  RunWithFlushedDenormals(&tally);
  ShareWork(&tally);
  printf("%d steps, %d failed\n", tally.num_steps, tally.num_failed);
  return tally.num_failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fusemin

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode.empty()) return fusemin::RunAll();
  if (mode == "--overrun") {
    fusemin::Overrun();
  } else if (mode == "--race") {
    fusemin::Race();
  } else {
    fprintf(stderr, "unknown argument %s\n", argv[1]);
    return 2;
  }
  printf("no sanitizer stopped this\n");
  return 0;
}
