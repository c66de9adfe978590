// The kernels on NumPy arrays, and what this build is. Knows nothing of TensorFlow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <optional>

#include "backends/cpu/isa.h"
#include "backends/cpu/registry.h"
#include "backends/cpu/run.h"
#include "backends/cpu/workers.h"
#include "bindings/cuda_module.h"
#include "bindings/step_cost.h"
#include "options/table.h"
#include "step/dtype_names.h"
#include "step/slices.h"

namespace py = pybind11;

namespace fusemin {
namespace {

cpu::Isa IsaByName(const std::string& name) {
  if (name.empty()) {
    std::string error;
    const cpu::Isa isa = cpu::ChosenIsa(&error);
    if (!error.empty()) throw py::value_error(error);
    return isa;
  }
  for (cpu::Isa isa : cpu::SupportedIsas()) {
    if (name == cpu::IsaName(isa)) return isa;
  }
  throw py::value_error("isa must be one of isas(), it is '" + name + "'");
}

DType DTypeOf(const py::array& array, const std::string& what) {
  const std::string name = py::str(array.dtype().attr("name"));
  if (!array.dtype().attr("isnative").cast<bool>()) throw py::type_error(what + " must be in native byte order");
  if (const std::optional<DType> found = FindDType(name)) return *found;
  throw py::type_error(what + " must be of float32, float64, float16 or bfloat16, not " + name);
}

// The arrays of one call, checked one by one, and against each other at the end.
class CheckedArrays {
 public:
  explicit CheckedArrays(DType dtype) : dtype_(dtype) {}

  // A contiguous array of `size` numbers of the dtype. Returns its memory.
  void* Add(const py::array& array, int64_t size, bool writable, const std::string& what) {
    if (DTypeOf(array, what) != dtype_) throw py::type_error(what + " must have the dtype of params[0]");
    if (array.size() != size) {
      throw py::value_error(what + " must have " + std::to_string(size) + " elements, it has " +
                            std::to_string(array.size()));
    }
    if ((array.flags() & py::array::c_style) == 0) throw py::value_error(what + " must be C-contiguous");
    if (reinterpret_cast<uintptr_t>(array.data()) % (array.itemsize() > 0 ? array.itemsize() : 1) != 0) {
      throw py::value_error(what + " must be aligned");
    }
    if (writable && !array.writeable()) throw py::value_error(what + " must be writable");
    const auto begin = static_cast<const char*>(array.data());
    if (size > 0) ranges_.push_back({begin, begin + array.nbytes(), writable, what});
    return const_cast<void*>(array.data());
  }

  // What is written may not be anything else too: the result would depend on the order of the threads.
  void RequireDisjoint() {
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    const Range* last = nullptr;          // The one that ends last.
    const Range* last_written = nullptr;  // The same of those that are written.
    for (const Range& range : ranges_) {
      const Range* clash = range.writable ? last : last_written;
      if (clash != nullptr && range.begin < clash->end) {
        throw py::value_error(range.what + " and " + clash->what + " must not overlap");
      }
      if (last == nullptr || range.end > last->end) last = &range;
      if (range.writable && (last_written == nullptr || range.end > last_written->end)) last_written = &range;
    }
  }

 private:
  struct Range {
    const char *begin, *end;
    bool writable;
    std::string what;
  };

