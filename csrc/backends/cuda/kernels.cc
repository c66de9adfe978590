#include "backends/cuda/kernels.h"

#include <map>
#include <mutex>
#include <utility>

namespace fusemin::cuda {
namespace {

// The driver that decompresses the images, as cuDriverGetVersion says it.
constexpr int kOldestDriver = FUSEMIN_CUDA_OLDEST_DRIVER;
// Options of the driver's compiler of PTX.
constexpr int kErrorLogBuffer = 5, kErrorLogBufferBytes = 6;

std::string Load(const DriverTable& driver, const Unit& unit, Module* module) {
  const std::string what = std::string("loading the kernels '") + unit.name + "'";
  int version = 0;
  Result result = driver.cuDriverGetVersion(&version);
  if (result != 0) return DescribeError(driver, result, what);
  if (version < kOldestDriver) {
    return what + " needs an NVIDIA driver for CUDA " + VersionText(kOldestDriver) +
           " or later, this one is for CUDA " + VersionText(version) +
           ": update it, or build fusemin with FUSEMIN_CUDA_COMPRESSION=speed";
  }
  char log[4096] = "";
  int options[] = {kErrorLogBuffer, kErrorLogBufferBytes};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  result = driver.cuModuleLoadDataEx(module, unit.image, 2, options, values);
  if (result == 0) return "";
  return DescribeError(driver, result, what) + (log[0] != 0 ? std::string(": ") + log : "");
}

// Modules live as long as their context.
struct Loaded {
  std::mutex mutex;
  std::map<std::pair<Context, const Unit*>, Module> modules;
  std::map<std::pair<Context, std::string>, Function> functions;
};

Loaded& AllLoaded() {
  static Loaded& loaded = *new Loaded();
  return loaded;
}

}  // namespace

void ForgetKernels() {
  Loaded& loaded = AllLoaded();
  const std::lock_guard<std::mutex> lock(loaded.mutex);
  loaded.modules.clear();
  loaded.functions.clear();
}

const Rule* FindRule(std::string_view name) {
  for (const Unit& unit : Units()) {
    for (int i = 0; i < unit.num_rules; ++i) {
      if (name == unit.rules[i].name) return &unit.rules[i];
    }
  }
  return nullptr;
}

std::string FindKernel(const DriverTable& driver, Context context, const Rule* rule, const std::string& variant,
                       Function* function, std::string* name) {
  const Unit* unit = nullptr;
  for (const Unit& candidate : Units()) {
    if (rule == nullptr && candidate.num_rules == 0) {
      unit = &candidate;
      *name = variant;
    } else if (rule >= candidate.rules && rule < candidate.rules + candidate.num_rules) {
      unit = &candidate;
      *name = std::string(unit->name) + "_" + std::to_string(rule - unit->rules) + "_" + variant;
    }
  }
  Loaded& loaded = AllLoaded();
  const std::lock_guard<std::mutex> lock(loaded.mutex);
  const auto key = std::make_pair(context, *name);
  const auto found = loaded.functions.find(key);
  if (found != loaded.functions.end()) {
    *function = found->second;
    return "";
  }
  const auto module_key = std::make_pair(context, unit);
  auto module = loaded.modules.find(module_key);
  if (module == loaded.modules.end()) {
    Module opened;
    std::string error = Load(driver, *unit, &opened);
    if (!error.empty()) return error;
    module = loaded.modules.emplace(module_key, opened).first;
  }
  const Result result = driver.cuModuleGetFunction(function, module->second, name->c_str());
  if (result != 0) return DescribeError(driver, result, "cuModuleGetFunction of " + *name);
  loaded.functions.emplace(key, *function);
  return "";
}

}  // namespace fusemin::cuda
