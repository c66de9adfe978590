#include "backends/xla/loop_body.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "compat/fusion_emitters.h"
#include "xla/debug_options_flags.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/service/cpu/cpu_options.h"
#include "xla/service/hlo_module_config.h"
#include "xla/shape_util.h"

namespace fusemin::hlo {
namespace {

// Of pairs (what a reduction has, next element) takes the elements.
absl::StatusOr<xla::XlaComputation> TakeElements(xla::XlaBuilder* parent, const std::vector<Value*>& results) {
  const std::unique_ptr<xla::XlaBuilder> builder = parent->CreateSubBuilder("take_elements");
  std::vector<xla::XlaOp> parameters;
  for (size_t i = 0; i < 2 * results.size(); ++i) {
    const xla::Shape shape = xla::ShapeUtil::MakeShape(results[i % results.size()]->type, {});
    parameters.push_back(xla::Parameter(builder.get(), static_cast<int64_t>(i), shape, absl::StrCat("p", i)));
  }
  xla::Tuple(builder.get(), absl::MakeConstSpan(parameters).subspan(results.size()));
  return builder->Build();
}

std::optional<int64_t> FindMinBytes() {
  xla::HloModuleConfig config;
  config.set_debug_options(xla::GetDebugOptionsFromFlags());
  const absl::StatusOr<int64_t> small = xla::cpu::options::SmallWhileLoopByteThreshold(config);
  if (!compat::UsesFusionEmitters(config.debug_options()) || !small.ok() ||
      !xla::cpu::options::UseExperimentalLoopFusion(config)) {
    return std::nullopt;
  }
  return 2 * *small;  // XLA counts what is read and what is written, so this is four times as much.
}

}  // namespace

std::optional<int64_t> LoopBody::MinBytes() {
  static const std::optional<int64_t> found = FindMinBytes();  // Of flags that are read once in a process.
  return found;
}

Value LoopBody::Bring(Value outside) {
  const auto same = [&](xla::XlaOp op) { return op.IsIdenticalTo(outside.op); };
  const auto found = std::find_if(operands_.begin(), operands_.end(), same);
  const size_t at = found - operands_.begin();
  if (found == operands_.end()) {
    const absl::StatusOr<xla::Shape> shape = outer_->GetShape(outside.op);
    operands_.push_back(outside.op);
    parameters_.push_back(shape.ok()
                              ? xla::Parameter(inside_.get(), static_cast<int64_t>(at), *shape, absl::StrCat("p", at))
                              : inside_->ReportError(shape.status()));
  }
  return {parameters_[at], outside.type, outside.known, this};
}

void LoopBody::Finish(const std::vector<Value*>& results) {
  std::vector<xla::XlaOp> elements, initial;
  std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>> in_place;
  for (const Value* result : results) {
    const int64_t at = static_cast<int64_t>(elements.size());
    elements.push_back(result->op);
    initial.push_back(xla::Zero(inside_.get(), result->type));
    in_place.push_back({{at}, {at, {}}});
  }
  const xla::XlaOp loop = outer_->ReportErrorOrReturn([&]() -> absl::StatusOr<xla::XlaOp> {
    TF_ASSIGN_OR_RETURN(const xla::XlaComputation take, TakeElements(inside_.get(), results));
    const xla::XlaOp root = xla::Reduce(inside_.get(), elements, initial, take, {});
    TF_ASSIGN_OR_RETURN(const xla::XlaComputationId computation, inside_->BuildSubComputation(root));
    return xla::internal::XlaBuilderFriend::BuildFusion(outer_, operands_, "kLoop", computation, in_place);
  });
  for (size_t i = 0; i < results.size(); ++i) {
    *results[i] = {xla::GetTupleElement(loop, static_cast<int64_t>(i)), results[i]->type};
  }
}

}  // namespace fusemin::hlo
