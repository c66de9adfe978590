#include "ops/step_attributes.h"

#include <algorithm>
#include <cstring>

#include "ops/trace_buffers.h"
#include "options/table.h"

namespace fusemin {

using ::tensorflow::DataType;
using ::tensorflow::DataTypeString;
using ::tensorflow::OpKernelConstruction;

absl::Status ToDType(DataType type, DType* dtype) {
  switch (type) {
    case tensorflow::DT_FLOAT:
      *dtype = DType::kFloat32;
      return absl::OkStatus();
    case tensorflow::DT_DOUBLE:
      *dtype = DType::kFloat64;
      return absl::OkStatus();
    case tensorflow::DT_HALF:
      *dtype = DType::kFloat16;
      return absl::OkStatus();
    case tensorflow::DT_BFLOAT16:
      *dtype = DType::kBFloat16;
      return absl::OkStatus();
    default:
      return absl::UnimplementedError(absl::StrCat("no kernel for dtype ", DataTypeString(type)));
  }
}

namespace {

// Numbers of an attribute that holds the bits of float64.
absl::Status GetDoubles(OpKernelConstruction* ctx, const char* name, std::vector<double>* values) {
  std::vector<int64_t> bits;
  TF_RETURN_IF_ERROR(ctx->GetAttr(name, &bits));
  values->resize(bits.size());
  if (!bits.empty()) std::memcpy(values->data(), bits.data(), bits.size() * sizeof(double));
  return absl::OkStatus();
}

}  // namespace

absl::Status StepAttributes::Parse(OpKernelConstruction* ctx, const Rule* (*find_rule)(const std::string&)) {
  std::string rule_name;
  TF_RETURN_IF_ERROR(ctx->GetAttr("rule", &rule_name));
  rule = find_rule(rule_name);
  if (rule == nullptr) return absl::InvalidArgumentError(absl::StrCat("there is no rule '", rule_name, "'"));
  TF_RETURN_IF_ERROR(ctx->GetAttr("T", &type));
  TF_RETURN_IF_ERROR(ToDType(type, &dtype));
  TF_RETURN_IF_ERROR(ctx->GetAttr("N", &num_params));
  TF_RETURN_IF_ERROR(ctx->GetAttr("names", &names));
  TF_RETURN_IF_ERROR(ctx->GetAttr("row_offset", &row_offset));
  TF_RETURN_IF_ERROR(ctx->GetAttr("advance", &advance));
  TF_RETURN_IF_ERROR(ctx->GetAttr("in_loop", &in_loop));
  if (static_cast<int>(names.size()) != num_params) {
    return absl::InvalidArgumentError("`names` must name every parameter");
  }
  TF_RETURN_IF_ERROR(CheckRowOffset(row_offset));
  int num_slots, num_averages, num_accumulators, num_scalars, num_iterations, num_loss_scale;
  TF_RETURN_IF_ERROR(ctx->GetAttr("S", &num_slots));
  TF_RETURN_IF_ERROR(ctx->GetAttr("E", &num_averages));
  TF_RETURN_IF_ERROR(ctx->GetAttr("A", &num_accumulators));
  TF_RETURN_IF_ERROR(ctx->GetAttr("K", &num_scalars));
  TF_RETURN_IF_ERROR(ctx->GetAttr("I", &num_iterations));
  TF_RETURN_IF_ERROR(ctx->GetAttr("L", &num_loss_scale));
  if (num_slots != num_params * rule->num_slots) {
    return absl::InvalidArgumentError(absl::StrCat("rule '", rule_name, "' takes ", rule->num_slots,
                                                   " slots for each parameter, there are ", num_slots, " for ",
                                                   num_params, " parameters"));
  }
  if (num_scalars != rule->num_scalars || num_iterations > 1) {
    return absl::InvalidArgumentError(absl::StrCat("rule '", rule_name, "' takes ", rule->num_scalars,
                                                   " scalars and at most one count of iterations, there are ",
                                                   num_scalars, " and ", num_iterations));
  }
  const auto none_or = [](int n, int all) { return n == 0 || n == all; };
  if (!none_or(num_averages, num_params) || !none_or(num_accumulators, num_params) || !none_or(num_loss_scale, 2)) {
    return absl::InvalidArgumentError(
        "`averages` and `accumulators` must be none or one for each parameter, `loss_scale` none or scale and counter");
  }
  has_averages = num_averages > 0;
  has_accumulators = num_accumulators > 0;
  has_iterations = num_iterations > 0;
  has_loss_scale = num_loss_scale > 0;
  TF_RETURN_IF_ERROR(ParseHyperparameters(ctx));
  TF_RETURN_IF_ERROR(ParseOptions(ctx));
  TF_RETURN_IF_ERROR(ParseTraces(ctx));
  std::vector<DataType> after_types;
  TF_RETURN_IF_ERROR(ctx->GetAttr("after_types", &after_types));
  num_after = static_cast<int>(after_types.size());
  int num_indices, num_sums;
  TF_RETURN_IF_ERROR(ParseSparse(ctx, &num_indices));
  TF_RETURN_IF_ERROR(ctx->GetAttr("G", &num_sums));
  if (num_sums > 1) return absl::InvalidArgumentError("`gradient_sums` must be none or one");
  has_sums = num_sums > 0;

  layout = {num_params, rule->num_slots, has_averages, has_accumulators};
  scalars_at = layout.end();
  iterations_at = scalars_at + num_scalars;
  loss_scale_at = iterations_at + num_iterations;
  gradients_at = loss_scale_at + num_loss_scale;
  indices_at = gradients_at + num_params;
  sums_at = indices_at + num_indices;
  hyperparameters_at = sums_at + num_sums;
  row_at = hyperparameters_at + static_cast<int>(hyperparameter_positions.size());
  after_at = row_at + 1;
  values_at = after_at + num_after;
  buffers_at = values_at + num_values;
  return absl::OkStatus();
}

absl::Status StepAttributes::ParseHyperparameters(OpKernelConstruction* ctx) {
  TF_RETURN_IF_ERROR(ctx->GetAttr("inputs", &hyperparameter_positions));
  std::vector<double> values;
  TF_RETURN_IF_ERROR(GetDoubles(ctx, "constants", &values));
  if (static_cast<int>(values.size()) != rule->num_hyperparameters) {
    return absl::InvalidArgumentError(
        absl::StrCat("`constants` must be ", rule->num_hyperparameters, " numbers for rule '", rule->name, "'"));
  }
  std::copy(values.begin(), values.end(), constants);
  std::vector<DataType> types;
  TF_RETURN_IF_ERROR(ctx->GetAttr("hyperparameter_types", &types));
  if (types.size() != hyperparameter_positions.size()) {
    return absl::InvalidArgumentError("`inputs` must say of each of `hyperparameters` which it is");
  }
  for (int position : hyperparameter_positions) {
    if (position < kCountPosition || position >= rule->num_hyperparameters) {
      return absl::InvalidArgumentError("`inputs` must be positions of hyperparameters");
    }
    has_count |= position == kCountPosition;
  }
  if (has_count && has_iterations) {
    return absl::InvalidArgumentError("the count of iterations must come as a variable or as a value, not as both");
  }
  return absl::OkStatus();
}

absl::Status StepAttributes::ParseOptions(OpKernelConstruction* ctx) {
  std::vector<std::string> given;
  std::vector<double> values;
  TF_RETURN_IF_ERROR(ctx->GetAttr("option_names", &given));
  TF_RETURN_IF_ERROR(GetDoubles(ctx, "option_values", &values));
  TF_RETURN_IF_ERROR(ctx->GetAttr("decays", &decays));
  if (values.size() != given.size()) {
    return absl::InvalidArgumentError("`option_values` must be a number for each of `option_names`");
  }
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string error = SetOption(given[i], values[i], &options);
    if (!error.empty()) return absl::InvalidArgumentError(absl::StrCat("`option_values`: ", error));
  }
  if (!decays.empty() && static_cast<int>(decays.size()) != num_params) {
    return absl::InvalidArgumentError("`decays` must say of each parameter whether it decays");
  }
  const struct {
    OptionTensors tensors;
    const char* name;
    bool given;
  } all_tensors[] = {{OptionTensors::kDecays, "decays", !decays.empty()},
                     {OptionTensors::kAverages, "averages", has_averages},
                     {OptionTensors::kAccumulators, "accumulators", has_accumulators},
                     {OptionTensors::kLossScale, "loss_scale", has_loss_scale}};
  for (const auto& [tensors, name, is_given] : all_tensors) {
    const std::string error = CheckTensors(options, tensors, name, is_given);
    if (!error.empty()) return absl::InvalidArgumentError(error);
  }
  if ((has_averages || has_accumulators) && !has_iterations && !has_count) {
    return absl::InvalidArgumentError("averages and accumulators need a count of iterations");
  }
  return absl::OkStatus();
}

