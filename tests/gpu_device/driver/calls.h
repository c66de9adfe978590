// What a stand-in library was called for: how often, and with how many bytes, by name.
#ifndef FUSEMIN_TESTS_GPU_DEVICE_CALLS_H_
#define FUSEMIN_TESTS_GPU_DEVICE_CALLS_H_

#include <cstddef>

extern "C" {
// Counts a call, or something else that has a name, such as a kernel. A suffix as in cuMemAlloc_v2 is no part of it.
// Returns the error that a test asked this call to fail with, or 0.
int stand_in_count(const char* name, size_t bytes);
// From now on calls of this name return `error` and do nothing; 0 ends that.
void stand_in_fail(const char* name, int error);
// A line "count bytes name" for each name since the last reset. The text is valid until the next call.
const char* stand_in_counts();
void stand_in_reset();
}

// The first statement of each function: counts it, and fails if that was asked for.
#define STAND_IN_CALL(result_type, bytes) \
  if (const int error = stand_in_count(__func__, bytes)) return static_cast<result_type>(error)

#endif  // FUSEMIN_TESTS_GPU_DEVICE_CALLS_H_
