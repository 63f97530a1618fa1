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

#endif
