// What the program of XLA calls for a step: unpacks the buffers, which XLA has aliased in place; csrc/kernels does the
// arithmetic. Any number of programs may run at once; the handler has no state.
#include <atomic>
#include <cstring>
#include <memory>

#include "absl/synchronization/blocking_counter.h"
#include "kernels/cpu/registry.h"
#include "kernels/cpu/run.h"
#include "kernels/user_options.h"
#include "xla/ffi/api/ffi.h"
#include "xla/kernel_call_name.h"

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
  cpu::Step step;
  step.isa = cpu::ChosenIsa(&error);
  if (!error.empty()) return ffi::Error::InvalidArgument(error);
  step.rule = cpu::FindRule(step.isa, rule_name);
  step.dtype = static_cast<DType>(dtype);
  UserOptions options;
  if (step.rule == nullptr || option_bits.size() * sizeof(int64_t) != sizeof options) {
    return ffi::Error::InvalidArgument("this program was compiled for another version of fusemin");
  }
  std::memcpy(&options, option_bits.begin(), sizeof options);

  const auto argument = [&](int64_t i) { return *args.get<ffi::AnyBuffer>(i); };
  const auto result = [&](int64_t i) { return (*rets.get<ffi::AnyBuffer>(i))->untyped_data(); };
  const int num_slots = step.rule->num_slots, num_scalars = step.rule->num_scalars;
  std::vector<Segment> segments(num_params);
  const auto pair = [&](int64_t at, const void** in, void** out) {
    *in = argument(at).untyped_data();
    *out = result(at);
  };
  const int64_t averages_at = num_params * (1 + num_slots);
  const int64_t accumulators_at = averages_at + has_averages * num_params;
  const int64_t gradients_at = accumulators_at + has_accumulators * num_params;
  const int64_t scalars_at = gradients_at + num_params;
  for (int64_t i = 0; i < num_params; ++i) {
    Segment& segment = segments[i];
    segment = {};
    segment.size = static_cast<int64_t>(argument(i).element_count());
    segment.gradient = argument(gradients_at + i).untyped_data();
    segment.decays = decays.size() > 0 && decays[i] != 0;
    pair(i, &segment.param_in, &segment.param_out);
    for (int k = 0; k < num_slots; ++k) {
      pair((1 + k) * num_params + i, &segment.slot_in[k], &segment.slot_out[k]);
    }
    if (has_averages) pair(averages_at + i, &segment.average_in, &segment.average_out);
    if (has_accumulators) pair(accumulators_at + i, &segment.accumulator_in, &segment.accumulator_out);
  }

  const double* const scalars_in = argument(scalars_at).typed_data<double>();
  double* const scalars_out = static_cast<double*>(result(gradients_at));
  const double* const replaced = scalars_in + step.rule->num_hyperparameters;
  double scalars[kMaxScalars];
  std::copy(replaced, replaced + num_scalars, scalars);
  const double iterations = replaced[num_scalars];
  const double loss_scale = replaced[num_scalars + 1], loss_counter = replaced[num_scalars + 2];
  const int64_t taken = static_cast<int64_t>(iterations);
  step.options = options.At(taken, loss_scale, step.dtype);
  step.learning_rate = scalars_in[0];
  step.rule->kernels[static_cast<int>(step.dtype)].prepare(scalars_in, static_cast<double>(options.Updates(taken) + 1),
                                                           scalars, &step.prepared);
  const bool taken_place = cpu::RunStep(step, segments.data(), static_cast<int>(num_params),
                                        static_cast<int>(pool.num_threads()), OnPool(pool));

  std::copy(replaced, replaced + num_scalars + 3, scalars_out);
  if (taken_place) {
    if (step.options.applies) std::copy(scalars, scalars + num_scalars, scalars_out);
    scalars_out[num_scalars] = iterations + 1;
  }
  if (options.dynamic_growth_steps != UserOptions::kOff) {
    const bool grows = taken_place && loss_counter + 1 == options.dynamic_growth_steps;
    scalars_out[num_scalars + 1] = loss_scale * (grows ? 2.0 : taken_place ? 1.0 : 0.5);
    scalars_out[num_scalars + 2] = taken_place && !grows ? loss_counter + 1 : 0;
  }
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
