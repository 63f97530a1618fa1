#!/bin/sh
# Make a disk with Debian 13 for riscv64: build.sh [OPTION...] OUT.img [SIZE]
#
#   --include=NAME,...   further packages, such as python3
#   --kernel             Debian's kernel too (the machine boots it only if it is told to)
#   --complete           finish the installation now, in qemu-system-riscv64, rather than at the first boot
#
# SIZE is 1G unless given; the file is sparse. Needs debootstrap and e2fsprogs, and root for the
# owners of files. The first stage only unpacks and runs nothing foreign; the second one runs inside a
# machine. The disk is not partitioned: boot it with root=/dev/vda rw.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../apt-riscv64.sh"
include=systemd,systemd-sysv,udev,kmod,iproute2,procps,less
complete=
while [ $# -gt 0 ]; do
    case $1 in
    --include=*) include=$include,${1#--include=} ;;
    --kernel) include=$include,linux-image-riscv64 ;;
    --complete) complete=1 ;;
    -*) echo "build.sh: no option $1" >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
image=$1
size=${2:-1G}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root

debootstrap --foreign --arch=riscv64 --variant=minbase --include="$include" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$suite" "$root" "$(riscv64_mirror)"
cp -r "$here/files/." "$root"
# The package systemd-sysv puts the real one in its place during the second stage.
ln -sf ../local/sbin/braid-second-stage "$root/usr/sbin/init"

rm -f "$image"
truncate -s "$size" "$image"
mke2fs -q -t ext4 -L debian -d "$root" "$image"

if [ -n "$complete" ]; then
    gzip -dc "$here/../prebuilt/Image.gz" >"$work/Image"
    qemu-system-riscv64 -M virt -m 1G -smp 1 -nographic -no-reboot -kernel "$work/Image" \
        -initrd "$here/../prebuilt/initramfs.cpio.gz" \
        -drive "file=$image,format=raw,if=none,id=disk,cache=unsafe" -device virtio-blk-device,drive=disk \
        -append "console=ttyS0 quiet root=/dev/vda rw init=/usr/local/sbin/braid-second-stage poweroff" </dev/null
    e2fsck -fp "$image" || [ $? -eq 1 ] # 1: it has put in order what was open
    [ -z "$(debugfs -R 'ls /debootstrap' "$image" 2>/dev/null)" ] || { echo "build.sh: the second stage failed" >&2; exit 1; }
fi
