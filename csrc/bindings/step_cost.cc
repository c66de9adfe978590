#include "bindings/step_cost.h"

#include <pybind11/stl.h>

#include "backends/cpu/registry.h"
#include "step/dtype_names.h"
#include "step/step_cost.h"

namespace py = pybind11;

namespace fusemin {

DType DTypeByName(const std::string& name) {
  if (const std::optional<DType> found = FindDType(name)) return *found;
  throw py::value_error("dtype must be float32, float64, float16 or bfloat16, it is '" + name + "'");
}

UserOptions OptionsByName(const std::map<std::string, double>& given) {
  UserOptions options;
  for (const auto& [name, value] : given) {
    const std::string error = SetOption(name, value, &options);
    if (!error.empty()) throw py::value_error(error);
  }
  return options;
}

std::vector<Segment> ExampleSegments(const Rule& rule, const std::vector<int64_t>& sizes, const UserOptions& options,
                                     bool gradient_rows, bool param_rows) {
  std::vector<Segment> segments(sizes.size());
  void* const some = reinterpret_cast<void*>(16);
  for (size_t i = 0; i < sizes.size(); ++i) {
    Segment& s = segments[i];
    s.size = sizes[i];
    s.decays = true;
    s.gradient = s.param_in = s.param_out = some;
    for (int k = 0; k < rule.num_slots; ++k) s.slot_in[k] = s.slot_out[k] = some;
    if (options.Any<HasAfterRule>()) s.average_in = s.average_out = some;
    if (options.Any<HasCollect>()) s.accumulator_in = s.accumulator_out = some;
    if (gradient_rows) s.gradient_row = some;
    if (param_rows) s.param_row = some;
  }
  return segments;
}

namespace {

uint64_t StepBytes(const std::string& rule_name, const std::string& dtype, const std::vector<int64_t>& sizes,
                   const std::map<std::string, double>& given, bool gradient_rows, bool param_rows) {
  const Rule* rule = cpu::FindRule(cpu::Isa::kBaseline, rule_name);
  if (rule == nullptr) throw py::value_error("rule must be one of rules(), it is '" + rule_name + "'");
  const uint64_t element = kDTypeSize[static_cast<int>(DTypeByName(dtype))];
  const UserOptions options = OptionsByName(given);
  uint64_t n = 0;
  for (const Segment& segment : ExampleSegments(*rule, sizes, options, gradient_rows, param_rows)) {
    n += ElementsMoved(*rule, options, segment) * element;
  }
  return n;
}

}  // namespace

void BindStepCost(py::module_& m) {
  m.def("step_bytes", &StepBytes, py::arg("rule"), py::arg("dtype"), py::arg("sizes"),
        py::arg("options") = std::map<std::string, double>(), py::arg("gradient_rows") = false,
        py::arg("param_rows") = false,
        R"(Bytes of tensors that a step reads and writes: counted, not measured.

Args:
  rule: a key of `rules()`.
  dtype: float32, float64, float16 or bfloat16.
  sizes: elements of each tensor.
  options: numbers, by the names in `options()`.
  gradient_rows, param_rows: whether a trace takes them all.

Raises:
  ValueError: there is no such rule, dtype or option.)");
}

}  // namespace fusemin
