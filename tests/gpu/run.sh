#!/usr/bin/env bash
# Everything that needs a GPU: configures, builds, tests and measures, with one table at the end.
# Needs no network and ends within ten minutes; where there is no GPU it says so and ends with 77.
#   tests/gpu/run.sh [BUILD_FOLDER]     default: build/gpu
# Every part has its share of the time; what would take longer is cut off and shown as such, and what
# no time is left for is shown as not run. TC_REFERENCE_DIR may name a folder of more references.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build/gpu}
# Ten minutes, less what the table and a part that is being ended take.
total=585

if ! command -v nvidia-smi >/dev/null || ! gpus=$(timeout 30 nvidia-smi -L 2>/dev/null) || [ -z "$gpus" ]; then
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
  local left=$((total - SECONDS))
  if [ "$left" -lt 5 ]; then
    rows+=("| $name | not run: no time left | |")
    return 1
  fi
  [ "$limit" -gt "$left" ] && limit=$left
  printf '== %s\n' "$name" >&2
  # Functions run in a shell of their own, so that what they start is ended with them.
  timeout -k 3 "$limit" bash -c '"$@"' part "$@" >"$log/$name" 2>"$log/$name.err"
  local code=$?
  if [ $code -ne 0 ]; then
    state="failed ($code)"
    [ $code -eq 124 ] || [ $code -eq 137 ] && state="cut off after $limit s"
    failed=1
    tail -n 25 "$log/$name" "$log/$name.err" >&2
  fi
  rows+=("| $name | $state | $((SECONDS - begin)) s |")
  return $code
}
# figures NAME ROW: rows from the lines of figures in the table that part NAME has printed.
figures() {
  local row
  while IFS= read -r row; do rows+=("|$row | |"); done \
    < <(awk -F'|' '/^\|/ && ++n > 2 { print '"$2"' }' "$log/$1")
}
skipped() { rows+=("| $1 | not run: $2 | |"); }

export build log
export bin=$build/bin model=$log/bench.gguf
export programs="thermocline thermocline-coordinator thermocline-worker thermocline-bench
                 thermocline-generate thermocline-machine thermocline-profile thermocline-synth"
