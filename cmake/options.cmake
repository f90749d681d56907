# Options of the build and the compiler settings that every folder shares (target tc_options).
include(CTest)

set(WITH_MPI AUTO CACHE STRING "MPI launch and links: AUTO, ON or OFF")
set(WITH_CUDA AUTO CACHE STRING "Kernels for NVIDIA GPUs: AUTO, ON or OFF")
set(TC_CUDA_ARCHITECTURES "" CACHE STRING
    "GPU architectures, as CMAKE_CUDA_ARCHITECTURES; empty: every one from Volta to Hopper")
set(TC_BUILD_BENCHMARKS AUTO CACHE STRING "Micro-benchmarks of the operators: AUTO, ON or OFF")
set(TC_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
option(TC_WERROR "Treat warnings as errors (presets turn it on)" OFF)
option(TC_FUZZERS "Build the libFuzzer targets (needs clang)" OFF)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths relative to the repository: what one checkout has compiled, others find.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${CCACHE})
endif()

add_library(tc_options INTERFACE)
target_compile_features(tc_options INTERFACE cxx_std_20)
# nvcc knows none of these.
target_compile_options(tc_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-missing-field-initializers>
                       $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety>)
# GCC 12 takes the empty state of an inlined std::optional for an uninitialised read.
target_compile_options(tc_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
if(TC_WERROR)
  target_compile_options(tc_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>
                         $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>)
endif()
if(TC_SANITIZE)
  target_compile_options(tc_options INTERFACE -fsanitize=${TC_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  if(TC_SANITIZE MATCHES address AND TC_SANITIZE MATCHES undefined)
    # What AddressSanitizer reports as well, at a third less time to compile.
    target_compile_options(tc_options INTERFACE -fno-sanitize=null,object-size,vptr)
  endif()
  # Equal objects for equal sources wherever they lie, so that ccache knows them again.
  target_compile_options(tc_options INTERFACE -ffile-prefix-map=${PROJECT_SOURCE_DIR}=.)
  target_link_options(tc_options INTERFACE -fsanitize=${TC_SANITIZE})
endif()
if(TC_FUZZERS)
  # Coverage, by which libFuzzer steers; the fuzz targets link the fuzzer itself.
  target_compile_options(tc_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(tc_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
