/* What the examples' programs need of a C library, so that they are a few kilobytes: system calls of riscv64 Linux. */
#include <stddef.h>
#include <unistd.h>

int main(int argc, char **argv);

static long call(long number, long a, long b, long c)
{
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

ssize_t read(int file, void *to, size_t size) { return call(63, file, (long)to, size); }
ssize_t write(int file, const void *from, size_t size) { return call(64, file, (long)from, size); }
void _exit(int status)
{
    for (;;)
        call(94, status, 0, 0);
}

/* The stack holds argc, then argv. */
__attribute__((used)) static void begin(long *stack) { _exit(main((int)stack[0], (char **)(stack + 1))); }
__asm__(".globl _start\n"
        "_start:\n"
        ".option push\n"
        ".option norelax\n"
        "lla gp, __global_pointer$\n"
        ".option pop\n"
        "mv a0, sp\n"
        "andi sp, sp, -16\n"
        "tail begin\n");