  DType dtype_;
  std::vector<Range> ranges_;
};

using Arrays = std::vector<py::array>;

SparseRows SparseRowsFrom(const std::string& name) {
  if (name == "every") return SparseRows::kEvery;
  if (name == "slots_of_every") return SparseRows::kSlotsOfEvery;
  if (name == "touched") return SparseRows::kTouched;
  throw py::value_error("sparse_rows must be 'every', 'slots_of_every' or 'touched', it is '" + name + "'");
}

// The slices of a parameter, [k, ...], sorted by their rows, [k].
Slices SlicesFrom(const py::array& param, const py::array& indices, const std::string& what) {
  if (param.ndim() == 0) throw py::value_error(what + " is of a scalar, which has no rows");
  if (indices.ndim() != 1 || (indices.flags() & py::array::c_style) == 0 ||
      !indices.dtype().attr("isnative").cast<bool>()) {
    throw py::value_error(what + " must be a contiguous vector in native byte order");
  }
  Slices slices;
  slices.num_slices = indices.size();
  slices.row_size = 1;
  for (int d = 1; d < param.ndim(); ++d) slices.row_size *= param.shape(d);
  const std::string type = py::str(indices.dtype().attr("name"));
  if (type != "int32" && type != "int64") throw py::type_error(what + " must be of int32 or int64, not " + type);
  const int64_t wrong = type == "int32"
                            ? SortSlices(static_cast<const int32_t*>(indices.data()), param.shape(0), &slices)
                            : SortSlices(static_cast<const int64_t*>(indices.data()), param.shape(0), &slices);
  if (wrong >= 0) {
    throw py::value_error(what + " must be rows of the parameter, position " + std::to_string(wrong) + " is not");
  }
  return slices;
}

py::list Step(const std::string& rule_name, const Arrays& params, const Arrays& gradients,
              const std::vector<Arrays>& slots, const std::vector<double>& hyperparameters, int64_t step,
              std::vector<double> scalars, double loss_scale, const std::string& isa_name, int num_threads,
              const Arrays& gradient_rows, const Arrays& param_rows, const Arrays& averages, const Arrays& accumulators,
              const std::vector<bool>& decays, const std::map<std::string, double>& given_options,
              const std::vector<std::optional<py::array>>& indices, const std::string& sparse_rows,
              bool separate_duplicates) {
  const cpu::Isa isa = IsaByName(isa_name);
  const Rule* rule = cpu::FindRule(isa, rule_name);
  if (rule == nullptr) throw py::value_error("rule must be one of rules(), it is '" + rule_name + "'");
  if (params.empty()) throw py::value_error("params must not be empty");
  if (gradients.size() != params.size()) throw py::value_error("gradients must be as many as params");
  const auto expect = [&](size_t got, int wanted, const char* what) {
    if (got != static_cast<size_t>(wanted)) {
      throw py::value_error(std::string(what) + " must be " + std::to_string(wanted) + " for rule '" + rule_name +
                            "', there are " + std::to_string(got));
    }
  };
  expect(slots.size(), rule->num_slots, "slots");
  expect(hyperparameters.size(), rule->num_hyperparameters, "hyperparameters");
  expect(scalars.size(), rule->num_scalars, "scalars");
  const auto fits = [&](size_t size) { return size == 0 || size == params.size(); };
  if (!fits(gradient_rows.size()) || !fits(param_rows.size()) || !fits(averages.size()) || !fits(accumulators.size()) ||
      !fits(decays.size()) || !fits(indices.size())) {
    throw py::value_error(
        "gradient_rows, param_rows, averages, accumulators, decays and indices must be empty or as many as params");
  }
  const SparseOptions sparse{SparseRowsFrom(sparse_rows), separate_duplicates};
  const UserOptions options = OptionsByName(given_options);
  const auto require = [](const std::string& error) {
    if (!error.empty()) throw py::value_error(error);
  };
  require(CheckTensors(options, OptionTensors::kAverages, "averages", !averages.empty()));
  require(CheckTensors(options, OptionTensors::kAccumulators, "accumulators", !accumulators.empty()));
  if (std::any_of(indices.begin(), indices.end(), [](const auto& rows) { return rows.has_value(); })) {
    require(CheckTakesSparse(options));
  }

  const DType dtype = DTypeOf(params[0], "params[0]");
  CheckedArrays checked(dtype);
  std::vector<Segment> segments(params.size());
  std::vector<Slices> slices(params.size());
  for (size_t i = 0; i < params.size(); ++i) {
    const std::string at = "[" + std::to_string(i) + "]";
    const int64_t size = params[i].size();
    Segment& segment = segments[i];
    segment.size = size;
    segment.param_in = segment.param_out = checked.Add(params[i], size, true, "params" + at);
    int64_t gradient_size = size;
    if (!indices.empty() && indices[i].has_value()) {
      slices[i] = SlicesFrom(params[i], *indices[i], "indices" + at);
      segment.slices = &slices[i];
      gradient_size = slices[i].num_slices * slices[i].row_size;
    }
    segment.gradient = slices[i].values = checked.Add(gradients[i], gradient_size, false, "gradients" + at);
    for (int k = 0; k < rule->num_slots; ++k) {
      if (slots[k].size() != params.size()) throw py::value_error("each of slots must be as many as params");
      segment.slot_in[k] = segment.slot_out[k] =
          checked.Add(slots[k][i], size, true, "slots[" + std::to_string(k) + "]" + at);
    }
    if (!gradient_rows.empty()) {
      segment.gradient_row = checked.Add(gradient_rows[i], size, true, "gradient_rows" + at);
    }
    const auto updated = [&](const Arrays& arrays, const char* what, const void** in, void** out) {
      if (!arrays.empty()) *in = *out = checked.Add(arrays[i], size, true, what + at);
    };
    updated(averages, "averages", &segment.average_in, &segment.average_out);
    updated(accumulators, "accumulators", &segment.accumulator_in, &segment.accumulator_out);
    segment.decays = decays.empty() || decays[i];
    if (!param_rows.empty()) segment.param_row = checked.Add(param_rows[i], size, true, "param_rows" + at);
  }
  checked.RequireDisjoint();
  if (step < 1) throw py::value_error("step counts from 1, it is " + std::to_string(step));

  const std::vector<double> old_scalars = scalars;
  const double option_scalars[kNumOptionScalars] = {loss_scale};
  cpu::Step prepared =
      cpu::PrepareStep(*rule, dtype, isa, options, hyperparameters.data(), step - 1, option_scalars, scalars.data());
  prepared.sparse = sparse;
  bool taken = false;
  {
    py::gil_scoped_release release;
    taken = cpu::RunStep(prepared, segments.data(), static_cast<int>(segments.size()), num_threads, cpu::RunOnWorkers,
                         scalars.data());
  }
  return py::cast(taken && prepared.applies ? scalars : old_scalars);
}

py::dict Options() {
  constexpr const char* kKinds[] = {"real", "flag", "count_of_steps"};
  constexpr const char* kTensors[] = {nullptr, "decays", "averages", "accumulators", "loss_scale"};
  constexpr const char* kSums[] = {nullptr, "each_tensor", "all_tensors", "each_move"};
  const auto text_or_none = [](const char* text) -> py::object {
    if (text == nullptr) return py::none();
    return py::str(text);
  };
  py::dict all;
  for (const OptionEntry& option : OptionTable()) {
    py::dict entry;
    entry["default"] = option.off;
    entry["kind"] = kKinds[static_cast<int>(option.kind)];
    entry["tensors"] = text_or_none(kTensors[static_cast<int>(option.tensors)]);
    entry["sums"] = text_or_none(kSums[static_cast<int>(option.sums)]);
    entry["dense_only"] = text_or_none(option.dense_only);
    entry["doc"] = option.doc;
    all[option.name] = entry;
  }
  return all;
}

py::dict Rules() {
  const auto names = [](const char* const* text, int n) {
    py::tuple names(n);
    for (int i = 0; i < n; ++i) names[i] = text[i];
    return names;
  };
  py::dict all;
  for (const Rule* rule : cpu::AllRules(cpu::Isa::kBaseline)) {
    py::dict entry;
    entry["hyperparameters"] = names(rule->hyperparameters, rule->num_hyperparameters);
    entry["slots"] = names(rule->slots, rule->num_slots);
    entry["scalars"] = names(rule->scalars, rule->num_scalars);
    entry["step_sums"] = names(rule->step_sums, rule->num_step_sums);
    all[rule->name] = entry;
  }
  return all;
}

std::vector<std::string> Isas() {
  std::vector<std::string> names;
  for (cpu::Isa isa : cpu::SupportedIsas()) names.emplace_back(cpu::IsaName(isa));
  return names;
}

}  // namespace
}  // namespace fusemin

