// What differs between operating systems in the sources. In the build it is cmake/Platform.cmake. Elsewhere than on
// Linux this compiles without the first two, which cost speed only, and there are no CUDA kernels.
#ifndef FUSEMIN_COMPAT_PLATFORM_H_
#define FUSEMIN_COMPAT_PLATFORM_H_

#if defined(__linux__)
#include <sched.h>
#endif

namespace fusemin::compat {

// The processor that runs the calling thread, or -1 if the system does not tell.
inline int CurrentProcessor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// The processors that the calling thread may run on.
class Processors {
 public:
#if defined(__linux__)
  Processors() : known_(sched_getaffinity(0, sizeof set_, &set_) == 0) {}

  // Moves the calling thread to one of them other than `processor`, if there is one.
  void Leave(int processor) const {
    cpu_set_t others = set_;
    CPU_CLR(processor, &others);
    if (known_ && CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
  }

 private:
  cpu_set_t set_;
  bool known_;
#else
  void Leave(int) const {}
#endif
};

}  // namespace fusemin::compat

// Embeds a file: `symbol` is its first byte, and `symbol`_end is behind its last. For ELF.
#define FUSEMIN_EMBED(symbol, path)                                                                \
  asm(".pushsection .rodata\n.balign 64\n.globl " #symbol "\n.hidden " #symbol "\n.globl " #symbol \
      "_end\n.hidden " #symbol "_end\n" #symbol ":\n.incbin \"" path "\"\n" #symbol "_end:\n.popsection");

#endif  // FUSEMIN_COMPAT_PLATFORM_H_
