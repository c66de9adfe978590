// A step with a gradient that is not finite is skipped: parameters, slots, accumulators and the count of steps stay.
#ifndef FUSEMIN_OPTIONS_SKIP_NONFINITE_H_
#define FUSEMIN_OPTIONS_SKIP_NONFINITE_H_

#include "options/option.h"

namespace fusemin {

struct SkipNonFinite {
  double skip_nonfinite = 0.0;

  static constexpr OptionNumber<SkipNonFinite> kNumbers[] = {
      {"skip_nonfinite", &SkipNonFinite::skip_nonfinite,
       "1 where a step with a gradient that is not finite is skipped.", NumberKind::kFlag, OptionTensors::kNone,
       OptionSums::kOfAllTensors},
  };

  FUSEMIN_HOST_DEVICE bool IsOn() const { return skip_nonfinite != 0.0; }
  FUSEMIN_HOST_DEVICE bool SkipsNonFinite() const { return IsOn(); }
};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_SKIP_NONFINITE_H_