PYBIND11_MODULE(_core, m) {
  using namespace fusemin;
  m.doc() = "The CPU kernels of fusemin on NumPy arrays, and facts about this build.";
  m.def("step", &Step, py::arg("rule"), py::arg("params"), py::arg("gradients"), py::kw_only(),
        py::arg("slots") = std::vector<Arrays>(), py::arg("hyperparameters"), py::arg("step") = 1,
        py::arg("scalars") = std::vector<double>(), py::arg("loss_scale") = 1.0, py::arg("isa") = "",
        py::arg("num_threads") = 1, py::arg("gradient_rows") = Arrays(), py::arg("param_rows") = Arrays(),
        py::arg("averages") = Arrays(), py::arg("accumulators") = Arrays(), py::arg("decays") = std::vector<bool>(),
        py::arg("options") = std::map<std::string, double>(),
        py::arg("indices") = std::vector<std::optional<py::array>>(), py::arg("sparse_rows") = "every",
        py::arg("separate_duplicates") = false,
        R"(Updates `params` and `slots` in place by one step of a rule, and returns the next `scalars`.

Args:
  rule: a key of `rules()`.
  params, gradients: lists of C-contiguous arrays of one dtype (float32, float64, float16, ml_dtypes.bfloat16).
  slots: for each slot of the rule, a list of arrays like `params`.
  hyperparameters: floats, in the order of `rules()[rule]["hyperparameters"]`.
  step: which call of the optimizer this is, counted from 1.
  scalars: floats, in the order of `rules()[rule]["scalars"]`.
  loss_scale: what the loss was multiplied with; counts with an option of the tensors "loss_scale" only.
  isa: one of `isas()`; by default the one in use.
  num_threads: at most so many threads.
  gradient_rows, param_rows: arrays like `params` that receive copies of the gradients and of the new parameters.
  averages: arrays like `params`, their moving averages; updated in place.
  accumulators: arrays like `params`, sums of gradients; updated in place.
  decays: for each parameter whether weight decay applies; by default to all.
  options: numbers, by the names in `options()`.
  indices: for each parameter None, or the rows, int32 or int64, that the slices of its gradient are of; the gradient is
    then an array [k, ...] of slices.
  sparse_rows, separate_duplicates: what becomes of these gradients, see SparseOptions in csrc/step/step.h.

Raises:
  TypeError: an array of another dtype.
  ValueError: an unknown name, a wrong number of arguments, a wrong size, an array that is not contiguous, aligned or writable, or that
    overlaps one that is written.)");
  BindStepCost(m);
#ifdef FUSEMIN_CUDA_ARCHITECTURES
  BindCuda(m);
#endif
  m.def("rules", &Rules, "The rules, each with the names of its hyperparameters, slots and scalars, in order.");
  m.def("options", &Options, R"(What users may ask of every optimizer beside its rule, by name, in the order of a step.

Each has its `default`, with which it is off; its `kind`, "real", "flag" or "count_of_steps"; the `tensors` of the op that
must be there with it, or None; whether it needs `sums` over "each_tensor" or "all_tensors" of the gradients first, over
"each_move" that the rule would make, or None; `dense_only`, why it takes no sparse gradients, or None; and a line of
documentation, `doc`.)");
  m.def("isas", &Isas, "The instruction sets that this build has and this machine can run, narrowest first.");
  m.def(
      "isa", [] { return std::string(cpu::IsaName(IsaByName(""))); },
      "The instruction set in use: the widest, or what the environment variable FUSEMIN_ISA said at first use.");
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = FUSEMIN_VERSION;
        info["compiler"] = __VERSION__;
#ifdef FUSEMIN_CUDA_ARCHITECTURES
        info["cuda_architectures"] = FUSEMIN_CUDA_ARCHITECTURES;
#else
        info["cuda_architectures"] = py::none();
#endif
        return info;
      },
      R"(What this build was made of: versions of fusemin and the compiler, and the architectures that the CUDA
kernels are compiled for beside PTX ("80 90"), or None if it has no CUDA kernels.)");
}
