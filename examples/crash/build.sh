#!/bin/sh
# Build the program of this example: crash/build.sh [OUT]. It needs riscv64-linux-gnu-gcc.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
examples=$(dirname "$here")
. "$examples/lib/cc.sh"
out=${1:-$here/prebuilt}
example_cc "$out/settings" "$here/target.c"
