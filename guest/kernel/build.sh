#!/bin/sh
# Build the default kernel: build.sh WORK OUT
#
# WORK receives the unpacked source and every intermediate file (and vmlinux, with symbols); OUT
# receives Image.gz and kernel.config. The source is Debian's package linux-source-6.12.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" "$2"
work=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)
source=/usr/src/linux-source-6.12.tar.xz

[ -f "$source" ] || { echo "build.sh: install linux-source-6.12 first" >&2; exit 1; }

# Everything that would otherwise come from this machine or this moment.
export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=braid KBUILD_BUILD_HOST=braid
export ARCH=riscv CROSS_COMPILE=riscv64-linux-gnu-
export LC_ALL=C TZ=UTC
umask 022

if [ ! -f "$work/linux/Makefile" ]; then
    rm -rf "$work/unpacked"
    mkdir -p "$work/unpacked"
    tar -C "$work/unpacked" --strip-components=1 -xf "$source"
    for patch in "$here"/*.patch; do
        patch -d "$work/unpacked" -p1 -s <"$patch"
    done
    mv "$work/unpacked" "$work/linux"
fi
cd "$work/linux"

# Building inside the tree keeps file names relative; the map catches the few that are not. The kernel
# carries its configuration, and that names the versions of tools that it does not even use: hide them.
build() {
    map=-ffile-prefix-map=$work/linux=.
    nice make -s -j"$(nproc)" KCFLAGS="$map" KAFLAGS="$map" RUSTC=false PAHOLE=false "$@"
}

build KCONFIG_ALLCONFIG="$here/kernel.fragment" allnoconfig

# A switch that lost its dependencies is dropped without a word: say so instead.
lost=$(grep '^CONFIG_' "$here/kernel.fragment" | grep -vxFf .config || true)
[ -z "$lost" ] || { echo "build.sh: not accepted by this source:"; echo "$lost"; exit 1; } >&2

build Image vmlinux
cp .config "$out/kernel.config"
gzip -n -9 <arch/riscv/boot/Image >"$out/Image.gz"
ls -l arch/riscv/boot/Image "$out/Image.gz"
