#!/usr/bin/env bash
# Installs with apt what Thermocline needs on Debian 12, and only what is missing.
#   deploy/install-deps.sh          to build and run
#   deploy/install-deps.sh --test   also to test
set -euo pipefail

build_packages=(
  g++ cmake ninja-build pkg-config ccache ca-certificates
  libopenmpi-dev openmpi-bin openssh-client
  libzmq3-dev libsodium-dev
  libprotobuf-dev protobuf-compiler
  libboost1.81-dev libhwy-dev libhwloc-dev libpcre2-dev libxxhash-dev
  libspdlog-dev libcli11-dev nlohmann-json3-dev libyaml-cpp-dev
  curl jq procps
)
test_packages=(
  libgtest-dev libgmock-dev libsentencepiece-dev libbenchmark-dev
  clang libclang-rt-14-dev
  python3 iproute2 nodejs npm coinor-cbc
)

packages=("${build_packages[@]}")
case "${1:-}" in
  "") ;;
  --test) packages+=("${test_packages[@]}") ;;
  *) echo "usage: $0 [--test]" >&2; exit 2 ;;
esac

# A package counts as there when its command is, so that a Node.js or CMake from elsewhere serves too.
declare -A command_of=([nodejs]=node [npm]=npm [cmake]=cmake [ninja-build]=ninja [g++]=g++)
have() {
  local command=${command_of[$1]:-}
  [ -n "$command" ] && command -v "$command" >/dev/null 2>&1 && return 0
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
  have "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#packages[@]} are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "need root or sudo to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "packages: done"
