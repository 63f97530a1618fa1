/*
 * notices </dev/hwrng: four readers go through a board of notices, each at its own pace. A reader leaves out what is not for it. A notice may be
 * taken down when nobody has to read it any more; at the end all can be, and that is checked.
 *
 * There is a bug in it, of a common kind: it fails once in some twenty runs, and never when it is looked at.
 */
#include "threads.h"
#include <braid.h>
#include <stddef.h>
#include <unistd.h>

enum { READERS = 4, NOTICES = 2000, STACK = 4096 };

struct notice {
    /* A bit for each reader that has not done with it. */
    unsigned waiting;
    unsigned char length;
    /* Of no interest to the reader with this number. */
    unsigned char topic;
};

static struct board {
    lock_t lock;
    /* Readers wait for this, so that they begin together. */
    gate_t open;
    struct notice notices[NOTICES];
} board;

static char stacks[READERS][STACK] __attribute__((aligned(16)));
static thread_t threads[READERS];
/* What the readers made of it all. */
static unsigned digests[READERS];

static void say(const char *text)
{
    const char *end = text;
    while (*end)
        end++;
    write(1, text, end - text);
}

static void say_number(unsigned number)
{
    char digits[12], *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = '0' + number % 10;
    while (number /= 10);
    say(at);
}

/* A reader has read a notice. */
__attribute__((noinline)) static void finish(struct notice *notice, unsigned reader)
{
    lock(&board.lock);
    notice->waiting &= ~(1u << reader);
    unlock(&board.lock);
}

/* A reader leaves a notice out. */
__attribute__((noinline)) static void leave_out(struct notice *notice, unsigned reader)
{
    notice->waiting &= ~(1u << reader);
}

static void read_board(void *argument)
{
    unsigned reader = (unsigned long)argument;
    unsigned digest = 1;
    pass(&board.open);
    for (unsigned i = 0; i < NOTICES; i++) {
        struct notice *notice = board.notices + i;
        if (notice->topic == reader) {
            leave_out(notice, reader);
            continue;
        }
        for (unsigned left = notice->length; left > 0; left--)
            digest = digest * 31 + left;
        finish(notice, reader);
    }
    digests[reader] = digest;
}

/* All that is left: more than one wants to read, and to wait for, in every run. */
static void list(void)
{
    for (unsigned i = 0; i < NOTICES; i++) {
        if (board.notices[i].waiting == 0)
            continue;
        say("notice ");
        say_number(i);
        say(" waits for");
        for (unsigned reader = 0; reader < READERS; reader++)
            if (board.notices[i].waiting >> reader & 1) {
                say(" ");
                say_number(reader);
            }
        say("\n");
    }
}

/* Says what is wrong. */
__attribute__((noinline)) static void complain(unsigned notice, unsigned reader)
{
    braid_mark("a notice is left");
    BRAID_REPLAY_ONLY(1)
    {
        list();
    }
    say("error: notice ");
    say_number(notice);
    say(" still waits for reader ");
    say_number(reader);
    say("\n");
}

static int check(void)
{
    for (unsigned i = 0; i < NOTICES; i++)
        for (unsigned reader = 0; reader < READERS; reader++)
            if (board.notices[i].waiting >> reader & 1) {
                complain(i, reader);
                return 1;
            }
    return 0;
}

/* What is on the board comes from standard input, two bytes a notice. */
static int fill(void)
{
    static unsigned char given[NOTICES][2];
    for (size_t have = 0; have < sizeof given;) {
        ssize_t size = read(0, given[0] + have, sizeof given - have);
        if (size <= 0)
            return 0;
        have += size;
    }
    for (unsigned i = 0; i < NOTICES; i++)
        board.notices[i] = (struct notice){(1u << READERS) - 1, given[i][0], given[i][1] % READERS};
    return 1;
}

int main(void)
{
    if (!fill()) {
        say("error: the board is not full; use notices </dev/hwrng\n");
        return 2;
    }
    for (unsigned long i = 0; i < READERS; i++)
        start(threads + i, read_board, (void *)i, stacks[i] + STACK);
    open_gate(&board.open);
    for (unsigned i = 0; i < READERS; i++)
        join(threads + i);
    if (check())
        return 1;
    say("all notices were read by all: digest ");
    say_number(digests[0] ^ digests[1] ^ digests[2] ^ digests[3]);
    say("\n");
    return 0;
}
