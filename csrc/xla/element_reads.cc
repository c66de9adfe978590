#include "xla/element_reads.h"

#include <algorithm>

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
  for (xla::XlaOp array : arrays) arrays_.insert(KeyOf(XlaBuilderFriend::GetInstruction(array)->id()));
}

const HloInstructionProto& ElementReads::Instruction(int64_t handle) const {
  return *XlaBuilderFriend::GetInstructionByHandle(builder_, handle);
}

ElementReads::Key ElementReads::KeyOf(int64_t handle) const {
  const HloInstructionProto& instruction = Instruction(handle);
  if (Is(instruction, HloOpcode::kGetTupleElement)) return {instruction.operand_ids(0), instruction.tuple_index()};
  return {handle, -1};
}

bool ElementReads::IsLoopState(xla::XlaOp array) const {
  const HloInstructionProto& instruction = *XlaBuilderFriend::GetInstruction(array);
  return Is(instruction, HloOpcode::kGetTupleElement) &&
         Is(Instruction(instruction.operand_ids(0)), HloOpcode::kParameter);
}

bool ElementReads::AreOfElement(xla::XlaOp operand, const std::vector<xla::XlaOp>& arrays) {
  const std::set<Key>& elsewhere = ReadElsewhere(operand);
  return std::none_of(arrays.begin(), arrays.end(), [&](xla::XlaOp array) {
    return elsewhere.count(KeyOf(XlaBuilderFriend::GetInstruction(array)->id())) > 0;
  });
}

const std::set<ElementReads::Key>& ElementReads::ReadElsewhere(xla::XlaOp operand) {
  const HloInstructionProto& last = *XlaBuilderFriend::GetInstruction(operand);
  const auto [found, inserted] = read_elsewhere_.try_emplace(last.id());
  std::set<Key>& elsewhere = found->second;
  if (!inserted) return elsewhere;
  // A scalar is the same at every element.
  std::vector<std::pair<int64_t, Where>> open{{last.id(), IsScalar(last) ? Where::kAnywhere : Where::kElement}};
  std::set<std::pair<int64_t, Where>> seen(open.begin(), open.end());
  while (!open.empty()) {
    const auto [handle, where] = open.back();
    open.pop_back();
    const Key key = KeyOf(handle);
    if (arrays_.count(key) > 0) {
      if (where == Where::kAnywhere) elsewhere.insert(key);
      continue;
    }
    const HloInstructionProto& instruction = Instruction(handle);
    const bool reduces = Is(instruction, HloOpcode::kReduce) && IsScalar(instruction);
    const Where next = reduces ? Where::kReduced : IsElementwise(instruction) ? where : Where::kAnywhere;
    for (int64_t id : instruction.operand_ids()) {
      if (seen.emplace(id, next).second) open.emplace_back(id, next);
    }
  }
  return elsewhere;
}

}  // namespace fusemin::hlo
