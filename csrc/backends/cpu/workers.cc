#include "backends/cpu/workers.h"

#include <pthread.h>
#include <sched.h>  // For sched_yield.

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "compat/platform.h"

namespace fusemin::cpu {
namespace {

// How often a thread looks for work before it sleeps, or, if it waits for another one, before it offers it the
// processor: some 20 us. Steps of a training loop that are shared at all take longer than that, so a worker that finds
// no work then would be in the way of others.
constexpr int kSpins = 1000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// A thread and the task that it is given.
class Worker {
 public:
  // The thread may run where its creator may.
  Worker() : thread_(&Worker::Loop, this) { thread_.detach(); }

  // Before `TakeBack`; `task` must outlive it.
  void Give(const std::function<void(int)>* task, int index, const std::fenv_t& environment) {
    task_ = task;
    index_ = index;
    environment_ = environment;
    giver_processor_ = compat::CurrentProcessor();
    // Sequentially consistent, as in Sleep: either this thread sees that the worker sleeps or the worker sees the task.
    state_.store(State::kGiven);
    if (asleep_.load()) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_one();
    }
  }

  // Whether the worker has not begun its task, and now never will. If not, waits until it is done.
  bool TakeBack() {
    State given = State::kGiven;
    if (state_.compare_exchange_strong(given, State::kIdle)) return true;
    // The tasks are alike, so this one is nearly done too. To sleep and be woken would take longer.
    for (int i = 0; state_.load(std::memory_order_acquire) != State::kIdle; ++i) {
      if (i < kSpins) {
        Pause();
      } else {
        sched_yield();
      }
    }
    return false;
  }

 private:
  enum class State { kIdle, kGiven, kRunning };

  void Loop() {
    while (true) {
      for (int i = 0; i < kSpins && state_.load(std::memory_order_relaxed) != State::kGiven; ++i) Pause();
      if (state_.load() != State::kGiven) Sleep();
      State given = State::kGiven;
      if (!state_.compare_exchange_strong(given, State::kRunning)) continue;
      // The kernel likes to wake a thread on the processor of whoever woke it, and may leave both there for seconds
      // while another one is idle: a step on two threads then takes longer than on one.
      if (compat::CurrentProcessor() == giver_processor_) allowed_.Leave(giver_processor_);
      std::fesetenv(&environment_);
      (*task_)(index_);
      state_.store(State::kIdle, std::memory_order_release);
    }
  }

  void Sleep() {
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.store(true);
    wake_.wait(lock, [this] { return state_.load() == State::kGiven; });
    asleep_.store(false);
  }

  const std::function<void(int)>* task_ = nullptr;
  int index_ = 0;
  std::fenv_t environment_;
  int giver_processor_ = 0;
  const compat::Processors allowed_;
  std::atomic<State> state_{State::kIdle};
  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

struct Workers {
  std::mutex in_use;
  std::vector<std::unique_ptr<Worker>> workers;
};

// Never destroyed: the threads outlive whatever else there is.
Workers* workers = nullptr;

Workers* TheWorkers() {
  static const bool made [[maybe_unused]] = [] {
    workers = new Workers;
    // The threads are not in the child of a fork, and a lock may be held there for ever.
    pthread_atfork(nullptr, nullptr, [] { workers = new Workers; });
    return true;
  }();
  return workers;
}

}  // namespace

void RunOnWorkers(int n, const std::function<void(int)>& task) {
  Workers* const all = TheWorkers();
  const std::unique_lock<std::mutex> lock(all->in_use, std::try_to_lock);
  if (!lock.owns_lock()) {
    for (int i = 0; i < n; ++i) task(i);
    return;
  }
  std::vector<std::unique_ptr<Worker>>& threads = all->workers;
  try {
    while (static_cast<int>(threads.size()) < n - 1) threads.push_back(std::make_unique<Worker>());
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
    // The process may have no more threads. The caller does their work.
  }
  const int num_given = std::min(n - 1, static_cast<int>(threads.size()));
  std::fenv_t environment;
  std::fegetenv(&environment);
  for (int i = 1; i <= num_given; ++i) threads[i - 1]->Give(&task, i, environment);
  task(0);
  for (int i = 1; i < n; ++i) {
    if (i > num_given || threads[i - 1]->TakeBack()) task(i);
  }
}

}  // namespace fusemin::cpu
