# What differs between operating systems in the build. In the sources it is csrc/numeric/platform.h. Linux is built and
# tested; the branch of macOS has never run.
if(APPLE)
  set(platform_origin "@loader_path")
  set(tensorflow_framework_library libtensorflow_framework.2.dylib)
  set(tensorflow_cc_library libtensorflow_cc.2.dylib)
elseif(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(platform_origin "$ORIGIN")
  set(tensorflow_framework_library libtensorflow_framework.so.2)
  set(tensorflow_cc_library libtensorflow_cc.so.2)
else()
  message(FATAL_ERROR "fusemin builds on Linux; cmake/Platform.cmake knows nothing of ${CMAKE_SYSTEM_NAME}")
endif()
