# Sourced by the build scripts of the examples: example_cc OUT FILE... makes a static riscv64 program of a few kilobytes,
# stripped unless the script says otherwise by example_debug.
example_cc() {
    example_out=$1
    shift
    riscv64-linux-gnu-gcc -std=gnu11 -Os -Wall -Wextra -Werror -march=rv64gc -mabi=lp64d \
        -ffreestanding -fno-builtin -fno-stack-protector -fno-pie -no-pie -static -nostdlib ${example_debug:--s} \
        -fno-asynchronous-unwind-tables -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,max-page-size=4096 \
        -o "$example_out" "$examples/lib/start.c" "$@"
}
