#!/bin/sh
# Build the tool `braid` for the guest: tool/build.sh WORK (with WORK/apt prepared); makes WORK/braid-tool.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$1" && pwd)
. "$here/../apt-riscv64.sh"
. "$here/../musl.sh"
riscv64_apt "$work/apt"
musl_setup "$work/apt"
cd "$here"
musl_cc "$work/braid-tool" braid.c
