# The op library of each TensorFlow, fusemin_ops_2_21.so: csrc/ops and csrc/backends/xla. The C++ ABI of TensorFlow is that
# of a minor version.

foreach(minor ${TensorFlow_MINORS})
  set(ops fusemin_ops_${minor})
  add_library(${ops} MODULE
    csrc/ops/ops.cc
    csrc/ops/fused_step_op.cc
    csrc/ops/gradient_sums_op.cc
    csrc/ops/step_attributes.cc
    csrc/ops/step_tensors.cc
    csrc/ops/scalars.cc
    csrc/ops/trace_rows.cc
    csrc/ops/trace_rows_op.cc
    csrc/ops/trace_buffers.cc
    csrc/ops/locked_variables.cc
    # Runs at each step, so it is compiled as the ops are.
    csrc/backends/xla/kernel_call_handler.cc)
  add_library(fusemin_xla_${minor} OBJECT
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
  # The code builds HLO, once for each program.
  target_compile_options(fusemin_xla_${minor} PRIVATE -O1)
  target_include_directories(fusemin_xla_${minor} PRIVATE ${KERNELS_SOURCE} ${KERNELS_BINARY})
  target_link_libraries(fusemin_xla_${minor} PRIVATE TensorFlow::framework_${minor} TensorFlow::cc_${minor})
  target_link_libraries(${ops} PRIVATE
    fusemin_xla_${minor} fusemin_kernels TensorFlow::framework_${minor} TensorFlow::cc_${minor})
  # Two translation units: most of the time goes into the headers of TensorFlow and XLA.
  set_target_properties(fusemin_xla_${minor} ${ops} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  set_target_properties(${ops} PROPERTIES PREFIX "" SUFFIX ".so"
    INSTALL_RPATH "${platform_origin};${platform_origin}/../tensorflow")
  if(FUSEMIN_CUDA)
    target_sources(${ops} PRIVATE
      csrc/ops/fused_step_gpu_op.cc
      csrc/ops/gpu_device.cc
      csrc/ops/trace_rows_gpu_op.cc)
    target_link_libraries(${ops} PRIVATE fusemin_cuda)
  endif()
  install(TARGETS ${ops} LIBRARY DESTINATION fusemin)
endforeach()
