// The CUDA kernels on device addresses, for tests and benchmarks without TensorFlow, and facts about them.
#include "bindings/cuda_module.h"

#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <optional>

#include "backends/cuda/run.h"
#include "bindings/step_cost.h"
#include "step/dtype_names.h"

namespace py = pybind11;

namespace fusemin {
namespace {

using Addresses = std::vector<uint64_t>;
// The type and the address of a scalar, and where its next value goes, or 0.
using PlacedScalar = std::tuple<std::string, uint64_t, uint64_t>;
// A number, or the type and the address of one in device memory.
using Hyperparameter = std::variant<double, std::pair<std::string, uint64_t>>;

cuda::ScalarType ScalarTypeByName(const std::string& name) {
  if (name == "int32") return cuda::ScalarType::kInt32;
  if (name == "int64") return cuda::ScalarType::kInt64;
  if (const std::optional<DType> dtype = FindDType(name)) return cuda::ScalarTypeOf(*dtype);
  throw py::value_error("there are no scalars of type '" + name + "'");
}

void Check(const std::string& error) {
  if (!error.empty()) throw std::runtime_error(error);
}

cuda::Stream StreamAt(uint64_t address) { return reinterpret_cast<cuda::Stream>(address); }

void* Memory(uint64_t address) { return reinterpret_cast<void*>(address); }

cuda::Plan MakePlan(const std::string& rule_name, const std::string& dtype, const std::vector<int64_t>& sizes,
                    const Addresses& gradients, const Addresses& params, const Addresses& params_out,
                    const std::vector<Addresses>& slots, const std::vector<Addresses>& slots_out,
                    const Addresses& averages, const Addresses& averages_out, const Addresses& accumulators,
                    const Addresses& accumulators_out, const Addresses& gradient_rows, const Addresses& param_rows,
                    const std::vector<bool>& decays, const std::vector<Hyperparameter>& hyperparameters,
                    const std::vector<PlacedScalar>& scalars, const std::optional<PlacedScalar>& iterations,
                    const std::optional<PlacedScalar>& loss_scale, const std::optional<PlacedScalar>& loss_counter,
                    const std::map<std::string, double>& options,
                    const std::vector<std::tuple<uint64_t, uint64_t, uint64_t>>& copies) {
  const Rule* rule = cuda::FindRule(rule_name);
  if (rule == nullptr) throw py::value_error("rule must be one of rules(), it is '" + rule_name + "'");
  const auto expect = [&](size_t got, size_t wanted, const char* what) {
    if (got != wanted) {
      throw py::value_error(std::string(what) + " must be " + std::to_string(wanted) + ", there are " +
                            std::to_string(got));
    }
  };
  expect(slots.size(), rule->num_slots, "slots");
  expect(hyperparameters.size(), rule->num_hyperparameters, "hyperparameters");
  expect(scalars.size(), rule->num_scalars, "scalars");

  cuda::Step step{};
  step.rule = rule;
  step.dtype = DTypeByName(dtype);
  step.options = OptionsByName(options);
  for (size_t k = 0; k < hyperparameters.size(); ++k) {
    if (const double* number = std::get_if<double>(&hyperparameters[k])) {
      step.hyperparameter_types[k] = cuda::ScalarType::kNumber;
      std::memcpy(&step.hyperparameters[k], number, sizeof *number);
    } else {
      const auto& [type, address] = std::get<1>(hyperparameters[k]);
      step.hyperparameter_types[k] = ScalarTypeByName(type);
      step.hyperparameters[k] = address;
    }
  }
  const auto set_scalar = [&](int k, const PlacedScalar& scalar) {
    step.scalar_types[k] = ScalarTypeByName(std::get<0>(scalar));
    step.scalars[k] = {std::get<1>(scalar), std::get<2>(scalar)};
  };
  for (size_t k = 0; k < scalars.size(); ++k) set_scalar(kRuleScalar + static_cast<int>(k), scalars[k]);
  if (iterations) set_scalar(kIterations, *iterations);
  if (loss_scale) set_scalar(kOptionScalar, *loss_scale);
  if (loss_counter) set_scalar(kOptionScalar + 1, *loss_counter);

  const auto at = [&](const Addresses& addresses, size_t i, const char* what) -> void* {
    if (addresses.empty()) return nullptr;
    expect(addresses.size(), sizes.size(), what);
    return Memory(addresses[i]);
  };
  std::vector<Segment> segments(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    Segment& s = segments[i];
    s.size = sizes[i];
    s.decays = decays.empty() || decays[i];
    s.gradient = at(gradients, i, "gradients");
    s.gradient_row = at(gradient_rows, i, "gradient_rows");
    s.param_row = at(param_rows, i, "param_rows");
    const auto pair = [&](const Addresses& in, const Addresses& out, const void** from, void** to, const char* what) {
      *from = at(in, i, what);
      *to = out.empty() ? at(in, i, what) : at(out, i, what);
    };
    pair(params, params_out, &s.param_in, &s.param_out, "params");
    for (size_t k = 0; k < slots.size(); ++k) {
      pair(slots[k], slots_out.empty() ? Addresses() : slots_out[k], &s.slot_in[k], &s.slot_out[k], "slots");
    }
    pair(averages, averages_out, &s.average_in, &s.average_out, "averages");
    pair(accumulators, accumulators_out, &s.accumulator_in, &s.accumulator_out, "accumulators");
  }
  std::vector<cuda::RowCopies> rows;
  for (const auto& [to, from, bytes] : copies) rows.push_back({Memory(to), Memory(from), bytes, 1});
  return cuda::Plan(step, segments.data(), static_cast<int>(segments.size()), rows);
}

int NumLaunches(const std::string& rule_name, const std::string& dtype, const std::vector<int64_t>& sizes,
                const std::map<std::string, double>& options, bool gradient_rows, bool param_rows) {
  cuda::Step step{};
  step.rule = cuda::FindRule(rule_name);
  if (step.rule == nullptr) throw py::value_error("rule must be one of rules(), it is '" + rule_name + "'");
  step.dtype = DTypeByName(dtype);
  step.options = OptionsByName(options);
  step.scalars[kIterations] = {16, 16};
  const std::vector<Segment> segments = ExampleSegments(*step.rule, sizes, step.options, gradient_rows, param_rows);
  return cuda::Plan(step, segments.data(), static_cast<int>(segments.size()), {}).num_launches();
}

}  // namespace

void BindCuda(py::module_& parent) {
  py::module_ m = parent.def_submodule(
      "cuda", R"(The CUDA kernels on addresses of device memory, and what of them is embedded in this build.

Needs a driver only where something is enqueued.)");
  py::class_<cuda::Plan>(m, "Plan", "The launches of a step. Made of addresses; no memory is read before `enqueue`.")
      .def_property_readonly("num_launches", &cuda::Plan::num_launches)
      .def_property_readonly("num_bytes", &cuda::Plan::num_bytes, "What the launches read and write of tensors.")
      .def_property_readonly("scratch_bytes", &cuda::Plan::scratch_bytes, "Device memory that `enqueue` needs.")
      .def(
          "enqueue",
          [](cuda::Plan& plan, uint64_t stream, uint64_t scratch, uint64_t tickets) {
            Check(plan.Enqueue(StreamAt(stream), scratch, tickets));
          },
          py::arg("stream"), py::arg("scratch"), py::arg("tickets"), R"(Enqueues the step.

Args:
  stream: a CUstream; 0 is the current context's default stream.
  scratch: address of `scratch_bytes` bytes.
  tickets: address of TICKETS_BYTES bytes, 0 before the first step.

Raises:
  RuntimeError: there is no driver, or it failed.)");
  m.def("plan", &MakePlan, py::arg("rule"), py::arg("dtype"), py::arg("sizes"), py::kw_only(), py::arg("gradients"),
        py::arg("params"), py::arg("params_out") = Addresses(), py::arg("slots") = std::vector<Addresses>(),
        py::arg("slots_out") = std::vector<Addresses>(), py::arg("averages") = Addresses(),
        py::arg("averages_out") = Addresses(), py::arg("accumulators") = Addresses(),
        py::arg("accumulators_out") = Addresses(), py::arg("gradient_rows") = Addresses(),
        py::arg("param_rows") = Addresses(), py::arg("decays") = std::vector<bool>(), py::arg("hyperparameters"),
        py::arg("scalars") = std::vector<PlacedScalar>(), py::arg("iterations") = std::nullopt,
        py::arg("loss_scale") = std::nullopt, py::arg("loss_counter") = std::nullopt,
        py::arg("options") = std::map<std::string, double>(),
        py::arg("copies") = std::vector<std::tuple<uint64_t, uint64_t, uint64_t>>(),
        R"(The launches of a step over many tensors.

Args:
  rule: a key of `_core.rules()`.
  dtype: float32, float64, float16 or bfloat16.
  sizes: elements of each tensor.
  gradients, params, averages, accumulators, gradient_rows, param_rows: an address for each tensor; 0 in the rows is none.
  slots: for each slot of the rule, such a list.
  params_out, slots_out, averages_out, accumulators_out: where the new values go; by default to the old ones' place.
  decays: for each tensor whether weight decay applies; by default to all.
  hyperparameters: for each of the rule's a number, or (type, address).
  scalars: for each of the rule's (type, address, address of the next value or 0).
  iterations, loss_scale, loss_counter: None, or such a tuple.
  options: numbers, by the names in `_core.options()`.
  copies: (to, from, bytes), copied after the update.

Raises:
  ValueError: there is no such rule, dtype, type or option, or a list is too short.)");
  m.def("num_launches", &NumLaunches, py::arg("rule"), py::arg("dtype"), py::arg("sizes"),
        py::arg("options") = std::map<std::string, double>(), py::arg("gradient_rows") = false,
        py::arg("param_rows") = false,
        R"(Launches of a step on tensors of these sizes, all of which are aligned: planned, not measured.

Args:
  rule, dtype, sizes, options: as of `plan`.
  gradient_rows, param_rows: whether a trace takes them all.

Raises:
  ValueError: there is no such rule, dtype or option.)");
  m.def(
      "zero_tickets", [](uint64_t stream, uint64_t tickets) { Check(cuda::ZeroTickets(StreamAt(stream), tickets)); },
      py::arg("stream"), py::arg("tickets"), "Enqueues that the tickets of `Plan.enqueue` become 0.");
  m.def(
      "enqueue_copies",
      [](uint64_t stream, const std::vector<std::tuple<uint64_t, uint64_t, uint64_t, uint64_t>>& copies) {
        std::vector<cuda::RowCopies> rows;
        for (const auto& [to, from, bytes, count] : copies) rows.push_back({Memory(to), Memory(from), bytes, count});
        Check(cuda::EnqueueCopies(StreamAt(stream), rows));
      },
      py::arg("stream"), py::arg("copies"),
      "Enqueues copies (to, from, bytes, count): `count` times the `bytes` at `from`, one after the other.");
  m.def(
      "images",
      [] {
        py::dict units;
        for (const cuda::Unit& unit : cuda::Units()) {
          units[unit.name] = py::bytes(reinterpret_cast<const char*>(unit.image), unit.image_end - unit.image);
        }
        return units;
      },
      "What is embedded: for each unit a fat binary.");
  m.def(
      "kernels",
      [] {
        py::dict rules;
        for (const cuda::Unit& unit : cuda::Units()) {
          for (int i = 0; i < unit.num_rules; ++i) {
            rules[unit.rules[i].name] = py::make_tuple(unit.name, std::string(unit.name) + "_" + std::to_string(i));
          }
        }
        return rules;
      },
      "For each rule its unit, and how the names of its kernels begin; '_float32_plain' and so on follow.");
  m.attr("TICKETS_BYTES") = cuda::kNumTickets * sizeof(uint32_t);
  m.attr("MIN_CHUNK") = cuda::kMinChunk;
  m.attr("MAX_CHUNK") = cuda::kMaxChunk;
  m.attr("TARGET_CHUNKS") = cuda::kTargetChunks;
  m.def("capacity", &cuda::Capacity, py::arg("num_pointers"),
        "How many tensors one launch takes, by the number of pointers of each.");
}

}  // namespace fusemin
