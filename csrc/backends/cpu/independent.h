// FUSEMIN_INDEPENDENT before an element-wise loop says that no iteration depends on another: input and output are the
// same memory or disjoint. The compiler cannot know, and would not vectorise.
#ifndef FUSEMIN_KERNELS_CPU_INDEPENDENT_H_
#define FUSEMIN_KERNELS_CPU_INDEPENDENT_H_

#if defined(__clang__)
#define FUSEMIN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define FUSEMIN_INDEPENDENT _Pragma("GCC ivdep")
#endif

#endif  // FUSEMIN_KERNELS_CPU_INDEPENDENT_H_
