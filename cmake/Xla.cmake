# csrc/xla: the ops inside XLA, in the library of the ops. The rules as HLO are one unit, with a line for each header.
set(RULE_INCLUDES "")
set(RULE_LOOKUPS "")
foreach(header ${rule_headers})
  get_filename_component(RULE ${header} NAME_WE)
  string(APPEND RULE_INCLUDES "#include \"rules/${RULE}.h\"\n")
  string(APPEND RULE_LOOKUPS
    "  if (const PrepareRule found = FindIn(rules::${RULE}::Rules(), name)) return found;\n")
endforeach()
configure_file(csrc/xla/hlo_rules.cc.in ${CMAKE_CURRENT_BINARY_DIR}/xla/hlo_rules.cc @ONLY)
target_sources(fusemin_ops PRIVATE
  ${CMAKE_CURRENT_BINARY_DIR}/xla/hlo_rules.cc
  csrc/xla/element_reads.cc
  csrc/xla/fused_step_op.cc
  csrc/xla/hlo_step.cc
  csrc/xla/kernel_call.cc
  csrc/xla/kernel_call_handler.cc
  csrc/xla/loop_body.cc
  csrc/xla/registration.cc
  csrc/xla/trace_row.cc
  csrc/xla/trace_rows_op.cc
  csrc/xla/value.cc)
# Headers that the wheel has, but not where the others look for them.
target_include_directories(fusemin_ops SYSTEM PRIVATE
  ${TensorFlow_DIR}/include/external/highwayhash
  ${TensorFlow_DIR}/include/external/farmhash_archive/src
  ${TensorFlow_DIR}/include/tensorflow/compiler)
