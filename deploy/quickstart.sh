#!/usr/bin/env bash
# From a clone to streamed tokens: installs what is missing, builds, launches a coordinator and three
# workers on the demo model, shows one completion, and keeps serving.
#   deploy/quickstart.sh [--once] [--port N] [--model FILE] [--prompt TEXT]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

once=0 port=8080 model=$root/deploy/demo/thermocline-demo.gguf prompt="Once upon a time"
usage() {
  sed -n '2,4s/^# \{0,1\}//p' "$root/deploy/quickstart.sh"
  echo "  --once         exit after the completion"
  echo "  --port N       serve on this port of 127.0.0.1 (default 8080)"
  echo "  --model FILE   serve this GGUF instead of the demo model"
  echo "  --prompt TEXT  complete this text"
}
refuse() { echo "quickstart: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=1 ;;
    --port) port=${2:?--port needs a number}; shift ;;
    --model) model=$(realpath -m -- "${2:?--model needs a file}"); shift ;;
    --prompt) prompt=${2:?--prompt needs a text}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; refuse "unknown option $1" ;;
  esac
  shift
done

# What would fail after minutes of building is better known now.
[ -r "$model" ] || refuse "cannot read the model: $model"
[[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || refuse "not a port: $port"
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  refuse "port $port is in use; stop what serves there, or give another with --port"
fi
cd "$root"

say() { printf '\n== %s\n' "$*"; }

say "Packages"
deploy/install-deps.sh

say "Build (build/release)"
# The tests need packages that users do not. A folder that has been configured stays as it is.
[ -f build/release/build.ninja ] ||
  cmake --log-level=WARNING --preset release -DBUILD_TESTING=OFF >/dev/null
cmake --build --preset release --target programs

say "Launch: mpirun -n 4, a coordinator and three workers"
# Root in a container and more ranks than cores are fine for a try-out.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Containers forbid the system call by which ranks read each other's memory; plain copies will do.
# In a session of its own, mpirun is told once to stop, by this script: told twice, it runs away
# from its ranks.
setsid mpirun -n 4 --oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism none \
  build/release/bin/thermocline serve --model "$model" --port "$port" </dev/null &
launcher=$!
stop() {
  kill -TERM "$launcher" 2>/dev/null || true
  wait "$launcher" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

url="http://127.0.0.1:$port"
until curl -sf "$url/health/ready" >/dev/null; do
  kill -0 "$launcher" 2>/dev/null || { wait "$launcher" || true; exit 1; }
  sleep 0.1
done

say "A completion, streamed from $url/v1/completions"
printf '%s' "$prompt"
jq -n --arg p "$prompt" '{prompt: $p, max_tokens: 120, temperature: 0.6, seed: 7, stream: true}' |
  curl -sSN "$url/v1/completions" -H 'Content-Type: application/json' -d @- |
  sed -un 's/^data: {/{/p' | jq -j --unbuffered '.error.message // .choices[0].text // empty'
printf '\n'

if [ "$once" = 1 ]; then exit 0; fi
say "Serving at $url (Ctrl-C stops it). Try:"
echo "  curl $url/v1/completions -H 'Content-Type: application/json' \\"
echo "    -d '{\"prompt\": \"One day a fox\", \"max_tokens\": 60}'"
wait "$launcher"
