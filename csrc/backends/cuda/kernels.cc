#include "backends/cuda/kernels.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "backends/cuda/parameters.h"

namespace fusemin::cuda {
namespace {

// The driver that decompresses the images, as cuDriverGetVersion says it.
constexpr int kOldestDriver = FUSEMIN_CUDA_OLDEST_DRIVER;
// Options of the driver's compiler of PTX.
constexpr int kErrorLogBuffer = 5, kErrorLogBufferBytes = 6;
// Attributes of a device.
constexpr int kMultiprocessorCount = 16;

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

std::string CountResidentBlocks(const DriverTable& driver, Kernel* kernel) {
  int of_each = 0, multiprocessors = 0;
  Device device;
  Result result =
      driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel->function, kThreads, /*shared_bytes=*/0);
  if (result != 0) return DescribeError(driver, result, "asking how many blocks of " + kernel->name + " run at once");
  result = driver.cuCtxGetDevice(&device);
  if (result == 0) result = driver.cuDeviceGetAttribute(&multiprocessors, kMultiprocessorCount, device);
  if (result != 0) return DescribeError(driver, result, "asking for the number of multiprocessors");
  kernel->resident_blocks = static_cast<unsigned>(std::max(of_each * multiprocessors, 1));
  return "";
}

// Modules live as long as their context.
struct Loaded {
  std::mutex mutex;
  std::map<std::pair<Context, const Unit*>, Module> modules;
  std::map<std::pair<Context, std::string>, Kernel> kernels;
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
  loaded.kernels.clear();
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
                       Kernel* kernel) {
  const Unit* unit = nullptr;
  std::string name;
  for (const Unit& candidate : Units()) {
    if (rule == nullptr && candidate.num_rules == 0) {
      unit = &candidate;
      name = variant;
    } else if (rule >= candidate.rules && rule < candidate.rules + candidate.num_rules) {
      unit = &candidate;
      name = std::string(unit->name) + "_" + std::to_string(rule - unit->rules) + "_" + variant;
    }
  }
  Loaded& loaded = AllLoaded();
  const std::lock_guard<std::mutex> lock(loaded.mutex);
  const auto key = std::make_pair(context, name);
  const auto found = loaded.kernels.find(key);
  if (found != loaded.kernels.end()) {
    *kernel = found->second;
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
  kernel->name = name;
  const Result result = driver.cuModuleGetFunction(&kernel->function, module->second, name.c_str());
  if (result != 0) return DescribeError(driver, result, "cuModuleGetFunction of " + name);
  const std::string error = CountResidentBlocks(driver, kernel);
  if (error.empty()) loaded.kernels.emplace(key, *kernel);
  return error;
}

}  // namespace fusemin::cuda
