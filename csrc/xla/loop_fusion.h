// Several arrays made in one loop over elements.
#ifndef FUSEMIN_XLA_LOOP_FUSION_H_
#define FUSEMIN_XLA_LOOP_FUSION_H_

#include <vector>

#include "xla/value.h"

namespace fusemin::hlo {

// XLA on a CPU fuses what leads to one result, and goes over memory once for each: three times for Adam. Here the
// results are operands of a fusion that hands them on, and into which XLA then fuses all that leads to them: new
// parameters, slots, and gradients too. Each of `results`, arrays of one shape, is replaced by what the fusion gives.
absl::Status FuseIntoOneLoop(xla::XlaBuilder* builder, const std::vector<Value*>& results);

}  // namespace fusemin::hlo

#endif  // FUSEMIN_XLA_LOOP_FUSION_H_
