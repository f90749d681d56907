# shellcheck shell=bash
# What tests/gpu/run.sh and tests/gpu/bundle.sh need, to be sourced: each function prints one line for
# each thing that is missing, all of them, and nothing when all is there.

# needs_commands COMMAND PACKAGE ...
needs_commands() {
  while [ $# -gt 0 ]; do
    command -v "$1" >/dev/null || echo "$1 (package $2)"
    shift 2
  done
}

# Headers, and the packages of Debian 12 that have them and their libraries.
needs_headers() {
  local header package
  while read -r header package; do
    printf '#include <%s>\n' "$header" |
      "${CXX:-c++}" -std=c++20 -x c++ -E - >/dev/null 2>&1 || echo "<$header> (package $package)"
  done <<'HEADERS'
boost/beast.hpp libboost1.81-dev
CLI/CLI.hpp libcli11-dev
google/protobuf/message_lite.h libprotobuf-dev
gmock/gmock.h libgmock-dev
gtest/gtest.h libgtest-dev
hwloc.h libhwloc-dev
hwy/highway.h libhwy-dev
nlohmann/json.hpp nlohmann-json3-dev
sentencepiece_processor.h libsentencepiece-dev
sodium.h libsodium-dev
spdlog/spdlog.h libspdlog-dev
xxhash.h libxxhash-dev
yaml-cpp/yaml.h libyaml-cpp-dev
zmq.h libzmq3-dev
HEADERS
  printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <pcre2.h>\n' |
    "${CXX:-c++}" -x c++ -E - >/dev/null 2>&1 || echo "<pcre2.h> (package libpcre2-dev)"
}

# needs_cmake VERSION: of what is there, which may be another.
needs_cmake() {
  local found
  found=$(cmake --version 2>/dev/null | sed -n '1s/.* //p')
  [ -z "$found" ] || printf '%s\n%s\n' "$1" "$found" | sort -C -V ||
    echo "CMake $1 or later (this is $found)"
}

needs_nvcc() {
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || echo "nvcc (CUDA 12 or later)"
}

# To configure and to build.
needs_to_build() {
  needs_commands cmake cmake ninja ninja-build pkg-config pkg-config c++ g++ protoc protobuf-compiler \
                 python3 python3
  needs_cmake 3.25
  needs_nvcc
  command -v "${CXX:-c++}" >/dev/null && needs_headers
}

# needs_to_run PROGRAM...: libraries that the loader does not find, and versions that they lack.
needs_to_run() {
  local program
  needs_commands python3 python3
  for program in "$@"; do
    [ -x "$program" ] || { echo "$program"; continue; }
    ldd "$program" 2>&1 | sed -n "s|^[[:space:]]*\(.*\) => not found\$|\1|p; s|.*: \(.*version .* not found.*\)|\1|p"
  done | sort -u
}
