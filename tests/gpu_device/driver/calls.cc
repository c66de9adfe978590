#include "calls.h"

#include <map>
#include <mutex>
#include <string>

namespace {

struct Entry {
  long calls = 0;
  size_t bytes = 0;
};

// Never destroyed: TensorFlow calls the driver while the process ends.
struct State {
  std::mutex mutex;
  std::map<std::string, Entry> entries;
  std::map<std::string, int> failures;
  std::string text;
};

State& TheState() {
  static State& state = *new State();
  return state;
}

std::string WithoutVersion(const std::string& name) {
  const size_t n = name.size();
  const bool versioned = n > 3 && name.compare(n - 3, 2, "_v") == 0 && name[n - 1] >= '2' && name[n - 1] <= '9';
  return versioned ? name.substr(0, n - 3) : name;
}

}  // namespace

int stand_in_count(const char* name, size_t bytes) {
  const std::string plain = WithoutVersion(name);
  State& state = TheState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  Entry& entry = state.entries[plain];
  ++entry.calls;
  entry.bytes += bytes;
  const auto failure = state.failures.find(plain);
  return failure == state.failures.end() ? 0 : failure->second;
}

void stand_in_fail(const char* name, int error) {
  State& state = TheState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  if (error == 0) {
    state.failures.erase(name);
  } else {
    state.failures[name] = error;
  }
}

const char* stand_in_counts() {
  State& state = TheState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.text.clear();
  for (const auto& [name, entry] : state.entries) {
    state.text += std::to_string(entry.calls) + " " + std::to_string(entry.bytes) + " " + name + "\n";
  }
  return state.text.c_str();
}

void stand_in_reset() {
  State& state = TheState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.entries.clear();
}