configure() {
  cmake --log-level=WARNING --preset release -B "$build" -DBUILD_TESTING=ON -DWITH_CUDA=ON \
        -DTC_CUDA_ARCHITECTURES=native
}
gpu_tests() { ctest --test-dir "$build" -L gpu --output-on-failure --no-tests=error; }
# What may hold tests of that label, before they are built; and the programs that do.
gpu_targets() {
  ninja -C "$build" -t targets all | sed -n '/^cmake_/d; s/^\([a-z_]*\(gpu\|cuda\)[a-z_]*_test\): phony$/\1/p'
}
gpu_programs() {
  ctest --test-dir "$build" -L gpu --show-only=json-v1 | python3 -c 'import json, sys
print(*sorted({test["command"][0] for test in json.load(sys.stdin)["tests"]}), sep="\n")'
}
build_all() {
  # shellcheck disable=SC2046,SC2086  # lists of words
  ninja -C "$build" $programs sparse_rows hybrid_step graph_step $(gpu_targets)
}
synth() {
  "$bin/thermocline" synth -o "$model" --type f16 --density 0.1 \
    --shape n_embd=4096,n_ff=14336,n_layer=8,n_head=32,n_head_kv=8
}
bench() { "$bin/thermocline" bench -m "$model" --device "$1" -p 128 -n 32 -r 3 --ffn "$2"; }
# Greedy tokens of each device, of one model.
tokens() {
  "$bin/thermocline" generate -m "$2" --device "$1" --prompt-tokens 5,17,42,99 -n 32 \
    --temperature 0 --ffn "$3" --json | tail -n 1
}
same_tokens() {
  tokens cpu "$1" "$2" >"$log/cpu.json" && tokens cuda "$1" "$2" >"$log/cuda.json" &&
    python3 - "$log/cpu.json" "$log/cuda.json" <<'PYTHON'
import json, sys
a, b = (json.load(open(path))["generated"] for path in sys.argv[1:])
sys.exit(0 if a == b else f"cpu {a}\ncuda {b}")
PYTHON
}
# Logits and greedy tokens of another implementation, within its tolerance.
references() {
  TC_TEST_DEVICE=cuda TC_BIN_DIR="$PWD/$bin" python3 tests/integration/reference_test.py
}
# Which neurons are hot, on any text: the model's are planted.
profile() {
  cat docs/*.md >"$log/text.txt"
  "$bin/thermocline" profile -m "$model" --text "$log/text.txt" --tokens 1024 --no-guard -q
}
# Sparse products at the size that is asked about, and a step of two devices against each alone.
sparse_rows() { "$build/tests/sparse_rows" cuda 8192 28672 10; }
hybrid_step() { "$build/tests/hybrid_step" "$model" 0.333 cuda; }
# Steps replayed as CUDA graphs against the same, op by op: of the synthetic model, and of one so
# small that launches are most of a step.
graph_step() { "$build/tests/graph_step" "$1" cuda 1 8; }
hybrid() { python3 tests/gpu/hybrid.py "$bin" "$model" 0.333; }
sanitized() {
  local code=0 test
  for test in $(gpu_programs); do
    echo "$test"
    compute-sanitizer --tool "$1" --error-exitcode 1 "$test" || code=1
  done
  return $code
}
# Some steps of decoding, behind the first, which load kernels.
hottest() {
  local metrics=gpu__time_duration.sum,dram__bytes.sum.per_second
  metrics+=,dram__throughput.avg.pct_of_peak_sustained_elapsed
  metrics+=,sm__throughput.avg.pct_of_peak_sustained_elapsed
  metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active
  ncu --csv --metrics "$metrics" --launch-skip 300 --launch-count 300 \
    "$bin/thermocline-bench" -m "$model" --device cuda -p 0 -n 8 -r 1 --ffn exact |
    python3 tests/gpu/kernel_table.py
}
export -f configure gpu_tests gpu_targets gpu_programs build_all synth bench tokens same_tokens references profile hybrid \
  sparse_rows hybrid_step graph_step sanitized hottest

if part configure 30 configure && part build 260 build_all; then
  part tests 60 gpu_tests
  part machine 15 "$bin/thermocline" machine --device cuda --seconds 5
  if part sparse-rows 30 sparse_rows; then
    figures sparse-rows '$2 "|" $5 " of copies;" $6'
  fi
  if part graph-step-demo 15 graph_step deploy/demo/thermocline-demo.gguf; then
    figures graph-step-demo '" demo step of" $2 "sequences, replayed against op by op |" $5'
  fi
  part tokens-demo 15 same_tokens deploy/demo/thermocline-demo.gguf dense
  part references 40 references
  if part synth 40 synth; then
    part bench-cuda-dense 25 bench cuda dense
    part bench-cuda-exact 25 bench cuda exact
    part tokens-synth 25 same_tokens "$model" exact
    part profile 40 profile && part hybrid 80 hybrid
    if part hybrid-step 40 hybrid_step; then
      figures hybrid-step '" hybrid step against its larger part |" $5'
    fi
    if part graph-step 40 graph_step "$model"; then
      figures graph-step '" step of" $2 "sequences, replayed against op by op |" $5'
    fi
    if command -v ncu >/dev/null; then
      if ! part hottest-kernels 45 hottest && grep -q ERR_NVGPUCTRPERM "$log/hottest-kernels.err" \
        "$log/hottest-kernels"; then
        echo "ncu may not read this card's counters: ask for them, or run as root" >&2
      fi
    else
      skipped hottest-kernels "no ncu"
    fi
  fi
  if command -v compute-sanitizer >/dev/null; then
    part memcheck 60 sanitized memcheck
    part racecheck 60 sanitized racecheck
  else
    skipped "memcheck, racecheck" "no compute-sanitizer"
  fi
fi

echo
for name in machine sparse-rows bench-cuda-dense bench-cuda-exact hybrid hybrid-step graph-step graph-step-demo \
  hottest-kernels; do
  [ -s "$log/$name" ] && { echo "### $name"; echo; cat "$log/$name"; echo; }
done
echo "GPU: $(timeout 30 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader |
  paste -sd ';')"
echo "Commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo
echo "| part | result | time |"
echo "|---|---|---:|"
printf '%s\n' "${rows[@]}"
exit $failed
