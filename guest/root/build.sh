#!/bin/sh
# Build the initial root file system: root/build.sh WORK OUT
#
# The archive is written by the kernel's own gen_init_cpio from a list: devices and owners come out
# right without being root, and nothing depends on the order or the dates of files on this machine.
# OUT receives initramfs.cpio.gz.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" "$2"
work=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)
. "$here/../apt-riscv64.sh"
. "$here/../musl.sh"
export LC_ALL=C TZ=UTC
umask 022

riscv64_apt "$work/apt"
musl_setup "$work/apt"
rm -rf "$work/busybox"
mkdir -p "$work/busybox"
dpkg-deb -x "$(riscv64_fetch "$work/apt" busybox-static)" "$work/busybox"
busybox=$work/busybox/usr/bin/busybox

musl_cc "$work/init" "$here/init.c" "$here/../agent/power.c"
"$here/../agent/build.sh" "$work"
"$here/../tool/build.sh" "$work"
if [ ! -x "$work/gen_init_cpio" ]; then
    tar -xJf /usr/src/linux-source-6.12.tar.xz -O linux-source-6.12/usr/gen_init_cpio.c >"$work/gen_init_cpio.c"
    gcc -O1 -o "$work/gen_init_cpio" "$work/gen_init_cpio.c"
fi

# `busybox --list-full` prints where each applet belongs, but only on a RISC-V machine, so the list is
# kept beside this script, without what needs hardware that is not there. A link costs a few thousand
# instructions at boot; `busybox NAME` runs the others too.
# The programs come first, in an order that leaves their contents aligned to 8 bytes: the kernel then
# copies them word by word, which saves 1.6 million instructions.
{
    echo "dir /bin 0755 0 0"
    echo "file /bin/busybox $busybox 0755 0 0"
    echo "dir /sbin 0755 0 0"
    echo "file /init $work/init 0755 0 0"
    echo "file /sbin/braid-agent $work/braid-agent 0755 0 0"
    echo "file /bin/braid $work/braid-tool 0755 0 0"
    for dir in /usr /usr/bin /usr/sbin /etc /etc/udhcpc /dev /proc /sys /run /tmp /var /mnt; do
        echo "dir $dir 0755 0 0"
    done
    echo "dir /root 0700 0 0"
    echo "nod /dev/console 0600 0 0 c 5 1"
    echo "nod /dev/null 0666 0 0 c 1 3"
    echo "slink /var/run /run 0777 0 0"
    echo "slink /var/tmp /tmp 0777 0 0"
    for file in etc/group etc/hostname etc/hosts etc/motd etc/passwd etc/profile etc/shells; do
        echo "file /$file $here/files/$file 0644 0 0"
    done
    echo "file /etc/udhcpc/default.script $here/files/etc/udhcpc/default.script 0755 0 0"
    while read -r applet; do
        echo "slink /$applet /bin/busybox 0777 0 0"
    done <"$here/applets"
} >"$work/initramfs.list"

"$work/gen_init_cpio" -t 0 "$work/initramfs.list" >"$work/initramfs.cpio"
gzip -n -9 <"$work/initramfs.cpio" >"$out/initramfs.cpio.gz"
ls -l "$work/init" "$work/braid-agent" "$work/braid-tool" "$busybox" "$out/initramfs.cpio.gz"
