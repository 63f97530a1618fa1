/*
 * Programs that `npm run bench -- fork` forks while they run. `fork write MIB` writes all over so much memory again and again;
 * `fork spin` computes without end; `fork target` is a small function to be tried with one input after the other: it says by
 * hints where it begins and ends, and its input lies at the address that the first one names.
 */
#include "bench.h"
#include "../../guest/include/braid.h"

static KERNEL void write_all(uint64_t *words, size_t count, uint64_t value)
{
    /* A word of each cache line, as a copying collector or a memset would touch them all. */
    for (size_t i = 0; i < count; i += 8)
        words[i] = value + i;
}

static KERNEL uint64_t spin(uint64_t *state)
{
    uint64_t sum = 0;
    for (int i = 0; i < 1000000; i++)
        sum += next_random(state) >> (i & 31);
    return sum;
}

static char input[256];
static uint64_t table[50 * 512];

/* Parses digits and letters, and notes what it sees in fifty pages. */
static KERNEL uint64_t parse(const char *text)
{
    uint64_t sum = 0;
    for (int i = 0; i < 256 && text[i]; i++) {
        sum = sum * 31 + (text[i] >= '0' && text[i] <= '9' ? text[i] - '0' : text[i]);
        table[(i % 50) * 512 + (sum & 511)]++;
    }
    for (int page = 0; page < 50; page++)
        table[page * 512] += sum;
    return sum;
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    uint64_t state = 88172645463325252ull;
    if (!strcmp(what, "write")) {
        size_t words = ((size_t)atoi(arguments[2]) << 20) / 8;
        uint64_t *memory = malloc(words * 8);
        for (uint64_t round = 1; memory; round++) {
            write_all(memory, words, round);
            if (round == 2)
                mark_start("write");
        }
    } else if (!strcmp(what, "spin")) {
        mark_start("spin");
        for (;;)
            if (spin(&state) == 1)
                puts("");
    } else if (!strcmp(what, "target")) {
        memset(input, 'a', sizeof input - 1);
        memset(table, 1, sizeof table);
        char place[32];
        snprintf(place, sizeof place, "%llx", (unsigned long long)(uintptr_t)input);
        braid_mark(place);
        uint64_t sum = parse(input);
        braid_mark("end");
        printf("%llx\n", (unsigned long long)sum);
        return 0;
    }
    fprintf(stderr, "usage: fork write MIB | fork spin | fork target\n");
    return 2;
}
