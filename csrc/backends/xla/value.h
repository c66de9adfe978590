// Expressions of XLA as the value type of the rules: the vocabulary of numeric/math.h on them.
//
// A type of its own around `xla::XlaOp`, so that argument-dependent lookup finds these functions and not those of XLA,
// which are of other names and other ideas of broadcasting. Scalars and arrays mix. An error in building an expression
// is kept by its builder, which tells it when the computation is built.
#ifndef FUSEMIN_XLA_VALUE_H_
#define FUSEMIN_XLA_VALUE_H_

#include <optional>

#include "xla/hlo/builder/xla_builder.h"
#include "xla/xla_data.pb.h"

namespace fusemin::hlo {

class LoopBody;

struct Value {
  xla::XlaOp op;
  xla::PrimitiveType type = xla::PRIMITIVE_TYPE_INVALID;
  // The number, where it is known now.
  std::optional<double> known = std::nullopt;
  // The loop that it is computed in, not owned, or null: see loop_body.h. What meets it there is brought into it.
  LoopBody* loop = nullptr;
};

// The same number as another type, rounded to it.
Value Convert(Value x, xla::PrimitiveType type);

// A scalar.
Value Scalar(xla::XlaBuilder* builder, xla::PrimitiveType type, double c);
// A condition that is known: what depends on it costs nothing.
Value Known(Value like, bool condition);
inline Value Widen(Value x) { return Convert(x, xla::F64); }
inline Value Constant(Value like, double c) {
  Value constant = Scalar(like.op.builder(), like.type, c);
  constant.loop = like.loop;
  return constant;
}

// Brings either into the loop of the other.
void Meet(Value* a, Value* b);

// `operation` of XLA on one or two values.
template <class Operation>
Value Apply(Operation operation, Value x) {
  return {operation(x.op), x.type, std::nullopt, x.loop};
}
template <class Operation>
Value Apply(Operation operation, Value a, Value b) {
  Meet(&a, &b);
  return {operation(a.op, b.op), a.type, std::nullopt, a.loop};
}

inline Value operator+(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Add(x, y); }, a, b);
}
inline Value operator-(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Sub(x, y); }, a, b);
}
inline Value operator*(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Mul(x, y); }, a, b);
}
inline Value operator/(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Div(x, y); }, a, b);
}
inline Value operator-(Value x) { return Apply(xla::Neg, x); }

inline Value Sqrt(Value x) {
  return Apply([](xla::XlaOp y) { return xla::Sqrt(y); }, x);
}
inline Value Abs(Value x) {
  return Apply([](xla::XlaOp y) { return xla::Abs(y); }, x);
}
inline Value Sign(Value x) {
  return Apply([](xla::XlaOp y) { return xla::Sign(y); }, x);
}
// NaN in either argument gives NaN.
inline Value Max(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Max(x, y); }, a, b);
}
inline Value Min(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Min(x, y); }, a, b);
}

// Through float64, as on the CPU: XLA's own power of float32 is an approximation whose error 1 - beta^t would magnify.
Value Pow(Value base, Value exponent);

inline Value Less(Value a, Value b) {
  Meet(&a, &b);
  return {xla::Lt(a.op, b.op), xla::PRED, std::nullopt, a.loop};
}
inline Value Equal(Value a, Value b) {
  Meet(&a, &b);
  return {xla::Eq(a.op, b.op), xla::PRED, std::nullopt, a.loop};
}
inline Value Remainder(Value a, Value b) {
  return Apply([](xla::XlaOp x, xla::XlaOp y) { return xla::Rem(x, y); }, a, b);
}
Value And(Value a, Value b);
// Condition and alternatives may be scalars beside arrays.
Value Select(Value condition, Value yes, Value no);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_VALUE_H_
