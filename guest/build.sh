#!/bin/sh
# Build the default guest: build.sh [OUT]
#
# OUT (guest/prebuilt unless given) receives the kernel, the initial root file system, their checksums and
# the versions of what they were made from. BRAID_GUEST_WORK names a folder to work in, and to keep;
# without it a temporary one is used. README.md lists the packages that are needed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/prebuilt}
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -n "${BRAID_GUEST_WORK:-}" ]; then
    work=$BRAID_GUEST_WORK
    mkdir -p "$work"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
umask 022

"$here/kernel/build.sh" "$work" "$work/out"
"$here/root/build.sh" "$work" "$work/out"
cp "$work/out/Image.gz" "$work/out/initramfs.cpio.gz" "$out"

installed() {
    dpkg-query -W -f '${Package} ${Version}\n' "$1"
}
fetched() {
    dpkg-deb -W --showformat '${Package} ${Version} (source ${source:Package} ${source:Version})\n' "$work/apt/debs/$1"_*.deb
}
{
    echo "# The Debian packages that decide what is in the files beside this one."
    installed linux-source-6.12
    fetched busybox-static
    fetched musl-dev
    echo "# The tools."
    installed gcc-12-riscv64-linux-gnu
    installed binutils-riscv64-linux-gnu
    installed gzip
} >"$out/VERSIONS"
(cd "$out" && sha256sum Image.gz initramfs.cpio.gz >SHA256SUMS && cat SHA256SUMS)
