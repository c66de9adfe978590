# csrc/backends/cuda as a shared library that knows nothing of TensorFlow or Python: the kernels of each rule header,
# compiled by NVRTC and ptxas and packed by nvFatbin from PyPI's wheels and embedded, and what launches them. No CUDA
# toolkit, no CUDA library.
include(${CMAKE_CURRENT_LIST_DIR}/CudaArchitectures.cmake)
set(FUSEMIN_CUDA_COMPRESSION size CACHE STRING
  "How the CUDA kernels are compressed: 'size', for drivers of CUDA 12.4 or later, or 'speed', for older ones too")
if(FUSEMIN_CUDA_COMPRESSION STREQUAL "size")
  set(cuda_oldest_driver 12040)
elseif(FUSEMIN_CUDA_COMPRESSION STREQUAL "speed")
  set(cuda_oldest_driver 0)
else()
  message(FATAL_ERROR "FUSEMIN_CUDA_COMPRESSION must be size or speed, it is ${FUSEMIN_CUDA_COMPRESSION}")
endif()

set(CUDA_SOURCE ${KERNELS_SOURCE}/backends/cuda)
set(CUDA_BINARY ${CMAKE_CURRENT_BINARY_DIR}/cuda)
set(compile_cuda ${CMAKE_CURRENT_LIST_DIR}/compile_cuda.py)
file(MAKE_DIRECTORY ${CUDA_BINARY})

file(GLOB cuda_headers CONFIGURE_DEPENDS ${CUDA_SOURCE}/*.cuh ${KERNELS_SOURCE}/options/*.h)
list(REMOVE_ITEM cuda_headers ${KERNELS_SOURCE}/options/table.h)
list(APPEND cuda_headers ${CUDA_SOURCE}/parameters.h ${KERNELS_SOURCE}/step/step.h ${KERNELS_SOURCE}/step/step_layout.h
  ${KERNELS_SOURCE}/numeric/half.h ${KERNELS_SOURCE}/numeric/math.h
  ${KERNELS_SOURCE}/numeric/rule_list.h)

add_library(fusemin_cuda SHARED
  ${CUDA_SOURCE}/driver.cc
  ${CUDA_SOURCE}/kernels.cc
  ${CUDA_SOURCE}/run.cc
  ${CUDA_SOURCE}/units.cc)
target_include_directories(fusemin_cuda PUBLIC ${KERNELS_SOURCE} PRIVATE ${KERNELS_BINARY})
target_compile_options(fusemin_cuda PRIVATE -Wall -Wextra)
target_compile_definitions(fusemin_cuda PRIVATE FUSEMIN_CUDA_OLDEST_DRIVER=${cuda_oldest_driver})
target_link_libraries(fusemin_cuda PRIVATE ${CMAKE_DL_LIBS})

set(fatbins "")

# Compiles `source`, a .cu file or a rule header, to UNIT.fatbin.
macro(add_cuda_unit unit source)
  set(fatbin ${CUDA_BINARY}/${unit}.fatbin)
  add_custom_command(
    OUTPUT ${fatbin}
    COMMAND ${tools_python} ${compile_cuda} ${source} --include ${KERNELS_SOURCE} --out ${CUDA_BINARY}
      --architectures ${cuda_architectures} --compress-mode ${FUSEMIN_CUDA_COMPRESSION}
    DEPENDS ${source} ${compile_cuda} ${cuda_headers}
    COMMENT "Compiling the CUDA kernels of ${unit}"
    VERBATIM)
  list(APPEND fatbins ${fatbin})
endmacro()

add_cuda_unit(common ${CUDA_SOURCE}/common.cu)
foreach(header ${rule_headers})
  get_filename_component(RULE ${header} NAME_WE)
  add_cuda_unit(${RULE} ${header})
endforeach()
set_source_files_properties(${CUDA_SOURCE}/images.cc PROPERTIES OBJECT_DEPENDS "${fatbins}")
# Apart, and without a compiler cache: it would not see that a file that is embedded has changed.
add_library(fusemin_cuda_images OBJECT ${CUDA_SOURCE}/images.cc)
set_target_properties(fusemin_cuda_images PROPERTIES CXX_COMPILER_LAUNCHER "")
target_link_libraries(fusemin_cuda PRIVATE fusemin_cuda_images)
target_include_directories(fusemin_cuda_images PRIVATE ${KERNELS_SOURCE} ${KERNELS_BINARY})
target_compile_definitions(fusemin_cuda_images PRIVATE FUSEMIN_CUDA_IMAGES="${CUDA_BINARY}")
