# The TensorFlows to build for: TensorFlow_MINORS, such as 2_20;2_21, and for each of them the imported targets
# TensorFlow::framework_2_21 and TensorFlow::cc_2_21.
set(FUSEMIN_TENSORFLOW "" CACHE STRING
  "Folders of the package tensorflow, one for each minor version to build for. By default that of the Python that builds")
execute_process(
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_tensorflow.py ${FUSEMIN_TENSORFLOW}
  OUTPUT_VARIABLE found RESULT_VARIABLE failed ERROR_VARIABLE error)
if(failed)
  message(FATAL_ERROR "${error}")
endif()

set(TensorFlow_MINORS "")
while(found)
  list(POP_FRONT found version folder)
  message(STATUS "Op library for TensorFlow ${version}: ${folder}")
  string(REGEX MATCH "^2\\.([0-9]+)" minor ${version})
  set(minor_number ${CMAKE_MATCH_1})
  string(REPLACE "." "_" minor ${minor})
  if(minor IN_LIST TensorFlow_MINORS)
    message(FATAL_ERROR "FUSEMIN_TENSORFLOW has two folders of one minor version: ${FUSEMIN_TENSORFLOW}")
  endif()
  list(APPEND TensorFlow_MINORS ${minor})
  foreach(name framework cc)
    add_library(TensorFlow::${name}_${minor} SHARED IMPORTED)
    set_target_properties(TensorFlow::${name}_${minor} PROPERTIES
      IMPORTED_LOCATION ${folder}/${tensorflow_${name}_library}
      INTERFACE_INCLUDE_DIRECTORIES ${folder}/include
      # Var::mu() is still a tsl::mutex, which the headers call deprecated.
      INTERFACE_COMPILE_OPTIONS "-Wno-attributes;-Wno-deprecated-declarations"
      # As tf.sysconfig.get_compile_flags() says, and for csrc/compat: the headers do not tell their version.
      INTERFACE_COMPILE_DEFINITIONS
        "_GLIBCXX_USE_CXX11_ABI=1;EIGEN_MAX_ALIGN_BYTES=64;NDEBUG;FUSEMIN_TENSORFLOW_2_MINOR=${minor_number}")
  endforeach()
  # Headers of XLA that the wheel has, but not where the others look for them.
  set_property(TARGET TensorFlow::cc_${minor} APPEND PROPERTY INTERFACE_INCLUDE_DIRECTORIES
    ${folder}/include/external/highwayhash
    ${folder}/include/external/farmhash_archive/src
    ${folder}/include/tensorflow/compiler)
endwhile()