absl::Status StepAttributes::ParseSparse(OpKernelConstruction* ctx, int* num_indices) {
  std::vector<int> given;
  std::vector<DataType> index_types;
  std::string rows;
  TF_RETURN_IF_ERROR(ctx->GetAttr("sparse", &given));
  TF_RETURN_IF_ERROR(ctx->GetAttr("index_types", &index_types));
  TF_RETURN_IF_ERROR(ctx->GetAttr("sparse_rows", &rows));
  TF_RETURN_IF_ERROR(ctx->GetAttr("separate_duplicates", &sparse.separate_duplicates));
  sparse.rows = rows == "every"     ? SparseRows::kEvery
                : rows == "touched" ? SparseRows::kTouched
                                    : SparseRows::kSlotsOfEvery;
  if (index_types.size() != given.size()) {
    return absl::InvalidArgumentError("`indices` must be one tensor for each of `sparse`");
  }
  if (sparse.rows != SparseRows::kEvery && rule->has_trust_ratio) {
    return absl::InvalidArgumentError(
        absl::StrCat("rule '", rule->name, "' has a trust ratio, so `sparse_rows` must be 'every'"));
  }
  if (const std::string error = CheckTakesSparse(options); !given.empty() && !error.empty()) {
    return absl::InvalidArgumentError(error);
  }
  *num_indices = static_cast<int>(given.size());
  if (!given.empty()) indices_of.assign(num_params, -1);
  for (int k = 0; k < *num_indices; ++k) {
    if (given[k] < 0 || given[k] >= num_params || indices_of[given[k]] != -1) {
      return absl::InvalidArgumentError("`sparse` must be positions of parameters, each once");
    }
    indices_of[given[k]] = k;
  }
  return absl::OkStatus();
}

