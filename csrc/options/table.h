// The numbers of all options in one table, for what goes by their names. On the host only.
#ifndef FUSEMIN_OPTIONS_TABLE_H_
#define FUSEMIN_OPTIONS_TABLE_H_

#include <limits>
#include <string>
#include <vector>

#include "options/user_options.h"

namespace fusemin {

struct OptionEntry : OptionNumber<UserOptions> {
  // With this its option is off.
  double off;

  bool IsOn(const UserOptions& options) const { return options.*field != off; }
};

// In the order of the options.
inline const std::vector<OptionEntry>& OptionTable() {
  static const std::vector<OptionEntry> table = [] {
    std::vector<OptionEntry> entries;
    UserOptions::ForEachNumber([&](const auto& n) {
      const double off = UserOptions().*n.field;
      entries.push_back({{n.name, n.field, n.doc, n.kind, n.tensors, n.sums, n.dense_only}, off});
    });
    return entries;
  }();
  return table;
}

// Whether a number for which `condition(entry)` is on.
template <class Condition>
bool AnyOption(const UserOptions& options, const Condition& condition) {
  for (const OptionEntry& entry : OptionTable()) {
    if (entry.IsOn(options) && condition(entry)) return true;
  }
  return false;
}

// Whether the step is more than the rule.
inline bool HasOptions(const UserOptions& options) {
  return AnyOption(options, [](const OptionEntry&) { return true; });
}

// Whether the gradients must be summed up before the update.
inline bool NeedsSums(const UserOptions& options) {
  return AnyOption(options, [](const OptionEntry& entry) {
    return entry.sums == OptionSums::kOfEachTensor || entry.sums == OptionSums::kOfAllTensors;
  });
}

// What is wrong if tensors of a kind, called `name`, are `given` or not, or "".
inline std::string CheckTensors(const UserOptions& options, OptionTensors kind, const char* name, bool given) {
  for (const OptionEntry& entry : OptionTable()) {
    if (entry.tensors == kind && entry.IsOn(options) != given) {
      return std::string("`") + name + "` must be there with the option " + entry.name + ", and only with it";
    }
  }
  return "";
}

// What is wrong with sparse gradients, or "".
inline std::string CheckTakesSparse(const UserOptions& options) {
  for (const OptionEntry& entry : OptionTable()) {
    if (entry.dense_only != nullptr && entry.IsOn(options)) {
      return std::string("the option ") + entry.name + " takes no sparse gradients: " + entry.dense_only;
    }
  }
  return "";
}

// Sets the number of that name. Returns an error, or "".
inline std::string SetOption(const std::string& name, double value, UserOptions* options) {
  std::string known;
  for (const OptionEntry& entry : OptionTable()) {
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
    if (name != entry.name) continue;
    options->*entry.field = value;
    const bool is_count = value >= 1 && value <= std::numeric_limits<int32_t>::max();
    if (entry.kind == NumberKind::kCountOfSteps && entry.IsOn(*options) && !is_count) {
      return "the option " + name + " must be a count of steps, from 1 on, it is " + std::to_string(value);
    }
    return "";
  }
  return "there is no option '" + name + "'; there are " + known;
}

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_TABLE_H_
