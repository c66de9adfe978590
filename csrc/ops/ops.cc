// The definitions of the ops: signature, attributes, shape functions.
#include <algorithm>

#include "ops/op_names.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace fusemin {
namespace {

using ::tensorflow::shape_inference::DimensionHandle;
using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

// Every output has the shape of the buffer of the same position.
absl::Status BuffersToTraces(InferenceContext* c) {
  std::vector<ShapeHandle> buffers;
  TF_RETURN_IF_ERROR(c->input("buffers", &buffers));
  return c->set_output("traces", buffers);
}

// Slices are as their variable is, but for the first dimension.
absl::Status CheckSlices(InferenceContext* c, ShapeHandle variable, ShapeHandle slices, const std::string& name) {
  if (!c->RankKnown(variable) || !c->RankKnown(slices)) return absl::OkStatus();
  ShapeHandle row, slice, unused;
  if (c->Rank(variable) == 0 || c->Rank(slices) == 0 || !c->Subshape(variable, 1, &row).ok() ||
      !c->Subshape(slices, 1, &slice).ok() || !c->Merge(row, slice, &unused).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the slices of the gradient of variable '", name, "' have shape ",
                                                   c->DebugString(slices), ", the variable has ",
                                                   c->DebugString(variable)));
  }
  return absl::OkStatus();
}

