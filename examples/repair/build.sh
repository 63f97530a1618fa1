#!/bin/sh
# Build wrap as it is, and once with each patch: repair/build.sh [OUT]. It needs riscv64-linux-gnu-gcc and patch.
#
# The guest has no compiler, so the candidates are compiled here; which of them is right is found out in the guest.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
examples=$(dirname "$here")
. "$examples/lib/cc.sh"
out=${1:-$here/prebuilt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
example_cc "$out/wrap" "$here/wrap.c"
for patch in "$here"/patches/*.patch; do
    patch -s -o "$work/wrap.c" "$here/wrap.c" "$patch"
    example_cc "$out/$(basename "$patch" .patch)" "$work/wrap.c"
done
