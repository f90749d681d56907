#!/usr/bin/env bash
# Makes a folder of programs for `tests/gpu/run.sh --prebuilt`, to be taken to a machine with a GPU that
# lacks the libraries to build with. Needs nvcc, no GPU.
#   tests/gpu/bundle.sh FOLDER [ARCHITECTURES [BUILD_FOLDER]]     default: 90 build/bundle
# The programs have their libraries beside them, but for those of the C and C++ runtimes, which must be
# as new over there. They are built without MPI, whose parts are loaded from fixed places.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/gpu/needs.sh
. tests/gpu/needs.sh
out=${1:?a folder} architectures=${2:-90}
export build=${3:-build/bundle} log=${TMPDIR:-/tmp} device=cuda size=full
# shellcheck source=tests/gpu/parts.sh
. tests/gpu/parts.sh

missing=$(needs_to_build)
if [ -n "$missing" ]; then
  printf 'tests/gpu/bundle.sh: missing here:\n%s\n' "$missing"
  exit 2
fi
cmake --log-level=WARNING --preset release -B "$build" -DBUILD_TESTING=ON -DWITH_CUDA=ON -DWITH_MPI=OFF \
      -DTC_CUDA_ARCHITECTURES="$architectures" >/dev/null
build_all

rm -rf "$out"
mkdir -p "$out/bin" "$out/tests" "$out/lib"
tests=$(gpu_programs)
# shellcheck disable=SC2046,SC2086  # lists of words
install -s -t "$out/bin" $(printf "$build/bin/%s " $programs)
# shellcheck disable=SC2046,SC2086
install -s -t "$out/tests" $(printf "$build/tests/%s " $bench_programs) $tests
cp "$build/gpu_tests.txt" "$out"
git describe --always --dirty >"$out/commit"
# The loader, and what comes with the compiler's and the C library's runtime.
runtime='/(ld-linux-.*|libc|libm|libdl|librt|libpthread|libresolv|libstdc\+\+|libgcc_s)\.so'
ldd "$out"/bin/* "$out"/tests/* | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
  grep -vE "$runtime" | xargs -r cp -L -t "$out/lib"
du -sh "$out" | cut -f 1
