# csrc/step as a static library that knows nothing of TensorFlow or Python: each rule header is compiled once for
# each instruction set. Builds alone too: see tests/sanitizers.
set(KERNELS_SOURCE ${CMAKE_CURRENT_LIST_DIR}/../csrc)
set(KERNELS_BINARY ${CMAKE_CURRENT_BINARY_DIR}/kernels)

# CONFIGURE_DEPENDS: a new rule is a new header, and nothing else in the build.
file(GLOB rule_headers CONFIGURE_DEPENDS ${KERNELS_SOURCE}/rules/*.h)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(isas baseline avx2 avx512)
else()
  set(isas baseline)
endif()
set(isa_baseline_enum kBaseline)
set(isa_avx2_enum kAvx2)
set(isa_avx512_enum kAvx512)
set(isa_baseline_flags "")
set(isa_avx2_flags -mavx2 -mfma -mbmi2)
# With -mprfchw a line is fetched for writing.
set(isa_avx512_flags -mprfchw -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mbmi2 -mprefer-vector-width=512)

add_library(fusemin_kernels STATIC
  ${KERNELS_SOURCE}/backends/cpu/isa.cc
  ${KERNELS_SOURCE}/backends/cpu/run.cc
  ${KERNELS_SOURCE}/step/slices.cc
  ${KERNELS_SOURCE}/backends/cpu/workers.cc
  ${KERNELS_BINARY}/registry.cc)
find_package(Threads REQUIRED)
target_link_libraries(fusemin_kernels PUBLIC Threads::Threads)
target_include_directories(fusemin_kernels PUBLIC ${KERNELS_SOURCE})
target_compile_options(fusemin_kernels PRIVATE -Wall -Wextra)

# No contraction: every instruction set gives the same bits, which are those of stock where it computes alike. errno and
# floating-point traps would keep the compiler from vectorising square roots and divisions.
function(add_kernel_unit unit isa)
  target_sources(fusemin_kernels PRIVATE ${unit})
  set_source_files_properties(${unit} PROPERTIES COMPILE_OPTIONS
    "-O3;-ffp-contract=off;-fno-math-errno;-fno-trapping-math;${isa_${isa}_flags}")
endfunction()

set(RULE_DECLARATIONS "")
set(RULE_UNITS "")
set(OPTION_CASES "")
foreach(ISA ${isas})
  set(unit ${KERNELS_BINARY}/options_${ISA}.cc)
  configure_file(${KERNELS_SOURCE}/backends/cpu/option_unit.cc.in ${unit} @ONLY)
  add_kernel_unit(${unit} ${ISA})
  string(APPEND RULE_DECLARATIONS "const OptionKernels* options_${ISA}();\n")
  string(APPEND OPTION_CASES "    case Isa::${isa_${ISA}_enum}:\n      return options_${ISA}();\n")
  foreach(header ${rule_headers})
    get_filename_component(RULE ${header} NAME_WE)
    set(unit ${KERNELS_BINARY}/${RULE}_${ISA}.cc)
    configure_file(${KERNELS_SOURCE}/backends/cpu/rule_unit.cc.in ${unit} @ONLY)
    add_kernel_unit(${unit} ${ISA})
    string(APPEND RULE_DECLARATIONS "RuleRange ${RULE}_${ISA}();\n")
    string(APPEND RULE_UNITS "    {Isa::${isa_${ISA}_enum}, ${RULE}_${ISA}},\n")
  endforeach()
endforeach()
configure_file(${KERNELS_SOURCE}/backends/cpu/registry.cc.in ${KERNELS_BINARY}/registry.cc @ONLY)
