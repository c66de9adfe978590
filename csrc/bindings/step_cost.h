// What a step costs, in the module `_core`, and the words for dtypes and options that it shares with the CUDA kernels'.
#ifndef FUSEMIN_BINDINGS_STEP_COST_H_
#define FUSEMIN_BINDINGS_STEP_COST_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "options/user_options.h"
#include "step/step.h"

namespace fusemin {

// Both raise a ValueError of a name that there is not.
DType DTypeByName(const std::string& name);
UserOptions OptionsByName(const std::map<std::string, double>& given);

// Tensors of these sizes with all that the options ask for, aligned. Their memory is not there.
std::vector<Segment> ExampleSegments(const Rule& rule, const std::vector<int64_t>& sizes, const UserOptions& options,
                                     bool gradient_rows, bool param_rows);

// Adds `step_bytes`.
void BindStepCost(pybind11::module_& m);

}  // namespace fusemin

#endif  // FUSEMIN_BINDINGS_STEP_COST_H_
