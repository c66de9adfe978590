# cuda_architectures: what machine code of the CUDA kernels is built, by the option FUSEMIN_CUDA_ARCHITECTURES.
cmake_policy(VERSION 3.24)
set(FUSEMIN_CUDA_ARCHITECTURES native CACHE STRING
  "What the CUDA kernels are compiled for beside PTX: 'native' (the GPUs of this machine), 'all', 'none', or some of all")
# Each runs on devices of its major version that are not older: 8.6, 8.7 and 8.9 take sm_80. Volta's would run on 7.5,
# but the drivers that no longer know Volta are not said to take it.
set(all_cuda_architectures 70 75 80 90 100 120)

if(FUSEMIN_CUDA_ARCHITECTURES STREQUAL "all")
  set(cuda_architectures ${all_cuda_architectures})
elseif(FUSEMIN_CUDA_ARCHITECTURES STREQUAL "none")
  set(cuda_architectures "")
elseif(FUSEMIN_CUDA_ARCHITECTURES STREQUAL "native")
  set(cuda_architectures "")
  find_program(NVIDIA_SMI nvidia-smi)
  set(capabilities "")
  if(NVIDIA_SMI)
    execute_process(
      COMMAND ${NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE answer ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${answer}")
    endif()
  endif()
  foreach(capability ${capabilities})
    string(REPLACE "." "" device ${capability})
    math(EXPR major "${device} / 10")
    set(runs "")
    foreach(architecture ${all_cuda_architectures})
      math(EXPR architecture_major "${architecture} / 10")
      if(architecture_major EQUAL major AND NOT architecture GREATER device)
        set(runs ${architecture})
      endif()
    endforeach()
    list(APPEND cuda_architectures ${runs})
  endforeach()
  list(REMOVE_DUPLICATES cuda_architectures)
else()
  set(cuda_architectures ${FUSEMIN_CUDA_ARCHITECTURES})
  foreach(architecture ${cuda_architectures})
    if(NOT architecture IN_LIST all_cuda_architectures)
      message(FATAL_ERROR
        "FUSEMIN_CUDA_ARCHITECTURES must be native, all, none, or some of ${all_cuda_architectures}; it has ${architecture}")
    endif()
  endforeach()
endif()

list(JOIN cuda_architectures " " shown)
message(STATUS "CUDA kernels: PTX, and machine code for: ${shown}")
