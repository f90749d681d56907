#!/usr/bin/env bash
# On a machine with a GPU: configures, builds, tests and measures, with one table at the end.
# Needs no network and ends within ten minutes; where there is no GPU it says so and ends with 77.
#   tests/gpu/run.sh [--prebuilt FOLDER] [--only PART,...] [--rehearse] [BUILD_FOLDER]
# BUILD_FOLDER     build/gpu unless named
# --prebuilt       instead of building: a folder of tests/gpu/bundle.sh, or one that is built
# --only           some parts of the table, and what they need
# --rehearse       everything that a CPU can do, in small, to test this script
# What is missing is told first, all of it. Every part has its share of the time; what would take longer
# is cut off and shown as such, and what no time is left for is shown as not run: --only is for these.
# References are those of TC_REFERENCE_DIR, where it is set, and those of tests/data/reference.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/gpu/needs.sh
. tests/gpu/needs.sh
export device=cuda size=full
build=build/gpu prebuilt=0 only=
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) build=${2:?a folder} prebuilt=1; shift ;;
    --only) only=,${2:?names of parts},; shift ;;
    --rehearse) device=cpu size=small ;;
    -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) build=$1 ;;
  esac
  shift
done
# Ten minutes, less what the table and a part that is being ended take. A rehearsal has no limits: it
# says whether parts work, on a machine that may stall.
total=585
[ $size = small ] && total=1500
names="tests machine sparse-rows group-calls two-cards graph-step-demo tokens-demo references bench tokens repeat
       graph-step hybrid-step hottest-kernels hybrid hybrid-step-large memcheck racecheck"
for name in $(printf '%s' "$only" | tr ',' ' '); do
  # shellcheck disable=SC2086  # words
  printf '%s\n' $names | grep -qx -- "$name" || { echo "--only has none of:" $names; exit 2; }
done

gpu=none
if [ $device = cuda ]; then
  if ! command -v nvidia-smi >/dev/null || ! gpu=$(timeout 30 nvidia-smi \
      --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null) || [ -z "$gpu" ]; then
    echo "tests/gpu/run.sh: no GPU here, nothing to do"
    exit 77
  fi
  [ -d /usr/local/cuda/bin ] && PATH=$PATH:/usr/local/cuda/bin
fi
cards=$(printf '%s\n' "$gpu" | wc -l)

log=$(mktemp -d "${TMPDIR:-/tmp}/thermocline-gpu.XXXXXX")
trap 'rm -rf "$log"' EXIT
export build log
# shellcheck source=tests/gpu/parts.sh
. tests/gpu/parts.sh

# Libraries beside the programs of a bundle, and those that Python's packages of CUDA have.
python_libraries() {
  python3 - 2>/dev/null <<'PYTHON'
import glob, site, sysconfig
for place in sorted({sysconfig.get_paths()["purelib"], *site.getsitepackages()}):
    for library in ("libcublas.so*", "libnccl.so*"):
        for found in sorted(glob.glob(f"{place}/nvidia/*/lib/{library}"))[:1]:
            print(end=found.rsplit("/", 1)[0] + ":")
PYTHON
}
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(python_libraries)
[ -d "$build/lib" ] && LD_LIBRARY_PATH=$(cd "$build/lib" && pwd):$LD_LIBRARY_PATH
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH%:}

# Before anything is tried: what stops it, then what only leaves something out.
missing=$(if [ $prebuilt = 1 ]; then
  # shellcheck disable=SC2046,SC2086  # lists of words
  needs_to_run $(printf "$bin/%s " $programs) $(printf "$build/tests/%s " $bench_programs)
else
  needs_to_build
fi)
if [ -n "$missing" ]; then
  echo "tests/gpu/run.sh: missing here:"
  printf '%s\n' "$missing" | sed 's/^/  /'
  [ $prebuilt = 1 ] || echo "Install them (deploy/install-deps.sh --test), or make a folder for --prebuilt with" \
    "tests/gpu/bundle.sh on a machine that has them."
  exit 2
fi
# has_library NAME: whether the loader finds it.
has_library() {
  python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null ||
    ldconfig -p 2>/dev/null | grep -q "$1"
}
if [ $device = cuda ]; then
  command -v ncu >/dev/null || echo "missing: ncu; hottest-kernels is left out"
  command -v compute-sanitizer >/dev/null || echo "missing: compute-sanitizer; memcheck and racecheck are left out"
  has_library libcublas.so.13 || has_library libcublas.so.12 || echo "missing: cuBLAS; nothing to compare sparse-rows with"
  has_library libnccl.so.2 || echo "missing: NCCL; its tests are skipped"
  [ "$cards" -gt 1 ] || echo "one GPU: tests of two are skipped"
fi

