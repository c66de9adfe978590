# csrc/kernels/cuda as a shared library that knows nothing of TensorFlow or Python: the kernels of each rule header,
# compiled by NVRTC and ptxas from PyPI's wheels and embedded, and what launches them. No CUDA toolkit, no CUDA library.
set(CUDA_SOURCE ${KERNELS_SOURCE}/kernels/cuda)
set(CUDA_BINARY ${CMAKE_CURRENT_BINARY_DIR}/cuda)
set(compile_cuda ${CMAKE_CURRENT_LIST_DIR}/compile_cuda.py)
# As in compile_cuda.py.
set(cuda_architectures 75 80 86 89 90 100 120)
file(MAKE_DIRECTORY ${CUDA_BINARY})

file(GLOB cuda_headers CONFIGURE_DEPENDS ${CUDA_SOURCE}/*.cuh)
list(APPEND cuda_headers ${CUDA_SOURCE}/parameters.h ${KERNELS_SOURCE}/kernels/step.h
  ${KERNELS_SOURCE}/kernels/user_options.h ${KERNELS_SOURCE}/numeric/half.h ${KERNELS_SOURCE}/numeric/math.h
  ${KERNELS_SOURCE}/numeric/rule_list.h)

add_library(fusemin_cuda SHARED
  ${CUDA_SOURCE}/driver.cc
  ${CUDA_SOURCE}/kernels.cc
  ${CUDA_SOURCE}/run.cc
  ${CUDA_BINARY}/units.cc)
target_include_directories(fusemin_cuda PUBLIC ${KERNELS_SOURCE})
target_compile_options(fusemin_cuda PRIVATE -Wall -Wextra)
target_link_libraries(fusemin_cuda PRIVATE ${CMAKE_DL_LIBS})

set(RULE_INCLUDES "")
set(IMAGE_DECLARATIONS "")
set(UNITS "")

# Compiles `source`, which is called UNIT.cu, and embeds what comes of it.
function(add_cuda_unit UNIT source depends)
  set(compiled ${CUDA_BINARY}/${UNIT}.ptx)
  set(EMBEDDED "FUSEMIN_EMBED(${UNIT}_ptx, \"${CUDA_BINARY}/${UNIT}.ptx\")\n")
  set(IMAGES "    {0, ${UNIT}_ptx, ${UNIT}_ptx_end},\n")
  foreach(architecture ${cuda_architectures})
    set(cubin ${CUDA_BINARY}/${UNIT}.sm_${architecture}.cubin)
    list(APPEND compiled ${cubin})
    string(APPEND EMBEDDED "FUSEMIN_EMBED(${UNIT}_sm_${architecture}, \"${cubin}\")\n")
    string(APPEND IMAGES "    {${architecture}, ${UNIT}_sm_${architecture}, ${UNIT}_sm_${architecture}_end},\n")
  endforeach()
  add_custom_command(
    OUTPUT ${compiled}
    COMMAND ${Python_EXECUTABLE} ${compile_cuda} ${source} --include ${KERNELS_SOURCE} --out ${CUDA_BINARY}
    DEPENDS ${source} ${compile_cuda} ${cuda_headers} ${depends}
    COMMENT "Compiling the CUDA kernels of ${UNIT}"
    VERBATIM)
  set(embedding ${CUDA_BINARY}/images_${UNIT}.cc)
  configure_file(${CUDA_SOURCE}/images.cc.in ${embedding} @ONLY)
  set_source_files_properties(${embedding} PROPERTIES OBJECT_DEPENDS "${compiled}")
  target_sources(fusemin_cuda PRIVATE ${embedding})
endfunction()

add_cuda_unit(common ${CUDA_SOURCE}/common.cu "")
string(APPEND IMAGE_DECLARATIONS "extern const Image images_common[];\nextern const int num_images_common;\n")
string(APPEND UNITS "      {\"common\", images_common, num_images_common, nullptr, 0},\n")
foreach(header ${rule_headers})
  get_filename_component(RULE ${header} NAME_WE)
  # The rules of a header are counted by the commas of its list that are in no inner <>; the unit asserts the number.
  file(READ ${header} text)
  string(REGEX MATCH "using Rules =[ \n]+RuleList<([^;]*)>;" matched "${text}")
  set(list "${CMAKE_MATCH_1}")
  set(previous "")
  while(NOT list STREQUAL previous)
    set(previous "${list}")
    string(REGEX REPLACE "<[^<>]*>" "" list "${list}")
  endwhile()
  string(REGEX MATCHALL "," commas "${list}")
  list(LENGTH commas last)
  math(EXPR NUM_RULES "${last} + 1")
  set(RULE_KERNELS "")
  foreach(index RANGE ${last})
    string(APPEND RULE_KERNELS "FUSEMIN_RULE_KERNELS(${RULE}, ${index})\n")
  endforeach()
  configure_file(${CUDA_SOURCE}/rule_unit.cu.in ${CUDA_BINARY}/${RULE}.cu @ONLY)
  add_cuda_unit(${RULE} ${CUDA_BINARY}/${RULE}.cu ${header})
  string(APPEND RULE_INCLUDES "#include \"rules/${RULE}.h\"\n")
  string(APPEND IMAGE_DECLARATIONS "extern const Image images_${RULE}[];\nextern const int num_images_${RULE};\n")
  string(APPEND UNITS "      {\"${RULE}\", images_${RULE}, num_images_${RULE}, RuleTable<rules::${RULE}::Rules>::kRules,\n")
  string(APPEND UNITS "       RuleTable<rules::${RULE}::Rules>::kSize},\n")
endforeach()
configure_file(${CUDA_SOURCE}/units.cc.in ${CUDA_BINARY}/units.cc @ONLY)
