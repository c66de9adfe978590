#include "xla/value.h"

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

}  // namespace

Value Scalar(xla::XlaBuilder* builder, xla::PrimitiveType type, double c) {
  return {xla::ConstantR0WithType(builder, type, c), type};
}

Value Select(Condition condition, Value yes, Value no) {
  xla::XlaBuilder* const builder = yes.op.builder();
  xla::Shape largest = xla::ShapeUtil::MakeShape(xla::PRED, {});
  for (xla::XlaOp op : {condition.op, yes.op, no.op}) {
    const absl::StatusOr<xla::Shape> shape = builder->GetShape(op);
    if (!shape.ok()) return {builder->ReportError(shape.status()), yes.type};
    if (largest.dimensions().empty()) largest = *shape;
  }
  return {xla::Select(BroadcastTo(condition.op, largest), BroadcastTo(yes.op, largest), BroadcastTo(no.op, largest)),
          yes.type};
}

}  // namespace fusemin::hlo
