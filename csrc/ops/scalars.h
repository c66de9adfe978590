// Scalars of any floating type, and counts, as doubles.
#ifndef FUSEMIN_TENSORFLOW_SCALARS_H_
#define FUSEMIN_TENSORFLOW_SCALARS_H_

#include "absl/functional/function_ref.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusemin {

// An error unless the tensor has one element, of a type that `ReadScalar` takes. `what` names it in errors.
absl::Status CheckScalar(const tensorflow::Tensor& tensor, absl::FunctionRef<std::string()> what);

// The value of a tensor of one element: float16, bfloat16, float32, float64, int32 or int64. Checks it first.
absl::Status ReadScalar(const tensorflow::Tensor& tensor, absl::FunctionRef<std::string()> what, double* value);

// Writes a value of a type that `ReadScalar` takes.
void StoreScalar(double value, tensorflow::DataType type, void* out);

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_SCALARS_H_
