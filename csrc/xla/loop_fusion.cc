#include "xla/loop_fusion.h"

#include "absl/strings/str_cat.h"

namespace fusemin::hlo {

absl::Status FuseIntoOneLoop(xla::XlaBuilder* builder, const std::vector<Value*>& results) {
  const std::unique_ptr<xla::XlaBuilder> inside = builder->CreateSubBuilder("step");
  std::vector<xla::XlaOp> operands, parameters;
  for (const Value* result : results) {
    TF_ASSIGN_OR_RETURN(const xla::Shape shape, builder->GetShape(result->op));
    const int64_t at = static_cast<int64_t>(operands.size());
    operands.push_back(result->op);
    parameters.push_back(xla::Parameter(inside.get(), at, shape, absl::StrCat("p", at)));
  }
  TF_ASSIGN_OR_RETURN(const xla::XlaComputationId computation,
                      inside->BuildSubComputation(xla::Tuple(inside.get(), parameters)));
  const xla::XlaOp fusion = xla::internal::XlaBuilderFriend::BuildFusion(builder, operands, "kLoop", computation);
  for (size_t i = 0; i < results.size(); ++i) {
    results[i]->op = xla::GetTupleElement(fusion, static_cast<int64_t>(i));
  }
  return absl::OkStatus();
}

}  // namespace fusemin::hlo
