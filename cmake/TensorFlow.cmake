# The TensorFlow of the Python that builds: imported targets TensorFlow::framework and TensorFlow::cc, and
# TensorFlow_VERSION.
execute_process(
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_tensorflow.py
  OUTPUT_VARIABLE found RESULT_VARIABLE failed ERROR_VARIABLE error)
if(failed)
  message(FATAL_ERROR "${error}")
endif()
list(GET found 0 TensorFlow_VERSION)
list(GET found 1 TensorFlow_DIR)
if(NOT TensorFlow_VERSION MATCHES "^2\\.21\\.")
  message(FATAL_ERROR "fusemin builds against TensorFlow 2.21, found ${TensorFlow_VERSION} in ${TensorFlow_DIR}")
endif()
message(STATUS "TensorFlow ${TensorFlow_VERSION}: ${TensorFlow_DIR}")

foreach(name framework cc)
  add_library(TensorFlow::${name} SHARED IMPORTED)
  set_target_properties(TensorFlow::${name} PROPERTIES
    IMPORTED_LOCATION ${TensorFlow_DIR}/libtensorflow_${name}.so.2
    INTERFACE_INCLUDE_DIRECTORIES ${TensorFlow_DIR}/include
    # Var::mu() is still a tsl::mutex, which the headers call deprecated.
    INTERFACE_COMPILE_OPTIONS "-Wno-attributes;-Wno-deprecated-declarations"
    # As tf.sysconfig.get_compile_flags() says for 2.21.
    INTERFACE_COMPILE_DEFINITIONS "_GLIBCXX_USE_CXX11_ABI=1;EIGEN_MAX_ALIGN_BYTES=64;NDEBUG")
endforeach()
