#!/bin/sh
# Make the disk of `npm run bench -- real`: build.sh OUT.img
#
# Debian 13 by guest/debian/build.sh with the packages that the rows run, and the archive's package lists, read in
# once, so that apt-get works without a network. It needs what that script with --complete needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest=$here/../../guest
. "$guest/apt-riscv64.sh"
[ $# -eq 1 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
image=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

"$guest/debian/build.sh" --include=python3,perl,gcc,libc6-dev,sqlite3,git,nodejs,luajit --complete "$image" 3G

(riscv64_apt "$work/apt")
lists=$work/apt/state/lists
for file in "$lists"/*; do
    [ -f "$file" ] || continue
    case $file in
    */lock) ;;
    *) echo "write $file /var/lib/apt/lists/$(basename "$file")" ;;
    esac
done >"$work/commands"
cat >"$work/read-lists" <<'END'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -o remount,rw / && apt-cache gencaches && apt-get -s install build-essential >/dev/null && echo "The lists are read."
rm /usr/local/sbin/read-lists
sync
perl -e 'syscall(142, 0xfee1dead, 672274793, 0x4321fedc)' # LINUX_REBOOT_CMD_POWER_OFF
END
cat >>"$work/commands" <<END
write $work/read-lists /usr/local/sbin/read-lists
set_inode_field /usr/local/sbin/read-lists mode 0100755
END
debugfs -w -f "$work/commands" "$image"

gzip -dc "$guest/prebuilt/Image.gz" >"$work/Image"
qemu-system-riscv64 -M virt -m 1G -smp 1 -nographic -no-reboot -kernel "$work/Image" \
    -initrd "$guest/prebuilt/initramfs.cpio.gz" \
    -drive "file=$image,format=raw,if=none,id=disk,cache=unsafe" -device virtio-blk-device,drive=disk \
    -append "console=ttyS0 quiet root=/dev/vda rw init=/usr/local/sbin/read-lists" </dev/null | tee "$work/log"
e2fsck -fp "$image" || [ $? -eq 1 ]
grep -q "The lists are read." "$work/log" || { echo "build.sh: apt does not work" >&2; exit 1; }
