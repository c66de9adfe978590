#include "backends/xla/element_reads.h"

#include <algorithm>
#include <deque>

#include "xla/hlo/ir/hlo_instruction.h"
#include "xla/hlo/ir/hlo_opcode.h"

namespace fusemin::hlo {
namespace {

using ::xla::HloInstructionProto;
using ::xla::HloOpcode;
using ::xla::internal::XlaBuilderFriend;

bool Is(const HloInstructionProto& instruction, HloOpcode opcode) {
  return instruction.opcode() == xla::HloOpcodeString(opcode);
}

bool IsElementwise(const HloInstructionProto& instruction) {
  const absl::StatusOr<HloOpcode> opcode = xla::StringToHloOpcode(instruction.opcode());
  return opcode.ok() && xla::HloInstruction::IsOpElementwise(*opcode);
}

bool IsScalar(const HloInstructionProto& instruction) {
  return instruction.shape().element_type() != xla::TUPLE && instruction.shape().dimensions().empty();
}

}  // namespace

ElementReads::ElementReads(xla::XlaBuilder* builder, const std::vector<xla::XlaOp>& arrays) : builder_(builder) {
  for (xla::XlaOp array : arrays) arrays_.insert(KeyOf(array));
}

const HloInstructionProto& ElementReads::Instruction(int64_t handle) const {
  return *XlaBuilderFriend::GetInstructionByHandle(builder_, handle);
}

ElementReads::Key ElementReads::KeyOf(int64_t handle) const {
  const HloInstructionProto& instruction = Instruction(handle);
  if (Is(instruction, HloOpcode::kGetTupleElement)) return {instruction.operand_ids(0), instruction.tuple_index()};
  return {handle, -1};
}

ElementReads::Key ElementReads::KeyOf(xla::XlaOp op) const { return KeyOf(XlaBuilderFriend::GetInstruction(op)->id()); }

bool ElementReads::IsLoopState(xla::XlaOp array) const {
  const HloInstructionProto& instruction = *XlaBuilderFriend::GetInstruction(array);
  return Is(instruction, HloOpcode::kGetTupleElement) &&
         Is(Instruction(instruction.operand_ids(0)), HloOpcode::kParameter);
}

bool ElementReads::AreOfElement(xla::XlaOp operand, const std::vector<xla::XlaOp>& arrays) {
  std::set<Key> keys;
  for (xla::XlaOp array : arrays) keys.insert(KeyOf(array));
  const HloInstructionProto& instruction = *XlaBuilderFriend::GetInstruction(operand);
  const auto is_one = [&](const Key& array) { return keys.count(array) > 0; };
  if (!IsScalar(instruction)) return !Search(instruction, is_one);
  const std::set<Key>& read = ReadByScalar(instruction);
  return std::none_of(read.begin(), read.end(), is_one);
}

const std::set<ElementReads::Key>& ElementReads::ReadByScalar(const HloInstructionProto& scalar) {
  const auto [entry, is_new] = read_by_scalar_.try_emplace(scalar.id());
  std::set<Key>& read = entry->second;
  if (is_new) {
    Search(scalar, [&](const Key& array) {
      read.insert(array);
      return false;
    });
  }
  return read;
}

template <class Found>
bool ElementReads::Search(const HloInstructionProto& operand, const Found& found) const {
  // A scalar is the same at every element.
  std::deque<std::pair<int64_t, Where>> open{{operand.id(), IsScalar(operand) ? Where::kAnywhere : Where::kElement}};
  std::set<std::pair<int64_t, Where>> seen(open.begin(), open.end());
  while (!open.empty()) {
    const auto [handle, where] = open.front();
    open.pop_front();
    const Key key = KeyOf(handle);
    if (arrays_.count(key) > 0) {
      if (where == Where::kAnywhere && found(key)) return true;
      continue;
    }
    const HloInstructionProto& instruction = Instruction(handle);
    const bool reduces = Is(instruction, HloOpcode::kReduce) && IsScalar(instruction);
    const Where next = reduces ? Where::kReduced : IsElementwise(instruction) ? where : Where::kAnywhere;
    for (int64_t id : instruction.operand_ids()) {
      if (seen.emplace(id, next).second) open.emplace_back(id, next);
    }
  }
  return false;
}

}  // namespace fusemin::hlo
