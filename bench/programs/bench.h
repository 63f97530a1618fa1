/*
 * What the programs of the benchmarks share: markers on standard output, by which a host times what lies between them, and
 * numbers that are the same everywhere.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not inlined, so that each kernel stays the loop that it says. */
#define KERNEL __attribute__((noinline))

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* "<NAME>" on a line of its own, at once. */
static inline void mark_start(const char *name)
{
    printf("<%s>\n", name);
    fflush(stdout);
}

/* "</NAME VALUE>": a value that depends on all the work keeps the compiler honest, and machines can be compared by it. */
static inline void mark_end(const char *name, uint64_t value)
{
    printf("</%s %016llx>\n", name, (unsigned long long)value);
    fflush(stdout);
}

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

struct kernel { const char *name; uint64_t (*run)(int repetitions); };

/* main of a program of kernels, PROGRAM KERNEL REPETITIONS: one repetition first, which touches its memory, then the marked ones. */
static inline int run_kernel(const struct kernel *kernels, size_t count, int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < count; i++) {
        if (strcmp(argv[1], kernels[i].name))
            continue;
        kernels[i].run(1);
        mark_start(argv[1]);
        mark_end(argv[1], kernels[i].run(atoi(argv[2])));
        return 0;
    }
    fprintf(stderr, "usage: %s KERNEL REPETITIONS\n", argv[0]);
    return 2;
}

#endif
