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

struct Value {
  xla::XlaOp op;
  xla::PrimitiveType type = xla::PRIMITIVE_TYPE_INVALID;
  // The number, where it is known now.
  std::optional<double> known = std::nullopt;
};

// What `Less` gives and `Select` takes.
struct Condition {
  xla::XlaOp op;
};

// The same number as another type, rounded to it.
Value Convert(Value x, xla::PrimitiveType type);

// A scalar.
Value Scalar(xla::XlaBuilder* builder, xla::PrimitiveType type, double c);
inline Value Constant(Value like, double c) { return Scalar(like.op.builder(), like.type, c); }

inline Value operator+(Value a, Value b) { return {xla::Add(a.op, b.op), a.type}; }
inline Value operator-(Value a, Value b) { return {xla::Sub(a.op, b.op), a.type}; }
inline Value operator*(Value a, Value b) { return {xla::Mul(a.op, b.op), a.type}; }
inline Value operator/(Value a, Value b) { return {xla::Div(a.op, b.op), a.type}; }
inline Value operator-(Value x) { return {xla::Neg(x.op), x.type}; }

inline Value Sqrt(Value x) { return {xla::Sqrt(x.op), x.type}; }
inline Value Abs(Value x) { return {xla::Abs(x.op), x.type}; }
inline Value Sign(Value x) { return {xla::Sign(x.op), x.type}; }
// NaN in either argument gives NaN.
inline Value Max(Value a, Value b) { return {xla::Max(a.op, b.op), a.type}; }
inline Value Min(Value a, Value b) { return {xla::Min(a.op, b.op), a.type}; }

// Through float64, as on the CPU: XLA's own power of float32 is an approximation whose error 1 - beta^t would magnify.
Value Pow(Value base, Value exponent);

inline Condition Less(Value a, Value b) { return {xla::Lt(a.op, b.op)}; }
// Condition and alternatives may be scalars beside arrays.
Value Select(Condition condition, Value yes, Value no);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_VALUE_H_
