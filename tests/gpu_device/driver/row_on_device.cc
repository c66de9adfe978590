// A bug to be found: TensorFlow is not told that FusedStep and TraceRows take `row` in the memory of the host. Loaded
// before TensorFlow, this takes the place of tensorflow::KernelDefBuilder::HostMemory(const char*).
#include <dlfcn.h>

#include <cstring>

extern "C" void* _ZN10tensorflow16KernelDefBuilder10HostMemoryEPKc(void* builder, const char* argument) {
  using HostMemory = void* (*)(void*, const char*);
  static const auto real =
      reinterpret_cast<HostMemory>(dlsym(RTLD_NEXT, "_ZN10tensorflow16KernelDefBuilder10HostMemoryEPKc"));
  return std::strcmp(argument, "row") == 0 ? builder : real(builder, argument);
}
