#include "ops/locked_variables.h"

#include <algorithm>
#include <numeric>

#include "tensorflow/core/framework/resource_mgr.h"

namespace fusemin {

using ::tensorflow::OpKernelContext;
using ::tensorflow::ResourceHandle;
using ::tensorflow::Tensor;
using ::tensorflow::Var;

LockedVariables::~LockedVariables() {
  // All or none: see `Lock`.
  for (int i = 0; i < num_locked_; ++i) variables_[i]->mu()->unlock();
}

absl::Status LockedVariables::Find(OpKernelContext* ctx, int input, Var** variable) {
  const ResourceHandle& handle = ctx->input(input).flat<ResourceHandle>()(0);
  // A handle that counts references holds the variable, and the op's input holds the handle. TensorFlow's own look-up
  // would count one reference more and compare the names of devices, which is half of the time of a step on small
  // variables.
  if (handle.IsRefCounting() && handle.hash_code() == tensorflow::TypeIndex::Make<Var>().hash_code()) {
    *variable = static_cast<Var*>(handle.resource().get());
    return absl::OkStatus();
  }
  references_.emplace_back();
  TF_RETURN_IF_ERROR(tensorflow::LookupResource(ctx, handle, &references_.back()));
  *variable = references_.back().get();
  return absl::OkStatus();
}

absl::Status LockedVariables::Lock(OpKernelContext* ctx, int first, int count, absl::FunctionRef<std::string(int)> name,
                                   LockOrder* order) {
  variables_.resize(count);
  for (int i = 0; i < count; ++i) {
    if (ctx->input(first + i).NumElements() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("the handle of ", name(i), " must be a scalar, it has shape ",
                                                     ctx->input(first + i).shape().DebugString()));
    }
    if (!Find(ctx, first + i, &variables_[i]).ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat(name(i), " does not exist: it was deleted, or never initialized"));
    }
  }
  {
    // Held while the variables are locked: whoever holds them needs no order any more, so nobody waits in a circle.
    tensorflow::mutex_lock lock(order->mu_);
    if (order->variables_ != variables_) {
      order->variables_.clear();
      order->order_.resize(count);
      std::iota(order->order_.begin(), order->order_.end(), 0);
      const auto& by_address = order->order_;
      std::sort(order->order_.begin(), order->order_.end(),
                [this](int a, int b) { return variables_[a]->mu() < variables_[b]->mu(); });
      for (int k = 1; k < count; ++k) {
        if (variables_[by_address[k]] == variables_[by_address[k - 1]]) {
          return absl::InvalidArgumentError(absl::StrCat(name(std::min(by_address[k], by_address[k - 1])), " and ",
                                                         name(std::max(by_address[k], by_address[k - 1])),
                                                         " are the same variable; a step can write it only once"));
        }
      }
      order->variables_ = variables_;
    }
    for (int i : order->order_) variables_[i]->mu()->lock();
    num_locked_ = count;
  }
  for (int i = 0; i < count; ++i) {
    if (!variables_[i]->is_initialized) {
      return absl::FailedPreconditionError(absl::StrCat(name(i), " is not initialized; run its initializer first"));
    }
  }
  return absl::OkStatus();
}

absl::Status LockedVariables::WritableData(OpKernelContext* ctx, int i, void** data) {
  Tensor* tensor = variables_[i]->tensor();
  // An empty tensor may have no buffer to count references of. Also in copy-on-read mode, in which every variable is
  // once a gather or a scatter met it, a buffer that nothing else refers to is read under the variable's lock only.
  if (tensor->NumElements() == 0 || tensor->RefCountIsOne()) {
    *data = tensor->data();
    return absl::OkStatus();
  }
  replacements_.emplace_back(i, Tensor());
  TF_RETURN_IF_ERROR(ctx->allocate_temp(tensor->dtype(), tensor->shape(), &replacements_.back().second));
  *data = replacements_.back().second.data();
  return absl::OkStatus();
}

void LockedVariables::Commit(int first) {
  for (auto& [i, tensor] : replacements_) {
    if (i >= first) *variables_[i]->tensor() = std::move(tensor);
  }
}

}  // namespace fusemin
