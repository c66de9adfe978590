#include "tensorflow/intra_op_pool.h"

#include <atomic>
#include <memory>

#include "absl/synchronization/blocking_counter.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace fusemin {
namespace {

// Outlives the call: a worker may look at it after every task is done.
struct Claims {
  explicit Claims(int n) : taken(new std::atomic_flag[n]()), done(n) {}
  bool Take(int task) { return !taken[task].test_and_set(std::memory_order_relaxed); }

  std::unique_ptr<std::atomic_flag[]> taken;
  absl::BlockingCounter done;
};

}  // namespace

cpu::ParallelFor OnPool(Schedule schedule) {
  return [schedule = std::move(schedule)](int n, const std::function<void(int)>& task) {
    auto claims = std::make_shared<Claims>(n);
    // By reference: whoever takes a task runs it before `done` lets us return.
    auto run = [claims, &task](int i) {
      if (!claims->Take(i)) return;
      task(i);
      claims->done.DecrementCount();
    };
    for (int i = 1; i < n; ++i) schedule([run, i] { run(i); });
    for (int i = 0; i < n; ++i) run(i);
    claims->done.Wait();
  };
}

cpu::ParallelFor IntraOpPool(const tensorflow::DeviceBase::CpuWorkerThreads& workers) {
  return OnPool([&workers](std::function<void()> work) { workers.workers->Schedule(std::move(work)); });
}

}  // namespace fusemin
