# attributor._cuda, if there is an nvcc that can build it. ATTRIBUTOR_CUDA sets what happens without one: AUTO builds
# without the kernel, ON fails. OFF never builds it.
set(ATTRIBUTOR_CUDA AUTO CACHE STRING "the kernel for GPUs of compute capability 9.0: AUTO, ON or OFF")
option(ATTRIBUTOR_CUDA_TUNING "also compile the variants that are there for measuring" OFF)
string(TOUPPER "${ATTRIBUTOR_CUDA}" wanted)
if(NOT wanted MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "ATTRIBUTOR_CUDA must be AUTO, ON or OFF, got ${ATTRIBUTOR_CUDA}")
endif()
if(wanted STREQUAL "OFF")
  message(STATUS "CUDA kernel: left out, ATTRIBUTOR_CUDA is OFF")
  return()
endif()

set(OLDEST_NVCC 12.3)
set(GPU_CODE -gencode=arch=compute_90a,code=sm_90a)

# Sets `problem` to the reason why `nvcc` cannot build the kernel, empty if it can. check_language gives no reason.
function(ask_nvcc nvcc problem)
  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set(${problem} "it is for Linux, this is ${CMAKE_SYSTEM_NAME}" PARENT_SCOPE)
    return()
  elseif(NOT nvcc)
    set(${problem} "there is no nvcc on PATH, in CUDA_HOME or in CUDACXX" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE said ERROR_VARIABLE said RESULT_VARIABLE failed)
  if(failed OR NOT said MATCHES "release ([0-9]+\\.[0-9]+)")
    set(${problem} "${nvcc} does not say its version" PARENT_SCOPE)
    return()
  endif()
  set(version ${CMAKE_MATCH_1})
  if(version VERSION_LESS OLDEST_NVCC)
    set(${problem} "${nvcc} is of CUDA ${version}" PARENT_SCOPE)
    return()
  endif()
  # The same compilers, headers and libraries as the kernel, in a program of a few lines.
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/nvcc)
  file(WRITE ${folder}/probe.cu "#include <cudaTypedefs.h>\n#include <cuda_runtime.h>\n#include <vector>\n"
    "__global__ void kernel() {}\nint main() { kernel<<<1, 1>>>(); return cudaGetLastError(); }\n")
  execute_process(
    COMMAND ${nvcc} -std=c++17 ${GPU_CODE} -cudart static -ccbin ${HOST_COMPILER} -o probe probe.cu
    WORKING_DIRECTORY ${folder} OUTPUT_VARIABLE said ERROR_VARIABLE said RESULT_VARIABLE failed)
  if(failed)
    string(REGEX MATCH "[^\n]*(error|cannot find|unsupported)[^\n]*" line "${said}")
    set(${problem} "${nvcc} of CUDA ${version} with ${HOST_COMPILER} fails: ${line}" PARENT_SCOPE)
  else()
    message(STATUS "CUDA kernel: built by ${nvcc} of CUDA ${version}")
    set(${problem} "" PARENT_SCOPE)
  endif()
endfunction()

if(CMAKE_CUDA_COMPILER)
  set(ATTRIBUTOR_NVCC ${CMAKE_CUDA_COMPILER})
else()
  find_program(ATTRIBUTOR_NVCC NAMES $ENV{CUDACXX} nvcc
    HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
endif()
set(HOST_COMPILER ${CMAKE_CXX_COMPILER})
if(DEFINED ENV{CUDAHOSTCXX})
  set(HOST_COMPILER $ENV{CUDAHOSTCXX})
endif()
ask_nvcc("${ATTRIBUTOR_NVCC}" problem)
if(problem AND wanted STREQUAL "ON")
  message(FATAL_ERROR "ATTRIBUTOR_CUDA is ON, but ${problem}. The CUDA kernel needs nvcc ${OLDEST_NVCC} or later with the "
    "static runtime library and a host compiler that it supports (CUDAHOSTCXX names another one); "
    "ATTRIBUTOR_CUDA=AUTO builds without the kernel.")
elseif(problem)
  message(STATUS "CUDA kernel: left out, ${problem}; it needs nvcc ${OLDEST_NVCC} or later")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${ATTRIBUTOR_NVCC})
set(CMAKE_CUDA_HOST_COMPILER ${HOST_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES OFF)  # CMake's list: not all versions have 90a
string(APPEND CMAKE_CUDA_FLAGS " ${GPU_CODE}")
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# One file per head size, because each takes long to compile.
add_library(flow_step_cuda STATIC
  csrc/cuda/kernels_128.cu
  csrc/cuda/kernels_64.cu
  csrc/cuda/kernels_256.cu
  csrc/cuda/flow_step.cu
  csrc/cuda/tuning.cu)
target_include_directories(flow_step_cuda PRIVATE csrc/cuda)
set_target_properties(flow_step_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_RUNTIME_LIBRARY Static)
if(ATTRIBUTOR_CUDA_TUNING)
  target_compile_definitions(flow_step_cuda PRIVATE ATTRIBUTOR_CUDA_TUNING)
endif()
if(SKBUILD_STATE STREQUAL "editable")
  set_target_properties(flow_step_cuda PROPERTIES
    CUDA_COMPILER_LAUNCHER "${Python_EXECUTABLE};${CMAKE_CURRENT_SOURCE_DIR}/csrc/cuda/keep_output.py")
  target_compile_options(flow_step_cuda PRIVATE -Xptxas=-v)
endif()

# The archive's symbols are hidden, because a process may hold torch's own CUDA runtime, of another version.
pybind11_add_module(_cuda NO_EXTRAS csrc/cuda/bindings.cpp)
target_link_libraries(_cuda PRIVATE flow_step_cuda)
target_include_directories(_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_link_options(_cuda PRIVATE -Wl,--exclude-libs,ALL)
target_compile_options(_cuda PRIVATE -Wall -Wextra)
set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
install(TARGETS _cuda DESTINATION attributor)