// The attribute `name`, a list, which must have an entry for each of so many of `of`.
template <typename T>
absl::Status GetList(InferenceContext* c, const char* name, const char* of, int length, std::vector<T>* list) {
  list->clear();
  TF_RETURN_IF_ERROR(c->GetAttr(name, list));
  if (static_cast<int>(list->size()) == length) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", name, "` must have an entry for each of `", of, "`, ", length, ", it has ", list->size()));
}

// The number of inputs of the argument `name`.
absl::Status CountInputs(InferenceContext* c, const char* name, int* count) {
  std::vector<ShapeHandle> inputs;
  TF_RETURN_IF_ERROR(c->input(name, &inputs));
  *count = static_cast<int>(inputs.size());
  return absl::OkStatus();
}

// The kernels check more, of lists that a rule decides on.
absl::Status CheckFusedStepLists(InferenceContext* c, std::vector<std::string>* names, std::vector<int>* sparse) {
  int num_params, num_indices, num_hyperparameters, num_buffers;
  TF_RETURN_IF_ERROR(CountInputs(c, "params", &num_params));
  TF_RETURN_IF_ERROR(CountInputs(c, "indices", &num_indices));
  TF_RETURN_IF_ERROR(CountInputs(c, "hyperparameters", &num_hyperparameters));
  TF_RETURN_IF_ERROR(CountInputs(c, "buffers", &num_buffers));
  std::vector<std::string> sources;
  std::vector<int> unused;
  TF_RETURN_IF_ERROR(GetList(c, "names", "params", num_params, names));
  TF_RETURN_IF_ERROR(GetList(c, "inputs", "hyperparameters", num_hyperparameters, &unused));
  TF_RETURN_IF_ERROR(GetList(c, "trace_sources", "buffers", num_buffers, &sources));
  TF_RETURN_IF_ERROR(GetList(c, "trace_indices", "buffers", num_buffers, &unused));
  return GetList(c, "sparse", "indices", num_indices, sparse);
}

absl::Status FusedStepShape(InferenceContext* c) {
  std::vector<ShapeHandle> row, gradients;
  TF_RETURN_IF_ERROR(c->input("row", &row));
  ShapeHandle unused;
  TF_RETURN_IF_ERROR(c->WithRank(row[0], 0, &unused));
  TF_RETURN_IF_ERROR(c->input("gradients", &gradients));
  std::vector<std::string> names;
  std::vector<int> sparse;
  TF_RETURN_IF_ERROR(CheckFusedStepLists(c, &names, &sparse));
  // The parameters are the first inputs, so input i belongs to gradient i.
  for (size_t i = 0; i < gradients.size(); ++i) {
    const auto* handle = c->input_handle_shapes_and_types(static_cast<int>(i));
    if (handle == nullptr || handle->empty()) continue;
    if (std::find(sparse.begin(), sparse.end(), static_cast<int>(i)) != sparse.end()) {
      TF_RETURN_IF_ERROR(CheckSlices(c, (*handle)[0].shape, gradients[i], names[i]));
    } else if (!c->Merge((*handle)[0].shape, gradients[i], &unused).ok()) {
      return absl::InvalidArgumentError(absl::StrCat("the gradient of variable '", names[i], "' has shape ",
                                                     c->DebugString(gradients[i]), ", the variable has ",
                                                     c->DebugString((*handle)[0].shape)));
    }
  }
  return BuffersToTraces(c);
}

REGISTER_OP(FUSEMIN_OPS "FusedStep")
    .Input("params: N * resource")
    .Input("slots: S * resource")
    .Input("averages: E * resource")
    .Input("accumulators: A * resource")
    .Input("scalars: K * resource")
    .Input("iterations: I * resource")
    .Input("loss_scale: L * resource")
    .Input("gradients: N * T")
    .Input("indices: index_types")
    .Input("gradient_sums: G * double")
    .Input("hyperparameters: hyperparameter_types")
    .Input("row: int32")
    .Input("after: after_types")
    .Input("values: value_types")
    .Input("buffers: buffer_types")
    .Output("traces: buffer_types")
    .Attr("rule: string")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("N: int >= 1")
    .Attr("S: int >= 0")
    .Attr("E: int >= 0 = 0")
    .Attr("A: int >= 0 = 0")
    .Attr("K: int >= 0")
    .Attr("I: int >= 0")
    .Attr("L: int >= 0 = 0")
    .Attr("hyperparameter_types: list({half, bfloat16, float, double, resource}) >= 0")
    .Attr("after_types: list({half, bfloat16, float, double}) >= 0 = []")
    .Attr("value_types: list(type) >= 0")
    .Attr("buffer_types: list(type) >= 0")
    .Attr("index_types: list({int32, int64}) >= 0 = []")
    .Attr("G: int >= 0 = 0")
    .Attr("sparse: list(int) >= 0 = []")
    .Attr("sparse_rows: {'every', 'slots_of_every', 'touched'} = 'every'")
    .Attr("separate_duplicates: bool = false")
    .Attr("constants: list(int)")
    .Attr("inputs: list(int)")
    .Attr("option_names: list(string) >= 0 = []")
    .Attr("option_values: list(int) >= 0 = []")
    .Attr("decays: list(bool) >= 0 = []")
    .Attr("trace_sources: list({'value', 'gradient', 'param'}) >= 0 = []")
    .Attr("trace_indices: list(int) >= 0 = []")
    .Attr("row_offset: int = 0")
    .Attr("advance: bool = true")
    .Attr("in_loop: bool = false")
    .Attr("names: list(string)")
    .SetIsStateful()
    .SetShapeFn(FusedStepShape)
    .Doc(R"doc(
One optimizer step for all variables, in place, with the trace rows of the step.

params: the variables, each once.
slots: slot variables, all of the rule's first slot in the order of `params`, then all of its second.
averages: none, or moving averages of the variables.
accumulators: none, or sums of the gradients since the last update.
scalars: scalar variables that the rule reads, and replaces if `advance`.
iterations: none, or the int64 count of steps taken, which the op increments if `advance`.
loss_scale: none, or the float32 scale of a dynamically scaled loss and its count of steps since it changed.
gradients: for each variable its gradient, of its shape, or, of those in `sparse`, slices [k, ...] of it.
indices: for each of `sparse`, the rows that the slices belong to, [k]. A row may have several slices, which are added.
gradient_sums: none, or the result of GradientSums for all gradients of the step, where this is one of several ops.
hyperparameters: those that are not constants: scalars, or scalar variables read by the op.
row: the row of the buffers to write, less `row_offset`, so that a loop body of several steps needs no additions.
after: what must be computed before the variables are written, such as the loss: inside XLA nothing else orders the two.
values: what is traced beside gradients and parameters.
buffers: traces, with a leading dimension of steps. Forwarded to `traces`, written in place if nobody else holds them.
constants: one for each hyperparameter of the rule; ignored at the positions in `inputs`. An attribute float is of 32 bits
  only, so these are the bits of float64 numbers.
inputs: for each of `hyperparameters`, its position among the rule's; -1 of the count of steps taken, where there is no
  variable `iterations`, because it is on another device.
option_names, option_values: what surrounds the rule, by the names that Keras gives it, and bits of float64 numbers.
decays: with an option that needs it, for each variable whether it decays.
sparse: which gradients are sparse.
sparse_rows: whether the rule is applied to every row of such a variable, with a gradient of 0 where there is no slice; so
  for the slots, but only rows with slices move; or to rows with slices only.
separate_duplicates: whether the square and magnitude of a sum of slices are the sums of theirs, as in Keras 3.
trace_sources, trace_indices: for each buffer, what its row is a copy of.
advance: false in all but the last of several ops that make up one step.
in_loop: whether the op is part of the body of a loop that takes two steps at least. XLA compiles it in another way there.
names: the variables' names, for error messages.
)doc");

REGISTER_OP(FUSEMIN_OPS "GradientSums")
    .Input("gradients: N * T")
    .Output("sums: double")
    .Attr("T: {half, bfloat16, float, double}")
    .Attr("N: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Vector(2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The sum of the squares of all elements, and 1 if one of them is not finite, else 0. Several results can be added up.
)doc");

REGISTER_OP(FUSEMIN_OPS "TraceRows")
    .Input("row: int32")
    .Input("count: int32")
    .Input("values: types")
    .Input("buffers: types")
    .Output("traces: types")
    .Attr("types: list(type) >= 1")
    .Attr("row_offset: int = 0")
    .Attr("names: list(string)")
    .SetShapeFn([](InferenceContext* c) {
      // The first row may give a buffer its row shape; the number of rows stays.
      std::vector<ShapeHandle> values, buffers, traces;
      TF_RETURN_IF_ERROR(c->input("values", &values));
      TF_RETURN_IF_ERROR(c->input("buffers", &buffers));
      std::vector<std::string> names;
      TF_RETURN_IF_ERROR(GetList(c, "names", "buffers", static_cast<int>(buffers.size()), &names));
      for (size_t i = 0; i < values.size(); ++i) {
        ShapeHandle trace, unused;
        TF_RETURN_IF_ERROR(c->WithRankAtLeast(buffers[i], 1, &unused));
        const DimensionHandle rows = c->RankKnown(buffers[i]) ? c->Dim(buffers[i], 0) : c->UnknownDim();
        TF_RETURN_IF_ERROR(c->Concatenate(c->Vector(rows), values[i], &trace));
        traces.push_back(trace);
      }
      return c->set_output("traces", traces);
    })
    .Doc(R"doc(
Writes `values` into the rows [row, row + count) of `buffers`.

row: the first row to write, less `row_offset`.
count: how many rows receive the values.
values: tensors of memory-copyable type, or strings.
buffers: traces, with a leading dimension of steps. Forwarded to `traces`, written in place if nobody else holds them.
  Where `row` is 0 and the buffer's other dimensions are not those of the value, it is allocated anew with them.
names: what is traced, for error messages.
)doc");

}  // namespace
}  // namespace fusemin
