# shellcheck shell=bash disable=SC2154
# The parts of tests/gpu/run.sh, to be sourced by it: what each of them runs. They are told by
#   build   the folder with bin/ and tests/      device  cuda, or cpu in a rehearsal
#   log     a folder for models and outputs      size    full, or small in a rehearsal

export bin=$build/bin demo=deploy/demo/thermocline-demo.gguf
export model=$log/7b.gguf large=$log/70b.gguf
export programs="thermocline thermocline-coordinator thermocline-worker thermocline-bench
                 thermocline-generate thermocline-machine thermocline-profile thermocline-synth"
export bench_programs="sparse_rows hybrid_step graph_step group_calls"

configure() {
  cmake --log-level=WARNING --preset release -B "$build" -DBUILD_TESTING=ON -DWITH_CUDA=ON \
        -DTC_CUDA_ARCHITECTURES=native
}
# The programs whose tests are labelled gpu.
gpu_programs() { sed "s|^|$build/tests/|" "$build/gpu_tests.txt"; }
build_all() {
  # shellcheck disable=SC2086  # lists of words
  ninja -C "$build" $programs $bench_programs gpu_tests
}
# Under a command, such as a sanitizer.
gpu_tests() {
  local code=0 test
  for test in $(gpu_programs); do
    echo "$test"
    "$@" "$test" || code=1
  done
  return $code
}
sanitized() { gpu_tests compute-sanitizer --tool "$1" --error-exitcode 1; }

# Layers of 7B models with grouped heads: 8 of 32, which no cache of a card holds (4.1 GB). 0.44 GB a
# layer: attention 0.08, gate, up and down 0.12 each, predictor 0.02.
synth() {
  local shape=n_embd=4096,n_ff=14336,n_layer=8,n_head=32,n_head_kv=8
  [ "$size" = small ] && shape=n_embd=256,n_ff=1024,n_layer=2,n_head=4,n_head_kv=2,n_vocab=1024
  "$bin/thermocline" synth -o "$model" --pwri --type f16 --density 0.1 --shape "$shape"
}
# Layers of 70B models, for the model that is three times as large as the card's budget: docs/gpu.md
# counts its bytes. The vocabulary is 32000 for 80 layers' 6 to 8, so that the head's share of a token
# is what it is there.
layers_that_fit() { # of 1.73 GB: a file, and the CPU's copy of it
  local memory disk n
  memory=$(awk '/^MemAvailable/ { print int($2 / 1e6) }' /proc/meminfo)
  disk=$(df -k --output=avail "$log" | awk 'NR == 2 { print int($1 / 1e6) }')
  n=$(((memory - 4) * 10 / 36))
  [ $(((disk - 2) * 10 / 18)) -lt $n ] && n=$(((disk - 2) * 10 / 18))
  [ $n -gt 8 ] && n=8
  echo $n
}
synth_large() {
  local n shape
  n=$(layers_that_fit)
  shape=n_embd=8192,n_ff=28672,n_layer=$n,n_head=64,n_head_kv=8,n_vocab=2400
  if [ "$size" = small ]; then
    shape=n_embd=512,n_ff=2048,n_layer=2,n_head=8,n_head_kv=2,n_vocab=1024
  elif [ "$n" -lt 2 ]; then
    echo "memory and disk have no room for two layers" >&2
    return 1
  fi
  "$bin/thermocline" synth -o "$large" --pwri --predictor 128 --type f16 --density 0.05 --shape "$shape"
}
# Which of its neurons are hot, on any text: they are planted. Beside the model, where all look for it.
profile_large() {
  cat docs/*.md >"$log/text.txt"
  "$bin/thermocline" profile -m "$large" --text "$log/text.txt" --tokens 512 --no-guard -q
}

machine() { "$bin/thermocline" machine --device "$device" --seconds 5; }
bench() {
  "$bin/thermocline" bench -m "$model" --device "$device" -p 128 -n 32 -r 3 --ffn dense,exact,predicted
}
# Greedy tokens of each device, of one model.
tokens() {
  "$bin/thermocline" generate -m "$2" --device "$1" --prompt-tokens 5,17,42,99 -n 32 \
    --temperature 0 --ffn "$3" --json | tail -n 1
}
same_tokens() { # MODEL FFN...
  local path=$1 ffn
  shift
  for ffn in "$@"; do
    tokens cpu "$path" "$ffn" >"$log/cpu.json" && tokens "$device" "$path" "$ffn" >"$log/cuda.json" || return
    python3 - "$ffn" "$log/cpu.json" "$log/cuda.json" <<'PYTHON' || return
import json, sys
a, b = (json.load(open(path))["generated"] for path in sys.argv[2:])
sys.exit(0 if a == b else f"{sys.argv[1]}: cpu {a}\ncuda {b}")
PYTHON
  done
}
# Logits of every token of a prompt and of what follows it, of two runs.
repeated() {
  local ffn run code=0 prompt
  prompt=$(seq -s, 10 73)
  printf '| ffn | logits |\n|---|---|\n'
  for ffn in dense exact predicted; do
    for run in 1 2; do
      "$bin/thermocline" generate -m "$model" --device "$device" --prompt-tokens "$prompt" -n 16 \
        --temperature 0 --ignore-eos --ffn $ffn --logits-out "$log/logits.$run" >/dev/null || return
    done
    if cmp "$log/logits.1" "$log/logits.2" >&2; then
      echo "| $ffn | bit-equal, $(stat -c %s "$log/logits.1") bytes |"
    else
      echo "| $ffn | differ |"
      code=1
    fi
  done
  return $code
}
# Logits and greedy tokens of another implementation, within its tolerance.
references() {
  TC_TEST_DEVICE=$device TC_BIN_DIR="$bin" python3 tests/integration/reference_test.py
}
# Sparse products at the size that is asked about, and a step of two devices against each alone.
sparse_rows() {
  local shape="8192 28672 10"
  [ "$size" = small ] && shape="512 2048 10"
  # shellcheck disable=SC2086  # words
  "$build/tests/sparse_rows" "$device" $shape
}
hybrid_step() { "$build/tests/hybrid_step" "$1" "$2" "$device" 0 "$3"; }
# Steps replayed as CUDA graphs against the same, op by op.
graph_step() { "$build/tests/graph_step" "$1" "$device" 1 8; }
# Calls of NCCL, on as many cards as there are, 8 at most.
group_calls() { "$build/tests/group_calls" "$1" 8192; }
# Services of two workers, a card each.
two_cards() { TC_BIN_DIR="$bin" python3 tests/gpu/two_cards.py "$device"; }
hybrid() { python3 tests/gpu/hybrid.py "$bin" "$large" 0.3333 --ffn predicted; }
# Some steps of decoding, behind the first, which load kernels; op by op, as ncu counts launches.
hottest() {
  local metrics=gpu__time_duration.sum,dram__bytes.sum.per_second
  metrics+=,dram__throughput.avg.pct_of_peak_sustained_elapsed
  metrics+=,sm__throughput.avg.pct_of_peak_sustained_elapsed
  metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active
  ncu --csv --metrics "$metrics" --launch-skip 300 --launch-count 300 \
    "$bin/thermocline-bench" -m "$model" --device cuda -p 0 -n 8 -r 1 --ffn exact \
    --cuda-graphs off |
    python3 tests/gpu/kernel_table.py
}
export -f configure gpu_programs build_all gpu_tests sanitized synth layers_that_fit \
  synth_large profile_large machine bench tokens same_tokens repeated references sparse_rows \
  hybrid_step graph_step group_calls two_cards hybrid hottest
