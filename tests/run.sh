#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole test suite.
#   tests/run.sh               the suite, with the compiler users have
#   tests/run.sh --sanitizers  also with AddressSanitizer+UBSan and ThreadSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizers=0
case "${1:-}" in
  "") ;;
  --sanitizers) sanitizers=1 ;;
  *) echo "usage: $0 [--sanitizers]" >&2; exit 2 ;;
esac

say() { printf '\n== %s\n' "$*"; }
# Root in a container may run mpirun.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say "Packages"
deploy/install-deps.sh --test

# build_and_test PRESET [ctest arguments]
build_and_test() {
  local preset=$1
  shift
  say "Build $preset (build/$preset)"
  cmake --preset "$preset" -DBUILD_TESTING=ON
  cmake --build "build/$preset"
  say "Test $preset"
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}

build_and_test release
if [ "$sanitizers" = 1 ]; then
  build_and_test asan
  build_and_test tsan -L unit -R 'scheduler|engine|membership|queue|comm|mailbox|link|pool|http|cluster'
fi