rows=()
failed=0
# wants PART...: whether one of them is asked for.
wants() {
  local name
  [ -z "$only" ] && return
  for name in "$@"; do case $only in *,"$name",*) return 0 ;; esac; done
  return 1
}
# part NAME SECONDS COMMAND...: runs it, keeps its output in $log/NAME, adds rows: its state, and a row
# for each figure.
part() {
  local name=$1 limit=$2 begin=$SECONDS state=ok row
  shift 2
  local left=$((total - SECONDS))
  if [ "$left" -lt 5 ]; then
    rows+=("| $name | | not run: no time left | |")
    return 1
  fi
  { [ "$limit" -gt "$left" ] || [ $size = small ]; } && limit=$left
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
  rows+=("| $name | | $state, $((SECONDS - begin)) s | |")
  while IFS= read -r row; do [ -n "$row" ] && rows+=("$row"); done \
    < <(python3 tests/gpu/figures.py "$name" "$log/$name")
  return $code
}
# Parts that only a GPU can do.
gpu_part() { if [ $device = cuda ]; then part "$@"; else skipped "$1" "no GPU"; fi; }
skipped() { rows+=("| $1 | | not run: $2 | |"); }

small_parts() {
  wants tests && gpu_part tests 60 gpu_tests env
  wants machine && part machine 20 machine
  wants sparse-rows && part sparse-rows 30 sparse_rows
  wants group-calls && group_part
  wants two-cards && two_cards_part
  wants graph-step-demo && gpu_part graph-step-demo 15 graph_step "$demo"
  wants tokens-demo && part tokens-demo 20 same_tokens "$demo" dense exact
  wants references && part references 40 references
}
# With one card NCCL does without most of what is asked about here.
group_part() {
  local n=$cards
  [ "$n" -gt 8 ] && n=8
  if [ "$n" -gt 1 ]; then gpu_part group-calls 30 group_calls "$n"; else skipped group-calls "no two GPUs"; fi
}
two_cards_part() {
  if [ $device = cuda ] && [ "$cards" -lt 2 ]; then
    skipped two-cards "needs two GPUs"
  elif [ $device = cuda ] && ! has_library libnccl.so.2; then
    skipped two-cards "no NCCL"
  else
    part two-cards 120 two_cards
  fi
}
model_parts() {
  wants bench tokens repeat hybrid-step graph-step hottest-kernels && part synth 40 synth || return
  wants bench && part bench 60 bench
  wants tokens && part tokens 40 same_tokens "$model" exact predicted
  wants repeat && part repeat 40 repeated
  wants graph-step && gpu_part graph-step 40 graph_step "$model"
  wants hybrid-step && part hybrid-step 40 hybrid_step "$model" 0.333 exact
  wants hottest-kernels && hottest_part
  rm -f "$model"
}
hottest_part() {
  command -v ncu >/dev/null || { skipped hottest-kernels "no ncu"; return; }
  if ! gpu_part hottest-kernels 45 hottest && grep -q ERR_NVGPUCTRPERM "$log/hottest-kernels.err" \
    "$log/hottest-kernels"; then
    echo "ncu may not read this card's counters: ask for them, or run as root" >&2
  fi
}
large_parts() {
  wants hybrid hybrid-step-large && part synth-large 75 synth_large &&
    part profile-large 60 profile_large || return
  wants hybrid && part hybrid 150 hybrid
  # A tenth of the neurons is about what the budget of `hybrid` has room for.
  wants hybrid-step-large && part hybrid-step-large 60 hybrid_step "$large" 0.1 predicted
  rm -f "$large"
}
# What is left of the time is shared by the two.
sanitizer_parts() {
  if ! command -v compute-sanitizer >/dev/null; then
    skipped "memcheck, racecheck" "no compute-sanitizer"
    return
  fi
  local half=$(((total - SECONDS) / 2))
  [ -n "$only" ] && half=$total
  wants memcheck && gpu_part memcheck "$half" sanitized memcheck
  wants racecheck && gpu_part racecheck "$total" sanitized racecheck
}

# What takes long comes last: it is what --only is for when time ends.
if [ $prebuilt = 1 ] || { part configure 60 configure && part build 300 build_all; }; then
  small_parts
  model_parts
  large_parts
  wants memcheck racecheck && sanitizer_parts
fi

echo
for name in $names; do
  case $name in tests | tokens* | references | repeat | *check) continue ;; esac
  [ -s "$log/$name" ] && { echo "### $name"; echo; cat "$log/$name"; echo; }
done
echo "GPU: $(printf '%s' "$gpu" | paste -sd ';')"
echo "Host: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs"
[ $size = small ] && echo "A rehearsal in small: nothing here is a measurement."
[ $size = full ] && echo "Shapes: bench, tokens, repeat, graph-step, hybrid-step: 8 of the 32 layers of a 7B model;" \
  "hybrid, hybrid-step-large: $(layers_that_fit) of the 80 layers of a 70B model (docs/gpu.md)"
echo "Commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$([ -f "$build/commit" ] &&
  echo ", programs of $(cat "$build/commit")")"
echo
echo "| part | figure | measured | wanted |"
echo "|---|---|---|---|"
printf '%s\n' "${rows[@]}"
exit $failed
