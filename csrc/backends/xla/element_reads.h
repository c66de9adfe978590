// What a computation reads of arrays that a loop over their elements replaces in place.
#ifndef FUSEMIN_XLA_ELEMENT_READS_H_
#define FUSEMIN_XLA_ELEMENT_READS_H_

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "xla/hlo/builder/xla_builder.h"

namespace fusemin::hlo {

// Used by one thread.
class ElementReads {
 public:
  // Of what `builder` has built so far and will build. `arrays` are operations of it.
  ElementReads(xla::XlaBuilder* builder, const std::vector<xla::XlaOp>& arrays);

  // Whether an array is part of the state of a loop, so that XLA fuses it into nothing.
  bool IsLoopState(xla::XlaOp array) const;

  // Whether `operand` of a loop over the elements of `arrays`, a scalar or an array of their shape, may be computed in
  // the loop while it replaces these: of each array it reads the element at hand, or the sum (or other reduction) of
  // all elements, which XLA computes before the loop. What else XLA might compute in it, it cannot know here, so all
  // that is not elementwise counts as reading elsewhere.
  bool AreOfElement(xla::XlaOp operand, const std::vector<xla::XlaOp>& arrays);

 private:
  // Where an operation reads: at the element, anywhere, or all of an array, to make one number of.
  enum class Where { kElement, kAnywhere, kReduced };

  // An array is the same whichever operation takes it out of a tuple.
  using Key = std::pair<int64_t, int64_t>;

  const xla::HloInstructionProto& Instruction(int64_t handle) const;
  Key KeyOf(int64_t handle) const;
  Key KeyOf(xla::XlaOp op) const;
  // Calls `found(array)` for arrays that `operand` reads elsewhere, near ones first, until it returns true. Whether it
  // did.
  template <class Found>
  bool Search(const xla::HloInstructionProto& operand, const Found& found) const;
  const std::set<Key>& ReadByScalar(const xla::HloInstructionProto& scalar);

  xla::XlaBuilder* const builder_;
  std::set<Key> arrays_;
  // Most scalars are those of all variables.
  std::map<int64_t, std::set<Key>> read_by_scalar_;
};

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_ELEMENT_READS_H_
