#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole test suite.
#   tests/run.sh               the suite, with the compiler users have
#   tests/run.sh --sanitizers  also with AddressSanitizer+UBSan and ThreadSanitizer
# A test whose assertion fails gets a second run, because machines stall, and is named at the end. What a
# sanitizer reports gets none. Nothing that fails hides what comes after it.
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

logs=$(mktemp -d)
again=()   # what passed in its second run
failed=()  # what failed for good
finish() {
  local status=$?
  rm -rf "$logs"
  say "Summary"
  for test in "${again[@]}"; do echo "needed a second run: $test"; done
  for test in "${failed[@]}"; do echo "failed: $test"; done
  if [ "$status" = 0 ] && [ "${#failed[@]}" = 0 ]; then echo "all passed"; else exit 1; fi
}
trap finish EXIT

say "Packages"
deploy/install-deps.sh --test

configure() {
  cmake --log-level=WARNING --preset "$1" -DBUILD_TESTING=ON
}

# run_ctest <preset> <what to run>
run_ctest() {
  local preset=$1 log=$logs/ctest name
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" \
    --repeat until-pass:2 "$@" | tee "$log" || failed+=("$preset: ctest $*")
  # The log has the output of failed first runs too. Deaths that tests expect stay out of it.
  if grep -qE 'ERROR: [A-Za-z]+Sanitizer|runtime error: ' "$log"; then
    failed+=("$preset: a sanitizer's report, see above")
  fi
  # Once, so the second run passed.
  for name in $(sed -nE 's/.*Test +#[0-9]+: (\S+) .*\*\*\*(Failed|Timeout|Exception).*/\1/p' "$log" |
                sort | uniq -u); do
    again+=("$preset: $name")
  done
}

# Every test of a preset.
test_all() {
  local preset=$1
  say "Build $preset (build/$preset)"
  configure "$preset"
  cmake --build "build/$preset"
  say "Test $preset"
  run_ctest "$preset" -LE integration
  # These launch whole clusters, one at a time.
  run_ctest "$preset" -L integration
}

# The test programs of whatever has threads: queues, pools, mailboxes, links, engine, HTTP, worker.
thread_tests=(base_test base_thread_pool_test base_metrics_test comm_test comm_gpu_test
              coordinator_scheduler_test
              coordinator_membership_test coordinator_engine_test coordinator_plan_task_test
              coordinator_replan_test http_test worker_dispatcher_test worker_gpu_link_test
              worker_group_stage_test worker_test)

# One program. 1 is gtest's exit status; after a report ThreadSanitizer makes it 66.
test_tsan() {
  local program=$1 log=$logs/tsan status=0 names
  local run=(timeout 30m "build/tsan/tests/$program" --gtest_brief=1)
  say "Test tsan: $program"
  "${run[@]}" | tee "$log" || status=$?
  names=$(sed -nE 's/^\[  FAILED  \] ([^ ,]+\.[^ ,]+).*/\1/p' "$log" | sort -u | paste -sd:)
  if [ "$status" = 1 ] && [ -n "$names" ]; then
    say "Second run of $names"
    status=0
    "${run[@]}" --gtest_filter="$names" || status=$?
    [ "$status" != 0 ] || again+=("tsan: $program $names")
  fi
  [ "$status" = 0 ] || failed+=("tsan: $program $names (exit status $status)")
}

test_threads() {
  say "Build tsan (build/tsan)"
  configure tsan
  cmake --build build/tsan --target "${thread_tests[@]}"
  export TSAN_OPTIONS="${TSAN_OPTIONS:-} exitcode=66"
  local program
  for program in "${thread_tests[@]}"; do test_tsan "$program"; done
}

test_all release
if [ "$sanitizers" = 1 ]; then
  test_all asan
  test_threads
fi
