#!/bin/sh
# Installs the stock openai client into a build folder and runs client.mjs against a target.
#
#   run.sh BUILD_FOLDER (URL | SERVER_PROGRAM | THERMOCLINE MODEL)
#
# Exit 77 means skipped: node or npm is missing, or the registry cannot be reached.
set -eu
build=$1
target=$2
model=${3:+$(realpath "$3")}
case $target in
  http*) ;;
  *) target=$(realpath "$target") ;;
esac
source=$(cd "$(dirname "$0")" && pwd)

skip() {
  echo "skipped: $1"
  exit 77
}

command -v node >/dev/null || skip "node is not installed"
command -v npm >/dev/null || skip "npm is not installed"
mkdir -p "$build"
cp "$source/package.json" "$source/package-lock.json" "$source/client.mjs" "$build/"
cd "$build"
if ! node -e 'import("openai").then(() => {}, () => process.exit(1))' 2>/dev/null; then
  npm ci --no-audit --no-fund --fetch-retries=1 --fetch-timeout=20000 >npm.log 2>&1 ||
    skip "npm cannot install the openai client: $(grep -m1 -E '^npm (error|ERR!) ' npm.log || echo 'see npm.log')"
fi
exec node client.mjs "$target" ${model:+"$model"}
