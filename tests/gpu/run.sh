#!/usr/bin/env bash
# Everything that needs a GPU: configures, builds, tests and measures, with one table at the end.
# Needs no network and at most ten minutes; where there is no GPU it says so and ends with 77.
#   tests/gpu/run.sh [BUILD_FOLDER]     default: build/gpu
# Every part has its share of the time; what would take longer is cut off and shown as such.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/gpu}

if ! command -v nvidia-smi >/dev/null || ! gpus=$(nvidia-smi -L 2>/dev/null) || [ -z "$gpus" ]; then
  echo "tests/gpu/run.sh: no GPU here, nothing to do"
  exit 77
fi

log=$(mktemp -d "${TMPDIR:-/tmp}/thermocline-gpu.XXXXXX")
trap 'rm -rf "$log"' EXIT
rows=()
failed=0

# part NAME SECONDS COMMAND...: runs it, keeps its output in $log/NAME, adds a row.
part() {
  local name=$1 limit=$2 begin=$SECONDS state=ok
  shift 2
  printf '== %s\n' "$name" >&2
  timeout "$limit" "$@" >"$log/$name" 2>&1
  local code=$?
  if [ $code -ne 0 ]; then
    state="failed ($code)"
    [ $code -eq 124 ] && state="cut off after $limit s"
    failed=1
    tail -n 25 "$log/$name" >&2
  fi
  rows+=("| $name | $state | $((SECONDS - begin)) s |")
  return $code
}

programs="thermocline thermocline-coordinator thermocline-worker thermocline-bench thermocline-generate
          thermocline-machine thermocline-synth"
configure() {
  cmake --log-level=WARNING --preset release -B "$build" -DBUILD_TESTING=ON -DWITH_CUDA=ON \
        -DTC_CUDA_ARCHITECTURES=native
}
gpu_tests() { ctest --test-dir "$build" -L gpu --output-on-failure --no-tests=error; }
# The tests of that label, as far as this build knows them.
build_all() {
  local tests
  tests=$(ninja -C "$build" -t targets all | sed -n '/^cmake_/d; s/^\([a-z_]*\(gpu\|cuda\)[a-z_]*_test\): phony$/\1/p')
  # shellcheck disable=SC2086  # lists of words
  ninja -C "$build" $programs $tests
}
bin=$build/bin
model=$log/bench.gguf
synth() { "$bin/thermocline" synth -o "$model" --type f16 --density 0.1 \
            --shape n_embd=4096,n_ff=14336,n_layer=8,n_head=32,n_head_kv=8; }
bench() { "$bin/thermocline" bench -m "$model" --device "$1" -p 128 -n 32 -r 3 --ffn "$2"; }
# Greedy tokens of one device.
tokens() {
  "$bin/thermocline" generate -m "$model" --device "$1" --prompt-tokens 5,17,42,99 -n 32 \
    --temperature 0 --ffn "$2" --json
}
same_tokens() {
  tokens cpu exact >"$log/cpu.json" && tokens cuda exact >"$log/cuda.json" &&
    python3 - "$log/cpu.json" "$log/cuda.json" <<'PYTHON'
import json, sys
a, b = (json.load(open(path)) for path in sys.argv[1:])
a, b = a["generated"], b["generated"]
sys.exit(0 if a == b else f"cpu {a}\ncuda {b}")
PYTHON
}

if part configure 30 configure && part build 300 build_all; then
  part tests 90 gpu_tests
  part machine 20 "$bin/thermocline" machine --device cuda --seconds 5
  if part synth 60 synth; then
    part tokens-equal-cpu 60 same_tokens
    part bench-cuda-dense 40 bench cuda dense
    part bench-cuda-exact 40 bench cuda exact
    part bench-cpu-exact 60 bench cpu exact
  fi
  if command -v compute-sanitizer >/dev/null && [ $SECONDS -lt 480 ]; then
    part memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 1 \
      "$build/tests/kernels_gpu_device_test"
    part racecheck 60 compute-sanitizer --tool racecheck --error-exitcode 1 \
      "$build/tests/kernels_gpu_device_test"
  else
    rows+=("| memcheck, racecheck | not run: no compute-sanitizer, or no time left | |")
  fi
fi

echo
for name in machine bench-cuda-dense bench-cuda-exact bench-cpu-exact; do
  [ -s "$log/$name" ] && { echo "### $name"; echo; cat "$log/$name"; echo; }
done
echo "GPU: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | paste -sd ';')"
echo "Commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo
echo "| part | result | time |"
echo "|---|---|---:|"
printf '%s\n' "${rows[@]}"
exit $failed
