// Several arrays replaced in place by one loop over their elements, inside a program for a CPU.
//
// XLA on a CPU makes a loop for each array, so that Adam goes over memory three times; this is one fusion with several
// results, into which XLA then brings the gradient too. It is built of what XLA takes as it is.
//
// Its root is a reduction over no dimension. With a tuple as the root XLA would fuse no division or root into it, and
// operations that stand in a fusion already get no layout, without which there is no code for results of a tuple.
//
// The arrays are its first operands, and its results are declared to be in place of them. XLA fuses into an operation
// in place whatever it finds, so it is for the caller to see that nothing reads another element of the arrays, see
// element_reads.h, and that the arrays themselves are not fused into it, which would move its operands.
#ifndef FUSEMIN_XLA_LOOP_BODY_H_
#define FUSEMIN_XLA_LOOP_BODY_H_

#include <memory>
#include <optional>
#include <vector>

#include "backends/xla/value.h"

namespace fusemin::hlo {

// Used by one thread.
class LoopBody {
 public:
  // A loop in the computation that `outer` builds, which outlives it.
  explicit LoopBody(xla::XlaBuilder* outer) : outer_(outer), inside_(outer->CreateSubBuilder("step")) {}

  // The fewest bytes that a loop must replace for XLA to compile it, none if it compiles none: it has an older emitter
  // that crashes on such a loop, for small loops around it, and for all if a flag says so.
  static std::optional<int64_t> MinBytes();

  // A value of the computation around, as one of the loop: at the element, or the scalar.
  Value Bring(Value outside);

  // All that was brought, in the order in which it was.
  const std::vector<xla::XlaOp>& operands() const { return operands_; }

  // The end: replaces each of `results`, values of the loop, by an array around it, in place of the operand of the same
  // position.
  void Finish(const std::vector<Value*>& results);

 private:
  xla::XlaBuilder* const outer_;
  const std::unique_ptr<xla::XlaBuilder> inside_;
  std::vector<xla::XlaOp> operands_, parameters_;
};

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_LOOP_BODY_H_
