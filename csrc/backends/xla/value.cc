#include "backends/xla/value.h"

#include <cmath>

#include "backends/xla/loop_body.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/shape_util.h"

namespace fusemin::hlo {
namespace {

// An array of the shape of `like`. Only XLA's other operations broadcast scalars by themselves.
xla::XlaOp BroadcastTo(xla::XlaOp x, const xla::Shape& like) {
  const absl::StatusOr<xla::Shape> shape = x.builder()->GetShape(x);
  if (!shape.ok()) return x.builder()->ReportError(shape.status());
  return shape->dimensions().empty() && !like.dimensions().empty() ? xla::Broadcast(x, like.dimensions()) : x;
}

void BringInto(LoopBody* loop, Value* x) {
  if (loop != nullptr && x->loop == nullptr) *x = loop->Bring(*x);
}

}  // namespace

void Meet(Value* a, Value* b) {
  BringInto(a->loop, b);
  BringInto(b->loop, a);
}

Value Convert(Value x, xla::PrimitiveType type) {
  if (x.type == type) return x;
  Value converted{xla::ConvertElementType(x.op, type), type, std::nullopt, x.loop};
  if (x.known.has_value() && type == xla::F64) converted.known = x.known;
  if (x.known.has_value() && type == xla::F32) converted.known = static_cast<float>(*x.known);
  return converted;
}

Value Scalar(xla::XlaBuilder* builder, xla::PrimitiveType type, double c) {
  if (type == xla::S64) return {xla::ConstantR0<int64_t>(builder, static_cast<int64_t>(c)), type};
  const Value wide{xla::ConstantR0<double>(builder, c), xla::F64, c};
  return Convert(wide, type);
}

Value Pow(Value base, Value exponent) {
  const Value wide = Convert(exponent, xla::F64);
  Value power;
  if (base.known.has_value() && *base.known > 0) {
    // As near as a power: where the exponent magnifies the error of the logarithm, the result is next to 0. A loop on a
    // scalar has fewer operations.
    power = Apply([](xla::XlaOp x) { return xla::Exp(x); }, wide * Constant(wide, std::log(*base.known)));
  } else {
    power = Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Pow(x, y); }, Convert(base, xla::F64), wide);
  }
  return Convert(power, base.type);
}

Value Known(Value like, bool condition) {
  return {xla::ConstantR0<bool>(like.op.builder(), condition), xla::PRED, condition ? 1.0 : 0.0};
}

Value And(Value a, Value b) {
  if (a.known.has_value()) return *a.known != 0.0 ? b : a;
  if (b.known.has_value()) return *b.known != 0.0 ? a : b;
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::And(x, y); }, a, b);
}

Value Select(Value condition, Value yes, Value no) {
  if (condition.known.has_value()) return *condition.known != 0.0 ? yes : no;
  Meet(&yes, &no);
  Meet(&condition, &yes);
  Meet(&condition, &no);
  xla::XlaBuilder* const builder = yes.op.builder();
  xla::Shape largest = xla::ShapeUtil::MakeShape(xla::PRED, {});
  for (xla::XlaOp op : {condition.op, yes.op, no.op}) {
    const absl::StatusOr<xla::Shape> shape = builder->GetShape(op);
    if (!shape.ok()) return {builder->ReportError(shape.status()), yes.type};
    if (largest.dimensions().empty()) largest = *shape;
  }
  return {xla::Select(BroadcastTo(condition.op, largest), BroadcastTo(yes.op, largest), BroadcastTo(no.op, largest)),
          yes.type, std::nullopt, yes.loop};
}

}  // namespace fusemin::hlo
