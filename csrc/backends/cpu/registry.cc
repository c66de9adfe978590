#include "backends/cpu/registry.h"

#include "all_rules.h"
#include "backends/cpu/rule_tables.h"

namespace fusemin::cpu {

// Defined in the units that the build makes of rule_unit.cc.in and option_unit.cc.in.
#define FUSEMIN_DECLARE_RULES(header, isa) RuleRange header##_##isa();
#define FUSEMIN_DECLARE_ISA(isa, enumerator) \
  const OptionKernels* options_##isa();      \
  FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_DECLARE_RULES, isa)
FUSEMIN_FOR_EACH_ISA(FUSEMIN_DECLARE_ISA)

namespace {

using Rules = RuleRange (*)();

#define FUSEMIN_RULES(header, isa) header##_##isa,
#define FUSEMIN_RULES_OF_ISA(isa, enumerator) \
  constexpr Rules kRules_##isa[] = {FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_RULES, isa)};
FUSEMIN_FOR_EACH_ISA(FUSEMIN_RULES_OF_ISA)

struct Unit {
  Isa isa;
  const Rules* rules;
  const OptionKernels* (*options)();
};

#define FUSEMIN_UNIT(isa, enumerator) {Isa::enumerator, kRules_##isa, options_##isa},
constexpr Unit kUnits[] = {FUSEMIN_FOR_EACH_ISA(FUSEMIN_UNIT)};

#define FUSEMIN_ONE(header, argument) +1
constexpr int kNumHeaders = FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_ONE, );

const Unit& Find(Isa isa) {
  for (const Unit& unit : kUnits) {
    if (unit.isa == isa) return unit;
  }
  return kUnits[0];
}

}  // namespace

std::vector<const Rule*> AllRules(Isa isa) {
  std::vector<const Rule*> all;
  const Unit& unit = Find(isa);
  for (int header = 0; header < kNumHeaders; ++header) {
    const RuleRange range = unit.rules[header]();
    for (int i = 0; i < range.size; ++i) all.push_back(&range.rules[i]);
  }
  return all;
}

const OptionKernels* FindOptionKernels(Isa isa) { return Find(isa).options(); }

const Rule* FindRule(Isa isa, std::string_view name) {
  for (const Rule* rule : AllRules(isa)) {
    if (name == rule->name) return rule;
  }
  return nullptr;
}

}  // namespace fusemin::cpu
