# Sourced by the build scripts: a static C compiler for the guest.
#
#   musl_setup FOLDER      unpack Debian's riscv64 musl-dev into FOLDER/musl (needs riscv64_apt)
#   musl_cc OUT FILE...    compile and link FILE... into the static program OUT
#
# musl instead of the cross compiler's glibc: a static program is tens of kilobytes, not hundreds, and
# starts in a few thousand instructions.

musl_setup() {
    musl=$1/musl
    [ -d "$musl/usr" ] && return
    mkdir -p "$musl"
    dpkg-deb -x "$(riscv64_fetch "$1" musl-dev)" "$musl"
}

musl_cc() {
    musl_out=$1
    shift
    riscv64-linux-gnu-gcc -std=gnu11 -Os -Wall -Wextra -Werror -fno-pie -no-pie -static -s \
        -march=rv64gc -mabi=lp64d -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables \
        -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,norelro \
        -nostdlib -nostdinc -isystem "$musl/usr/include/riscv64-linux-musl" \
        -isystem "$(riscv64-linux-gnu-gcc -print-file-name=include)" \
        -o "$musl_out" "$musl/usr/lib/riscv64-linux-musl/crt1.o" "$musl/usr/lib/riscv64-linux-musl/crti.o" \
        "$@" "$musl/usr/lib/riscv64-linux-musl/libc.a" -lgcc "$musl/usr/lib/riscv64-linux-musl/crtn.o"
}
