// What of a FusedStep is known when its kernel is constructed, on any device.
#ifndef FUSEMIN_TENSORFLOW_STEP_ATTRIBUTES_H_
#define FUSEMIN_TENSORFLOW_STEP_ATTRIBUTES_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "options/user_options.h"
#include "step/step_layout.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusemin {

// The kernels' name of a type, or an error if they have none.
absl::Status ToDType(tensorflow::DataType type, DType* dtype);

// What the row of a trace buffer is a copy of.
enum class TraceKind { kValue, kGradient, kParam };

struct TraceSource {
  TraceKind kind;
  int index;
};

// In `hyperparameter_positions`: the count of iterations, as a value, where its variable is on another device.
constexpr int kCountPosition = -1;

// Attributes, checked against the rule, and where each input begins. Immutable after `Parse`, so any thread may read
// it.
struct StepAttributes {
  // Finds the rule by `find_rule`, which returns null if there is none of that name.
  absl::Status Parse(tensorflow::OpKernelConstruction* ctx, const Rule* (*find_rule)(const std::string& name));

  // Describes variable i, counted as the inputs are, for errors: "slot 'momentum' of variable 'x'".
  std::string VariableName(int i) const;
  // Describes the hyperparameter at a position, for errors.
  std::string HyperparameterName(int position) const;
  std::string TraceName(const TraceSource& source) const;

  // `visit(input, k)` for each scalar variable that the step has, which is k of ScalarVariable, until it fails.
  absl::Status ForEachScalar(absl::FunctionRef<absl::Status(int, int)> visit) const;

  const Rule* rule = nullptr;
  DType dtype;
  tensorflow::DataType type;
  int num_params = 0, num_after = 0, num_values = 0;
  bool has_averages = false, has_accumulators = false, has_iterations = false, has_loss_scale = false, has_sums = false;
  // Whether the count of iterations comes as a value.
  bool has_count = false;
  std::vector<std::string> names;
  std::vector<bool> decays;
  // For each parameter, -1 or which of `indices` goes with its gradient. Empty if all gradients are dense.
  std::vector<int> indices_of;
  SparseOptions sparse;
  UserOptions options;
  // The rule's hyperparameters, and which of them come as inputs instead.
  double constants[kMaxHyperparameters] = {};
  std::vector<int> hyperparameter_positions;
  std::vector<TraceSource> traces;
  int64_t row_offset = 0;
  bool advance = true, in_loop = false;

  // Positions of the inputs: of tensors that the step replaces, and after them of the first input of each kind.
  StepLayout layout = {};
  int scalars_at = 0, iterations_at = 0, loss_scale_at = 0, gradients_at = 0, indices_at = 0, sums_at = 0,
      hyperparameters_at = 0, row_at = 0, after_at = 0, values_at = 0, buffers_at = 0;

 private:
  absl::Status ParseHyperparameters(tensorflow::OpKernelConstruction* ctx);
  absl::Status ParseOptions(tensorflow::OpKernelConstruction* ctx);
  absl::Status ParseSparse(tensorflow::OpKernelConstruction* ctx, int* num_indices);
  absl::Status ParseTraces(tensorflow::OpKernelConstruction* ctx);
};

}  // namespace fusemin

#endif  // FUSEMIN_TENSORFLOW_STEP_ATTRIBUTES_H_
