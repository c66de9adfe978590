#include "all_rules.h"
#include "backends/cuda/kernels.h"
#include "step/rule_description.h"

// Defined in images.cc.
#define FUSEMIN_DECLARE_IMAGE(unit, argument) \
  extern "C" const unsigned char fusemin_image_##unit[], fusemin_image_##unit##_end[];
FUSEMIN_DECLARE_IMAGE(common, )
FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_DECLARE_IMAGE, )

namespace fusemin::cuda {
namespace {

template <class List>
struct RuleTable;
template <class... R>
struct RuleTable<RuleList<R...>> {
  static constexpr int kSize = sizeof...(R);
  static constexpr Rule kRules[kSize] = {Describe<R>()...};
};

}  // namespace

const std::vector<Unit>& Units() {
#define FUSEMIN_UNIT(header, argument)                                                                     \
  {#header, fusemin_image_##header, fusemin_image_##header##_end, RuleTable<rules::header::Rules>::kRules, \
   RuleTable<rules::header::Rules>::kSize},
  static const std::vector<Unit>& units =
      *new std::vector<Unit>{{"common", fusemin_image_common, fusemin_image_common_end, nullptr, 0},
                             FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_UNIT, )};
  return units;
}

}  // namespace fusemin::cuda
