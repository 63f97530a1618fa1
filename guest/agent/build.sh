#!/bin/sh
# Build the agent for the guest: agent/build.sh WORK (with WORK/apt prepared); makes WORK/braid-agent.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$1" && pwd)
. "$here/../apt-riscv64.sh"
. "$here/../musl.sh"
riscv64_apt "$work/apt"
musl_setup "$work/apt"
cd "$here"
musl_cc "$work/braid-agent" *.c
