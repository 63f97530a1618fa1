/* Threads, a lock and a gate for a program without a C library: clone and futex of Linux on riscv64. */
#ifndef THREADS_H
#define THREADS_H

/* Of a thread that runs: not 0. */
typedef int thread_t;
/* 0 free, 1 held, 2 held and somebody waits. */
typedef int lock_t;
/* 0 shut, 1 open. */
typedef int gate_t;

/* Runs `run(argument)` in a thread of its own, whose stack ends at `stack`. */
void start(thread_t *thread, void (*run)(void *), void *argument, void *stack);
/* Waits for its end. */
void join(thread_t *thread);

void lock(lock_t *lock);
void unlock(lock_t *lock);

/* Waits until the gate is open. */
void pass(gate_t *gate);
void open_gate(gate_t *gate);

#endif
