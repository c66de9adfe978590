#include "kernels/cuda/kernels.h"

#include <map>
#include <mutex>
#include <utility>

namespace fusemin::cuda {
namespace {

constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;
// Options of the driver's compiler of PTX.
constexpr int kErrorLogBuffer = 5, kErrorLogBufferBytes = 6;

// The machine code that runs on a device: of its architecture, or of an older one of the same major version. Else the
// PTX.
const Image& Choose(const Unit& unit, int major, int minor) {
  const Image* best = nullptr;
  const Image* ptx = nullptr;
  for (int i = 0; i < unit.num_images; ++i) {
    const Image& image = unit.images[i];
    if (image.architecture == 0) ptx = &image;
    const bool runs = image.architecture / 10 == major && image.architecture % 10 <= minor;
    if (runs && (best == nullptr || image.architecture > best->architecture)) best = &image;
  }
  return best != nullptr ? *best : *ptx;
}

std::string Load(const DriverTable& driver, const Unit& unit, Module* module) {
  Device device;
  int major = 0, minor = 0;
  Result result = driver.cuCtxGetDevice(&device);
  if (result == 0) result = driver.cuDeviceGetAttribute(&major, kComputeCapabilityMajor, device);
  if (result == 0) result = driver.cuDeviceGetAttribute(&minor, kComputeCapabilityMinor, device);
  if (result != 0) return DescribeError(driver, result, "asking for the device's compute capability");
  const Image& image = Choose(unit, major, minor);
  char log[4096] = "";
  int options[] = {kErrorLogBuffer, kErrorLogBufferBytes};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  result = driver.cuModuleLoadDataEx(module, image.bytes, 2, options, values);
  if (result == 0) return "";
  const std::string what = std::string("loading the kernels '") + unit.name + "' (" +
                           (image.architecture == 0 ? "PTX" : "cubin sm_" + std::to_string(image.architecture)) + ")";
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
