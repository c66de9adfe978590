#include "ops/scalars.h"

#include "tensorflow/core/platform/errors.h"

namespace fusemin {

using ::tensorflow::DataType;
using ::tensorflow::Tensor;

absl::Status CheckScalar(const Tensor& tensor, absl::FunctionRef<std::string()> what) {
  if (tensor.NumElements() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(what(), " must be a scalar, it has shape ", tensor.shape().DebugString()));
  }
  switch (tensor.dtype()) {
    case tensorflow::DT_FLOAT:
    case tensorflow::DT_DOUBLE:
    case tensorflow::DT_HALF:
    case tensorflow::DT_BFLOAT16:
    case tensorflow::DT_INT32:
    case tensorflow::DT_INT64:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(what(), " must be a number, it is ", tensorflow::DataTypeString(tensor.dtype())));
  }
}

absl::Status ReadScalar(const Tensor& tensor, absl::FunctionRef<std::string()> what, double* value) {
  TF_RETURN_IF_ERROR(CheckScalar(tensor, what));
  switch (tensor.dtype()) {
    case tensorflow::DT_FLOAT:
      *value = tensor.flat<float>()(0);
      break;
    case tensorflow::DT_DOUBLE:
      *value = tensor.flat<double>()(0);
      break;
    case tensorflow::DT_HALF:
      *value = static_cast<double>(tensor.flat<Eigen::half>()(0));
      break;
    case tensorflow::DT_BFLOAT16:
      *value = static_cast<double>(tensor.flat<Eigen::bfloat16>()(0));
      break;
    case tensorflow::DT_INT32:
      *value = tensor.flat<int32_t>()(0);
      break;
    default:
      *value = static_cast<double>(tensor.flat<int64_t>()(0));
  }
  return absl::OkStatus();
}

void StoreScalar(double value, DataType type, void* out) {
  switch (type) {
    case tensorflow::DT_FLOAT:
      *static_cast<float*>(out) = static_cast<float>(value);
      break;
    case tensorflow::DT_DOUBLE:
      *static_cast<double*>(out) = value;
      break;
    case tensorflow::DT_HALF:
      *static_cast<Eigen::half*>(out) = static_cast<Eigen::half>(value);
      break;
    case tensorflow::DT_BFLOAT16:
      *static_cast<Eigen::bfloat16*>(out) = static_cast<Eigen::bfloat16>(value);
      break;
    case tensorflow::DT_INT32:
      *static_cast<int32_t*>(out) = static_cast<int32_t>(value);
      break;
    default:
      *static_cast<int64_t*>(out) = static_cast<int64_t>(value);
  }
}

}  // namespace fusemin
