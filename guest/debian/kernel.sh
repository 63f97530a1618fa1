#!/bin/sh
# Fetch Debian's own kernel for riscv64: kernel.sh OUTDIR
#
# OUTDIR receives Image (as packaged) and initramfs.cpio.gz: our initial root file system with the
# kernel's modules for this platform behind it. The machine comes up with the same shell and agent as with
# our kernel, but this kernel patches its own code, and reaches its disks through modules.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../apt-riscv64.sh"
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

modules="virtio_mmio virtio_console virtio_blk virtio_net virtio-rng ext4 overlay squashfs 9p 9pnet_virtio virtiofs
    vmw_vsock_virtio_transport af_packet loop tun rtc-goldfish"

riscv64_apt "$work/apt"
package=$(apt-cache depends linux-image-riscv64 | sed -n 's/ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
dpkg-deb -x "$(riscv64_fetch "$work/apt" "$package")" "$work/kernel"
version=${package#linux-image-}
cp "$work/kernel/boot/vmlinux-$version" "$out/Image"

# Each module after those that it needs; unpacked, as not every kernel unpacks modules itself.
[ -d "$work/kernel/lib" ] || ln -s usr/lib "$work/kernel/lib"
depmod -b "$work/kernel" "$version"
mkdir -p "$work/root/etc" "$work/root/lib/modules"
for module in $modules; do
    modprobe -d "$work/kernel" -S "$version" --show-depends "$module" || echo "kernel.sh: no module $module" >&2
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/order"
while read -r file; do
    name=$(basename "$file")
    case $name in
    *.xz) name=${name%.xz}; xz -dc "$file" >"$work/root/lib/modules/$name" ;;
    *) cp "$file" "$work/root/lib/modules/$name" ;;
    esac
    echo "/lib/modules/$name" >>"$work/root/etc/modules.load"
done <"$work/order"
(cd "$work/root" && find etc lib | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n -9 >"$work/modules.cpio.gz"

# The kernel takes any number of archives, one behind the other.
cat "$here/../prebuilt/initramfs.cpio.gz" "$work/modules.cpio.gz" >"$out/initramfs.cpio.gz"
echo "$version" >"$out/VERSION"
ls -l "$out"
