// What the program of XLA calls for a step: unpacks the buffers, which XLA has aliased in place; csrc/step does the
// arithmetic. Any number of programs may run at once; the handler has no state.
#include <atomic>
#include <cstring>
#include <memory>

#include "absl/synchronization/blocking_counter.h"
#include "backends/cpu/registry.h"
#include "backends/cpu/run.h"
#include "backends/xla/kernel_call_name.h"
#include "options/user_options.h"
#include "step/step_layout.h"
#include "xla/ffi/api/ffi.h"

// The header that declares it includes headers of MLIR, which TensorFlow's wheel does not have.
namespace xla::ffi {
const XLA_FFI_Api* GetXlaFfiApi();
}

namespace fusemin::hlo {
namespace {

namespace ffi = ::xla::ffi;

// Tasks on XLA's pool, which is the intra-op pool. The calling thread takes part, and takes over every task that no
// worker has begun: a call returns even if all workers are blocked, so it may be made from a worker.
cpu::ParallelFor OnPool(ffi::ThreadPool& pool) {
  // Outlives the call: a worker may look at it after every task is done.
  struct Claims {
    explicit Claims(int n) : taken(new std::atomic_flag[n]()), done(n) {}
    std::unique_ptr<std::atomic_flag[]> taken;
    absl::BlockingCounter done;
  };
  return [&pool](int n, const std::function<void(int)>& task) {
    const auto claims = std::make_shared<Claims>(n);
    // By reference: whoever takes a task runs it before `done` lets us return.
    const auto run = [claims, &task](int i) {
      if (claims->taken[i].test_and_set(std::memory_order_relaxed)) return;
      task(i);
      claims->done.DecrementCount();
    };
    for (int i = 1; i < n; ++i) pool.Schedule([run, i] { run(i); });
    for (int i = 0; i < n; ++i) run(i);
    claims->done.Wait();
  };
}

ffi::Error Step(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, std::string_view rule_name,
                int64_t dtype, int64_t num_params, int64_t has_averages, int64_t has_accumulators,
                ffi::Span<const int64_t> decays, ffi::Span<const int64_t> option_bits) {
  std::string error;
  const cpu::Isa isa = cpu::ChosenIsa(&error);
  if (!error.empty()) return ffi::Error::InvalidArgument(error);
  const Rule* const rule = cpu::FindRule(isa, rule_name);
  UserOptions options;
  if (rule == nullptr || option_bits.size() * sizeof(int64_t) != sizeof options) {
    return ffi::Error::InvalidArgument("this program was compiled for another version of fusemin");
  }
  std::memcpy(&options, option_bits.begin(), sizeof options);

  const auto argument = [&](int64_t i) { return *args.get<ffi::AnyBuffer>(i); };
  const auto result = [&](int64_t i) { return (*rets.get<ffi::AnyBuffer>(i))->untyped_data(); };
  const int num_slots = rule->num_slots, num_scalars = rule->num_scalars;
  std::vector<Segment> segments(num_params);
  const auto pair = [&](int64_t at, const void** in, void** out) {
    *in = argument(at).untyped_data();
    *out = result(at);
  };
  const StepLayout layout{static_cast<int>(num_params), num_slots, has_averages != 0, has_accumulators != 0};
  const int64_t gradients_at = layout.end();
  const int64_t scalars_at = gradients_at + num_params;
  for (int i = 0; i < num_params; ++i) {
    Segment& segment = segments[i];
    segment = {};
    segment.size = static_cast<int64_t>(argument(i).element_count());
    segment.gradient = argument(gradients_at + i).untyped_data();
    segment.decays = decays.size() > 0 && decays[i] != 0;
    pair(i, &segment.param_in, &segment.param_out);
    for (int k = 0; k < num_slots; ++k) pair(layout.slot(k, i), &segment.slot_in[k], &segment.slot_out[k]);
    if (has_averages) pair(layout.average(i), &segment.average_in, &segment.average_out);
    if (has_accumulators) pair(layout.accumulator(i), &segment.accumulator_in, &segment.accumulator_out);
  }

  const double* const scalars_in = argument(scalars_at).typed_data<double>();
  double* const scalars_out = static_cast<double*>(result(gradients_at));
  const double* const replaced = scalars_in + rule->num_hyperparameters;
  double scalars[kMaxScalars];
  std::copy(replaced, replaced + num_scalars, scalars);
  const double iterations = replaced[num_scalars];
  const double* const option_scalars = replaced + num_scalars + 1;
  const cpu::Step step = cpu::PrepareStep(*rule, static_cast<DType>(dtype), isa, options, scalars_in,
                                          static_cast<int64_t>(iterations), option_scalars, scalars);
  const bool taken_place = cpu::RunStep(step, segments.data(), static_cast<int>(num_params),
                                        static_cast<int>(pool.num_threads()), OnPool(pool), scalars);

  std::copy(replaced, replaced + num_scalars + 1 + kNumOptionScalars, scalars_out);
  if (taken_place) {
    if (step.applies) std::copy(scalars, scalars + num_scalars, scalars_out);
    scalars_out[num_scalars] = iterations + 1;
  }
  options.NextScalars(scalars_out + num_scalars + 1, taken_place);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(kStep, Step,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<std::string_view>("rule")
                           .Attr<int64_t>("dtype")
                           .Attr<int64_t>("num_params")
                           .Attr<int64_t>("averages")
                           .Attr<int64_t>("accumulators")
                           .Attr<ffi::Span<const int64_t>>("decays")
                           .Attr<ffi::Span<const int64_t>>("options"));
XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), kKernelCall, "Host", kStep);

}  // namespace
}  // namespace fusemin::hlo
