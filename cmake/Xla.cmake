# csrc/backends/xla: the ops inside XLA, in the library of the ops.
add_library(fusemin_xla OBJECT
  csrc/backends/xla/element_reads.cc
  csrc/backends/xla/fused_step_op.cc
  csrc/backends/xla/hlo_rules.cc
  csrc/backends/xla/hlo_step.cc
  csrc/backends/xla/kernel_call.cc
  csrc/backends/xla/loop_body.cc
  csrc/backends/xla/registration.cc
  csrc/backends/xla/trace_row.cc
  csrc/backends/xla/trace_rows_op.cc
  csrc/backends/xla/value.cc)
# One translation unit: most of the time goes into XLA's headers. The code builds HLO, once for each program.
set_target_properties(fusemin_xla PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
target_compile_options(fusemin_xla PRIVATE -O1)
target_include_directories(fusemin_xla PRIVATE ${KERNELS_SOURCE} ${KERNELS_BINARY})
# Headers that the wheel has, but not where the others look for them.
target_include_directories(fusemin_xla SYSTEM PRIVATE
  ${TensorFlow_DIR}/include/external/highwayhash
  ${TensorFlow_DIR}/include/external/farmhash_archive/src
  ${TensorFlow_DIR}/include/tensorflow/compiler)
target_link_libraries(fusemin_xla PRIVATE TensorFlow::framework TensorFlow::cc)
target_link_libraries(fusemin_ops PRIVATE fusemin_xla)
# Runs at each step, so it is compiled as the ops are.
target_sources(fusemin_ops PRIVATE csrc/backends/xla/kernel_call_handler.cc)
