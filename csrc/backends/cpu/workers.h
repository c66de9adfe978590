// The threads that share a step with the thread that calls it.
#ifndef FUSEMIN_KERNELS_CPU_WORKERS_H_
#define FUSEMIN_KERNELS_CPU_WORKERS_H_

#include <functional>

namespace fusemin::cpu {

// Calls task(0) ... task(n - 1) on n threads, the caller's among them, and returns when all are done. May be called
// from any thread at any time. The tasks compute with the caller's floating-point environment (rounding, flushing of
// denormal numbers), so that a result does not depend on who computed it.
//
// The threads are those of the process, started when they are first needed and never ended; they sleep when there was
// nothing to do for a while. Task i is always the same thread's, which finds in its cache what it had at the step
// before. The caller runs what no thread has begun, and everything where another call is under way: a call never waits
// for a thread that does not run, after a fork for example.
void RunOnWorkers(int n, const std::function<void(int)>& task);

}  // namespace fusemin::cpu

#endif  // FUSEMIN_KERNELS_CPU_WORKERS_H_
