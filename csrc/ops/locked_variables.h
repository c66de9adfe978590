// The variables that a step writes: looked up, locked together, checked.
#ifndef FUSEMIN_TENSORFLOW_LOCKED_VARIABLES_H_
#define FUSEMIN_TENSORFLOW_LOCKED_VARIABLES_H_

#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"

namespace fusemin {

// The order in which the variables of a call are to be locked, remembered for the next call. Belongs to an op kernel,
// which meets the same variables at each of its steps. Thread-safe.
class LockOrder {
 private:
  friend class LockedVariables;

  tensorflow::mutex mu_;
  // Only compared, never looked into: a variable may be gone.
  absl::InlinedVector<tensorflow::Var*, 8> variables_;
  absl::InlinedVector<int, 8> order_;
};

// Variables and, once `Lock` succeeded, their mutexes until it is destroyed. Belongs to one call of one op kernel,
// whose inputs keep the variables alive.
class LockedVariables {
 public:
  LockedVariables() = default;
  ~LockedVariables();
  LockedVariables(const LockedVariables&) = delete;
  LockedVariables& operator=(const LockedVariables&) = delete;

  // Looks up the variables of the inputs [first, first + count) and locks their
  // mutexes in the order of their addresses, which every other op does too, so
  // that no two ops wait for each other. `name(i)` describes variable i in
  // errors: one that does not exist, or that stands at two places.
  absl::Status Lock(tensorflow::OpKernelContext* ctx, int first, int count, absl::FunctionRef<std::string(int)> name,
                    LockOrder* order);

  tensorflow::Var* operator[](int i) const { return variables_[i]; }

  // The memory of variable i as the step must write it: its own if no read of
  // it is alive, else memory of a new tensor, which `Commit` puts in its place.
  // Reading the old and writing the new spares the copy that an update in place
  // would need first. Nothing changes before `Commit`.
  absl::Status WritableData(tensorflow::OpKernelContext* ctx, int i, void** data);

  // Makes the new tensors of the variables from `first` on their values. Cannot fail.
  void Commit(int first);

 private:
  absl::Status Find(tensorflow::OpKernelContext* ctx, int input, tensorflow::Var** variable);

  absl::InlinedVector<tensorflow::Var*, 8> variables_;
  // Of those variables that a handle only names.
  absl::InlinedVector<tensorflow::core::RefCountPtr<tensorflow::Var>, 1> references_;
  int num_locked_ = 0;
  absl::InlinedVector<std::pair<int, tensorflow::Tensor>, 2> replacements_;
};

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_LOCKED_VARIABLES_H_
