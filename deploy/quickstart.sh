#!/usr/bin/env bash
# From a clone to streamed tokens: installs what is missing, builds, launches a coordinator and three
# workers on the demo model, shows one completion, and keeps serving.
#   deploy/quickstart.sh [--once] [--port N] [--model FILE] [--prompt TEXT]
set -euo pipefail
cd "$(dirname "$0")/.."

once=0 port=8080 model=deploy/demo/thermocline-demo.gguf prompt="Once upon a time"
usage() {
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  echo "  --once         exit after the completion"
  echo "  --port N       serve on this port of 127.0.0.1 (default 8080)"
  echo "  --model FILE   serve this GGUF instead of the demo model"
  echo "  --prompt TEXT  complete this text"
}
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=1 ;;
    --port) port=${2:?--port needs a number}; shift ;;
    --model) model=${2:?--model needs a file}; shift ;;
    --prompt) prompt=${2:?--prompt needs a text}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) echo "quickstart: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

say() { printf '\n== %s\n' "$*"; }

say "Packages"
deploy/install-deps.sh

say "Build (build/release)"
cmake --log-level=WARNING --preset release -DBUILD_TESTING=OFF
cmake --build --preset release

say "Launch: mpirun -n 4, a coordinator and three workers"
# Root in a container and more ranks than cores are fine for a try-out.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun -n 4 --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 \
  build/release/bin/thermocline serve --model "$model" --port "$port" &
launcher=$!
stop() {
  kill -TERM "$launcher" 2>/dev/null || true
  wait "$launcher" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

url="http://127.0.0.1:$port"
until curl -sf "$url/health/ready" >/dev/null; do
  kill -0 "$launcher" 2>/dev/null || { wait "$launcher" || true; exit 1; }
  sleep 0.2
done

say "A completion, streamed from $url/v1/completions"
printf '%s' "$prompt"
jq -n --arg p "$prompt" '{prompt: $p, max_tokens: 120, temperature: 0.6, seed: 7, stream: true}' |
  curl -sSN "$url/v1/completions" -H 'Content-Type: application/json' -d @- |
  sed -un 's/^data: {/{/p' | jq -j --unbuffered '.error.message // .choices[0].text // empty'
printf '\n'

if [ "$once" = 1 ]; then exit 0; fi
say "Serving at $url (Ctrl-C stops it)"
wait "$launcher"
