# The CUDA compiler, where it is wanted and there. Sets TC_HAVE_CUDA and TC_CUDA_ARCHITECTURES.
set(TC_HAVE_CUDA FALSE)

# Sanitizers need the host's compiler for everything they watch.
if(WITH_CUDA STREQUAL "AUTO" AND TC_SANITIZE)
  return()
endif()
if(WITH_CUDA STREQUAL "OFF")
  return()
endif()

include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)  # where NVIDIA's packages put it
endif()
if(WITH_CUDA STREQUAL "AUTO")
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    return()
  endif()
endif()
# Named below, per target; without this the compiler is asked for one of its own.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  if(WITH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CUDA 12 or later is needed, this is ${CMAKE_CUDA_COMPILER_VERSION}")
  endif()
  return()
endif()
# The oldest that this compiler has: Volta, which CUDA 13 dropped.
set(oldest 70)
if(NOT CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
  set(oldest 75)
endif()
string(REPLACE native "${CMAKE_CUDA_ARCHITECTURES_NATIVE}" wanted "${TC_CUDA_ARCHITECTURES}")
foreach(architecture IN LISTS wanted)
  if(architecture MATCHES "^([0-9]+)" AND CMAKE_MATCH_1 LESS oldest)
    message(FATAL_ERROR
      "TC_CUDA_ARCHITECTURES has ${architecture}, but CUDA ${CMAKE_CUDA_COMPILER_VERSION} compiles this program for "
      "${oldest} and later; Volta (70) needs CUDA 12, and nothing before it is supported")
  endif()
endforeach()

# Machine code from Volta (CUDA 12) or Turing (13 dropped Volta) to Hopper, and Hopper's PTX for what
# comes after it.
if(NOT TC_CUDA_ARCHITECTURES)
  set(TC_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
    list(PREPEND TC_CUDA_ARCHITECTURES 70-real)
  endif()
endif()
set(TC_HAVE_CUDA TRUE)
