// The list of options. A new one is its header and its line here.
#ifndef FUSEMIN_OPTIONS_USER_OPTIONS_H_
#define FUSEMIN_OPTIONS_USER_OPTIONS_H_

#include "options/accumulation.h"
#include "options/cautious.h"
#include "options/loss_scale.h"
#include "options/moving_average.h"
#include "options/norm_clip.h"
#include "options/option_list.h"
#include "options/skip_nonfinite.h"
#include "options/value_clip.h"
#include "options/weight_decay.h"

namespace fusemin {

// What users ask for: the number of each, in the order in which a step applies them; the rule comes before the average.
struct UserOptions : OptionList<SkipNonFinite,  //
                                LossScale,      //
                                Accumulation,   //
                                ValueClip,      //
                                NormClip,       //
                                WeightDecay,    //
                                Cautious,       //
                                MovingAverage> {};

}  // namespace fusemin

#endif  // FUSEMIN_OPTIONS_USER_OPTIONS_H_
