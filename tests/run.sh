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

configure() {
  cmake --log-level=WARNING --preset "$1" -DBUILD_TESTING=ON
}

# Every test of a preset.
test_all() {
  local preset=$1
  say "Build $preset (build/$preset)"
  configure "$preset"
  cmake --build "build/$preset"
  say "Test $preset"
  local ctest=(ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)")
  "${ctest[@]}" -LE integration
  # These launch whole clusters and wait for them; a machine that stalls gets a second chance.
  "${ctest[@]}" -L integration --repeat until-pass:2
}

# The test programs of whatever has threads: queues, pools, mailboxes, links, engine, HTTP, worker.
thread_tests=(base_test base_thread_pool_test base_metrics_test comm_test comm_gpu_test
              coordinator_scheduler_test
              coordinator_membership_test coordinator_engine_test coordinator_plan_task_test
              coordinator_replan_test http_test worker_dispatcher_test worker_gpu_link_test
              worker_group_stage_test worker_test)
test_threads() {
  say "Build tsan (build/tsan)"
  configure tsan
  cmake --build build/tsan --target "${thread_tests[@]}"
  local program
  for program in "${thread_tests[@]}"; do
    say "Test tsan: $program"
    "build/tsan/tests/$program" --gtest_brief=1
  done
}

test_all release
if [ "$sanitizers" = 1 ]; then
  test_all asan
  test_threads
fi
