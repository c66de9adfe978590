// The compiled CUDA kernels, embedded by the assembler.
#include "all_rules.h"

#define FUSEMIN_EMBED(unit, argument)                                                                   \
  asm(".pushsection .rodata\n.balign 64\n.globl fusemin_image_" #unit "\n.hidden fusemin_image_" #unit  \
      "\n.globl fusemin_image_" #unit "_end\n.hidden fusemin_image_" #unit "_end\nfusemin_image_" #unit \
      ":\n.incbin \"" FUSEMIN_CUDA_IMAGES "/" #unit ".fatbin\"\nfusemin_image_" #unit "_end:\n.popsection");
FUSEMIN_EMBED(common, )
FUSEMIN_FOR_EACH_RULE_HEADER(FUSEMIN_EMBED, )
