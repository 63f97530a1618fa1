#!/bin/sh
# Check that the committed guest is what its sources build: verify.sh
#
# Builds twice, in folders with names of different lengths, one after the other, with different umasks,
# time zones and languages, and compares both with guest/prebuilt bit by bit. BRAID_GUEST_WORK names a folder
# for the two builds, to keep; without it a temporary one is used.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${BRAID_GUEST_WORK:-}" ]; then
    work=$BRAID_GUEST_WORK
    mkdir -p "$work"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

(
    umask 077
    export TZ=Asia/Tokyo LANG=C.UTF-8 SOURCE_DATE_EPOCH=1
    BRAID_GUEST_WORK=$work/a "$here/build.sh" "$work/a/result"
)
(
    umask 002
    export TZ=America/Lima HOME="$work"
    unset LANG
    BRAID_GUEST_WORK=$work/another-place/with-a-longer-name "$here/build.sh" "$work/b/result"
)

status=0
for file in Image.gz initramfs.cpio.gz SHA256SUMS VERSIONS; do
    cmp "$work/a/result/$file" "$work/b/result/$file" || status=1
    cmp "$work/a/result/$file" "$here/prebuilt/$file" || status=1
done
if [ $status = 0 ]; then
    echo "Both builds are the same as guest/prebuilt."
else
    echo "They differ. If VERSIONS does, so do the packages." >&2
fi
exit $status
