/*
 * A program with a past: reverse ROUNDS. Each round computes for about 62 million instructions and fills 400 pages of a large
 * memory, every fourth word of which no compressor makes smaller; so sixteen rounds are a billion instructions that dirty 26 MB.
 *
 * At the beginning of every sixteenth round it writes one more of `written`, once and never again, and says which. They are in a page
 * that is written all the time, so that nobody finds out by pages who wrote them. 0 rounds: without end.
 */
#include "bench.h"

enum { PAGE_WORDS = 512, PAGES = 24 * 1024, PAGES_A_ROUND = 400, TURNS = 5500000, ROUNDS_A_WORD = 16, WORDS = 256 };

static uint64_t memory[PAGES][PAGE_WORDS];

static struct {
    uint64_t written[WORDS];
    uint64_t busy[256];
} page __attribute__((aligned(4096)));

static KERNEL uint64_t compute(uint64_t *state)
{
    uint64_t sum = 0;
    for (int i = 0; i < TURNS; i++)
        sum += next_random(state) >> (i & 31);
    return sum;
}

static KERNEL void fill(uint64_t *words, uint64_t round, uint64_t *state)
{
    for (int i = 0; i < PAGE_WORDS; i += 4) {
        words[i] = next_random(state);
        words[i + 1] = round;
        words[i + 2] = i;
        words[i + 3] = 0;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: reverse ROUNDS\n");
        return 2;
    }
    uint64_t rounds = atoi(argv[1]), state = 88172645463325252ull, sum = 0, at = 0;
    printf("words at %llx\n", (unsigned long long)(uintptr_t)page.written);
    mark_start("reverse");
    for (uint64_t round = 0; rounds == 0 || round < rounds; round++) {
        if (round % ROUNDS_A_WORD == 0) {
            page.written[round / ROUNDS_A_WORD % WORDS] = round + 1;
            printf("word %llu\n", (unsigned long long)(round / ROUNDS_A_WORD));
            fflush(stdout);
        }
        sum += compute(&state);
        for (int i = 0; i < PAGES_A_ROUND; i++, at = (at + 1) % PAGES)
            fill(memory[at], round, &state);
        page.busy[round % 256] = sum;
    }
    mark_end("reverse", sum);
    return 0;
}
