#include "backends/xla/kernel_call.h"

#include <cstring>

#include "absl/strings/str_join.h"
#include "backends/xla/kernel_call_name.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/xla_data.pb.h"

namespace fusemin::hlo {
namespace {

std::vector<int64_t> Bits(const UserOptions& options) {
  std::vector<int64_t> bits(sizeof(UserOptions) / sizeof(double));
  std::memcpy(bits.data(), &options, sizeof options);
  return bits;
}

template <class Numbers>
std::string Array(const Numbers& numbers) {
  // No colon without a number after it.
  return absl::StrCat("array<i64", numbers.empty() ? "" : ": ", absl::StrJoin(numbers, ", "), ">");
}

// Scalars, one after the other.
xla::XlaOp Vector(xla::XlaBuilder* builder, const std::vector<Value>& scalars) {
  std::vector<xla::XlaOp> parts;
  parts.reserve(scalars.size());
  for (const Value& scalar : scalars) parts.push_back(xla::Reshape(Convert(scalar, xla::F64).op, {1}));
  return xla::ConcatInDim(builder, parts, 0);
}

}  // namespace

StepValues KernelCallStep(const StepAttributes& a, const StepValues& before) {
  xla::XlaBuilder* const builder = before.segments[0].param.op.builder();
  StepValues after = before;
  std::vector<xla::XlaOp> operands;
  std::vector<xla::Shape> shapes;
  std::vector<xla::XlaOp*> results;
  std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>> aliases;
  const auto replace = [&](const Value& old, Value* next) {
    const absl::StatusOr<xla::Shape> shape = builder->GetShape(old.op);
    if (!shape.ok()) return static_cast<void>(builder->ReportError(shape.status()));
    const int64_t at = static_cast<int64_t>(operands.size());
    aliases.push_back({{at}, {at, {}}});
    operands.push_back(old.op);
    shapes.push_back(*shape);
    results.push_back(&next->op);
  };
  const auto replace_all = [&](auto member) {
    for (int i = 0; i < a.num_params; ++i) replace(member(before.segments[i]), &member(after.segments[i]));
  };
  replace_all([](auto& segment) -> auto& { return segment.param; });
  for (int k = 0; k < a.rule->num_slots; ++k) replace_all([k](auto& segment) -> auto& { return segment.slots[k]; });
  if (a.has_averages) replace_all([](auto& segment) -> auto& { return segment.average; });
  if (a.has_accumulators) replace_all([](auto& segment) -> auto& { return segment.accumulator; });
  for (const SegmentValues& segment : before.segments) operands.push_back(segment.gradient.op);

  // The scalars that are replaced come last among those that go in.
  const Value zero = Scalar(builder, xla::F64, 0.0);
  std::vector<Value> in(before.hyperparameters, before.hyperparameters + a.rule->num_hyperparameters);
  std::vector<Value*> out;
  out.reserve(a.rule->num_scalars + 3);
  for (int k = 0; k < a.rule->num_scalars; ++k) out.push_back(&after.scalars[k]);
  out.push_back(&after.iterations);
  for (Value& scalar : after.option_scalars) {
    if (!a.has_loss_scale) scalar = zero;
    out.push_back(&scalar);
  }
  for (const Value* value : out) in.push_back(*value);
  operands.push_back(Vector(builder, in));
  shapes.push_back(xla::ShapeUtil::MakeShape(xla::F64, {static_cast<int64_t>(out.size())}));

  const std::string attributes = absl::StrCat(  //
      "{rule = \"", a.rule->name, "\", dtype = ", static_cast<int>(a.dtype), " : i64, num_params = ", a.num_params,
      " : i64, averages = ", a.has_averages ? 1 : 0, " : i64, accumulators = ", a.has_accumulators ? 1 : 0,
      " : i64, decays = ", Array(a.decays), ", options = ", Array(Bits(a.options)), "}");
  const xla::XlaOp call =
      xla::CustomCall(builder, kKernelCall, operands, xla::ShapeUtil::MakeTupleShape(shapes), attributes,
                      /*has_side_effect=*/false, aliases, /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
                      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
  for (size_t i = 0; i < results.size(); ++i) *results[i] = xla::GetTupleElement(call, i);
  const xla::XlaOp scalars = xla::GetTupleElement(call, static_cast<int64_t>(results.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i);
    const Value next{xla::Reshape(xla::Slice(scalars, {at}, {at + 1}, {1}), {}), xla::F64};
    *out[i] = Convert(next, out[i]->type);
  }
  return after;
}

}  // namespace fusemin::hlo
