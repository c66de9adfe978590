// The compiled CUDA kernels, embedded by the assembler.
#include "all_rules.h"
#include "compat/platform.h"

#define FUSEMIN_EMBED_UNIT(unit, argument) FUSEMIN_EMBED(fusemin_image_##unit, FUSEMIN_CUDA_IMAGES "/" #unit ".fatbin")
FUSEMIN_EMBED_UNIT(common, )
FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_EMBED_UNIT, )