absl::Status StepAttributes::ParseTraces(OpKernelConstruction* ctx) {
  std::vector<std::string> sources;
  std::vector<int> indices;
  std::vector<DataType> value_types, buffer_types;
  TF_RETURN_IF_ERROR(ctx->GetAttr("trace_sources", &sources));
  TF_RETURN_IF_ERROR(ctx->GetAttr("trace_indices", &indices));
  TF_RETURN_IF_ERROR(ctx->GetAttr("value_types", &value_types));
  TF_RETURN_IF_ERROR(ctx->GetAttr("buffer_types", &buffer_types));
  num_values = static_cast<int>(value_types.size());
  if (sources.size() != buffer_types.size() || indices.size() != buffer_types.size()) {
    return absl::InvalidArgumentError("`trace_sources` and `trace_indices` must have an entry for each buffer");
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    const TraceKind kind = sources[i] == "value"      ? TraceKind::kValue
                           : sources[i] == "gradient" ? TraceKind::kGradient
                                                      : TraceKind::kParam;
    const int limit = kind == TraceKind::kValue ? num_values : num_params;
    if (indices[i] < 0 || indices[i] >= limit) {
      return absl::InvalidArgumentError(
          absl::StrCat("trace ", i, " is of ", sources[i], " ", indices[i], " of ", limit));
    }
    const DataType expected = kind == TraceKind::kValue ? value_types[indices[i]] : type;
    if (expected != buffer_types[i] || !tensorflow::DataTypeCanUseMemcpy(expected)) {
      return absl::InvalidArgumentError(absl::StrCat("the buffer of trace ", i, " must be of dtype ",
                                                     DataTypeString(expected), ", a plain-memory dtype"));
    }
    traces.push_back({kind, indices[i]});
  }
  return absl::OkStatus();
}

absl::Status StepAttributes::ForEachScalar(absl::FunctionRef<absl::Status(int, int)> visit) const {
  const auto visit_all = [&](int at, int n, int first) {
    for (int k = 0; k < n; ++k) TF_RETURN_IF_ERROR(visit(at + k, first + k));
    return absl::OkStatus();
  };
  TF_RETURN_IF_ERROR(visit_all(scalars_at, rule->num_scalars, kRuleScalar));
  TF_RETURN_IF_ERROR(visit_all(iterations_at, has_iterations ? 1 : 0, kIterations));
  return visit_all(loss_scale_at, has_loss_scale ? kNumOptionScalars : 0, kOptionScalar);
}

std::string StepAttributes::VariableName(int i) const {
  const auto of = [&](const char* what, int k) { return absl::StrCat(what, " of variable '", names[k], "'"); };
  if (i < num_params) return absl::StrCat("variable '", names[i], "'");
  if (i < layout.average(0)) {
    return of(absl::StrCat("slot '", rule->slots[i / num_params - 1], "'").c_str(), i % num_params);
  }
  if (i < layout.accumulator(0)) return of("the moving average", i - layout.average(0));
  if (i < scalars_at) return of("the gradient accumulator", i - layout.accumulator(0));
  if (i < iterations_at) return absl::StrCat("optimizer variable '", rule->scalars[i - scalars_at], "'");
  if (i < loss_scale_at) return "optimizer variable 'iterations'";
  return i == loss_scale_at ? "optimizer variable 'dynamic_scale'" : "optimizer variable 'step_counter'";
}

std::string StepAttributes::HyperparameterName(int position) const {
  if (position == kCountPosition) return "the count of iterations";
  return absl::StrCat("hyperparameter '", rule->hyperparameters[position], "'");
}

std::string StepAttributes::TraceName(const TraceSource& source) const {
  return source.kind == TraceKind::kValue      ? absl::StrCat("value ", source.index)
         : source.kind == TraceKind::kGradient ? absl::StrCat("the gradient of '", names[source.index], "'")
                                               : absl::StrCat("variable '", names[source.index], "'");
}

}  // namespace fusemin
