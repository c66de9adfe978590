// The rules of one header, compiled for one instruction set.
#ifndef FUSEMIN_KERNELS_CPU_RULE_TABLES_H_
#define FUSEMIN_KERNELS_CPU_RULE_TABLES_H_

#include "step/step.h"

namespace fusemin::cpu {

struct RuleRange {
  const Rule* rules;
  int size;
};

}  // namespace fusemin::cpu

#endif  // FUSEMIN_KERNELS_CPU_RULE_TABLES_H_
