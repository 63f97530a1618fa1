#include "threads.h"
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <stddef.h>
#include <sys/syscall.h>

static long futex(int *word, int operation, int value)
{
    register long a0 __asm__("a0") = (long)word;
    register long a1 __asm__("a1") = operation;
    register long a2 __asm__("a2") = value;
    register long a3 __asm__("a3") = 0;
    register long a7 __asm__("a7") = SYS_futex;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a7) : "memory");
    return a0;
}

/* The number of the thread is put at `number`, and 0 when it is over, which wakes who waits there. */
long start_thread(long flags, void *stack, int *number, long tls, int *cleared);
__asm__(".pushsection .text\n"
        ".type start_thread, @function\n"
        "start_thread:\n"
        ".cfi_startproc\n"
        "li a7, 220\n"
        "ecall\n"
        "beqz a0, 1f\n"
        "ret\n"
        /* The new thread: nobody called it. */
        ".cfi_undefined ra\n"
        "1:\n"
        "ld a0, 8(sp)\n"
        "ld t0, 0(sp)\n"
        "jalr t0\n"
        "li a0, 0\n"
        "li a7, 93\n"
        "ecall\n"
        ".cfi_endproc\n"
        ".size start_thread, . - start_thread\n"
        ".popsection\n");

void start(thread_t *thread, void (*run)(void *), void *argument, void *stack)
{
    void **top = (void **)stack - 2;
    top[0] = run;
    top[1] = argument;
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID |
                 CLONE_CHILD_CLEARTID;
    start_thread(flags, top, thread, 0, thread);
}

void join(thread_t *thread)
{
    int number;
    while ((number = __atomic_load_n(thread, __ATOMIC_ACQUIRE)) != 0)
        futex(thread, FUTEX_WAIT, number);
}

void lock(lock_t *lock)
{
    int was = 0;
    if (__atomic_compare_exchange_n(lock, &was, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0)
        futex(lock, FUTEX_WAIT_PRIVATE, 2);
}

void unlock(lock_t *lock)
{
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) == 2)
        futex(lock, FUTEX_WAKE_PRIVATE, 1);
}

void pass(gate_t *gate)
{
    while (!__atomic_load_n(gate, __ATOMIC_ACQUIRE))
        futex(gate, FUTEX_WAIT_PRIVATE, 0);
}

void open_gate(gate_t *gate)
{
    __atomic_store_n(gate, 1, __ATOMIC_RELEASE);
    futex(gate, FUTEX_WAKE_PRIVATE, INT_MAX);
}
