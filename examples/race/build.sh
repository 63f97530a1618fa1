#!/bin/sh
# Build the program of this example: race/build.sh [OUT]. It needs riscv64-linux-gnu-gcc.
#
# It keeps its symbols and types, for gdb, and lies where no other program of the guest does, so that a breakpoint means this one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
examples=$(dirname "$here")
. "$examples/lib/cc.sh"
out=$(cd "${1:-$here/prebuilt}" && pwd)
# Where it was built is not part of it: sources are found from where gdb is started.
cd "$examples/.."
example_debug="-g -fdebug-prefix-map=$PWD=. -Wl,-Ttext-segment=0x51000000"
examples=examples
example_cc "$out/notices" -Iguest/include examples/race/notices.c examples/race/threads.c
