/*
 * Hints of a program to the Braid monitor that it runs on.
 *
 * Any process may call these, in user mode, without a driver; a C library is not needed. A hint is an instruction that the
 * RISC-V specification sets aside for custom use: on other machines, and on a Braid whose host has not enabled it, it does
 * nothing and the function returns 0. On other processors than 64-bit RISC-V nothing is executed at all. So a program may keep
 * its hints wherever it runs.
 *
 *     int i = braid_branch(3);           the machine goes on four times: here, and in three clones
 *     if (i > 0) {
 *         try_way(i, &answer);
 *         braid_result(&answer, sizeof answer);
 *         braid_done(0);                 the monitor compares, keeps, or stops this clone
 *     } else if (braid_take(2)) {
 *         use(&answer);                  as clone 2 has left it
 *     }
 *
 * What a function returns depends on what the host makes of the hint; 0 is also the answer of a host that listens and makes
 * nothing of it. Each hint may be executed as often as the host allows; beyond that it does nothing. docs/hints.md has the
 * instruction itself.
 *
 * Code may also be left for replays of a recording only (docs/replay-only.md):
 *
 *     BRAID_REPLAY_ONLY(7)
 *     {
 *         expensive_check();
 *         fflush(stdout);
 *     }
 */
#ifndef BRAID_H
#define BRAID_H

#ifdef __cplusplus
extern "C" {
#endif

/* The most clones of one branch, and the most bytes of one result and of a name. */
#define BRAID_MAX_BRANCHES 64
#define BRAID_MAX_RESULT (1ul << 20)
#define BRAID_MAX_MARK 256ul

/* How braid_take_as takes a branch. */
#define BRAID_AS_HOST_SAYS 0
#define BRAID_COPY 1
#define BRAID_ADOPT 2

/* An answer of a host that is not done yet: it has files put in place by other processes. */
#define BRAID_LATER_ (1ul << 32)

#if defined(__riscv) && __riscv_xlen == 64
/* Lets other processes run for a millisecond: nanosleep of Linux, which is where such an answer comes. */
static inline void braid_wait_(void)
{
    struct {
        long seconds, nanoseconds;
    } braid_time = {0, 1000000};
    register long braid_a0 __asm__("a0") = (long)&braid_time;
    register long braid_a1 __asm__("a1") = 0;
    register long braid_a7 __asm__("a7") = 101;
    __asm__ volatile("ecall" : "+r"(braid_a0) : "r"(braid_a1), "r"(braid_a7) : "memory");
}

/*
 * slti x0, t1, number: t1 holds Braid's number, a0 and a1 the arguments, and t0, 0 before, the answer after it. Memory is
 * named because the monitor reads what has been written, and may have written when the program goes on.
 */
#define BRAID_HINT_(name, number)                                                                                      \
    static inline unsigned long name(unsigned long first, unsigned long second)                                        \
    {                                                                                                                  \
        for (;;) {                                                                                                     \
            register unsigned long braid_answer __asm__("t0") = 0;                                                     \
            register unsigned long braid_magic __asm__("t1") = 0x6272616964310a0dul;                                   \
            register unsigned long braid_first __asm__("a0") = first;                                                  \
            register unsigned long braid_second __asm__("a1") = second;                                                \
            __asm__ volatile("slti x0, t1, " #number                                                                   \
                             : "+r"(braid_answer)                                                                      \
                             : "r"(braid_magic), "r"(braid_first), "r"(braid_second)                                   \
                             : "memory");                                                                              \
            if (braid_answer != BRAID_LATER_)                                                                          \
                return braid_answer;                                                                                   \
            braid_wait_();                                                                                             \
        }                                                                                                              \
    }
#else
#define BRAID_HINT_(name, number)                                                                                      \
    static inline unsigned long name(unsigned long first, unsigned long second)                                        \
    {                                                                                                                  \
        (void)first;                                                                                                   \
        (void)second;                                                                                                  \
        return 0;                                                                                                      \
    }
#endif

BRAID_HINT_(braid_hint_branch_, 1)
BRAID_HINT_(braid_hint_result_, 2)
BRAID_HINT_(braid_hint_done_, 3)
BRAID_HINT_(braid_hint_take_, 4)
BRAID_HINT_(braid_hint_mark_, 5)
#undef BRAID_HINT_

#if defined(__riscv) && __riscv_xlen == 64
#define BRAID_REPLAY_ONLY_HINT_(name, number)                                                                          \
    static inline unsigned long name(unsigned long code)                                                               \
    {                                                                                                                  \
        register unsigned long braid_answer __asm__("t0") = 0;                                                         \
        register unsigned long braid_magic __asm__("t1") = 0x6272616964310a0dul;                                       \
        register unsigned long braid_code __asm__("a0") = code;                                                        \
        __asm__ volatile("slti x0, t1, " #number                                                                       \
                         : "+r"(braid_answer)                                                                          \
                         : "r"(braid_magic), "r"(braid_code)                                                           \
                         : "memory");                                                                                  \
        return braid_answer;                                                                                           \
    }
#else
#define BRAID_REPLAY_ONLY_HINT_(name, number)                                                                          \
    static inline unsigned long name(unsigned long code)                                                               \
    {                                                                                                                  \
        (void)code;                                                                                                    \
        return 0;                                                                                                      \
    }
#endif

BRAID_REPLAY_ONLY_HINT_(braid_hint_replay_only_begin_, 6)
BRAID_REPLAY_ONLY_HINT_(braid_hint_replay_only_end_, 7)
#undef BRAID_REPLAY_ONLY_HINT_

/*
 * Has the whole machine go on in `count` clones besides itself (1 to BRAID_MAX_BRANCHES). Each clone gets its index, from 1 on;
 * the original gets 0, and so does everybody where nothing branches. Where the host chooses, it may have what a branch resulted in
 * put in place before the original goes on: then the original gets that branch's index, negated.
 */
static inline int braid_branch(int count)
{
    return (int)braid_hint_branch_((unsigned long)count, 0);
}

/*
 * Declares `length` bytes at `data` to be what this branch results in, or a part of it: at most BRAID_MAX_RESULT at once. The
 * bytes are copied at once. Where the original takes the branch they are put at the same address, so memory that the original
 * is to have should be written to before braid_branch, for it to have pages there. Returns 1 when they were taken.
 */
static inline int braid_result(const void *data, unsigned long length)
{
    return (int)braid_hint_result_((unsigned long)data, length);
}

/* The branch is complete; `status` is 0 for success by convention. Returns 1 when somebody has noticed, if it returns. */
static inline int braid_done(int status)
{
    return (int)braid_hint_done_((unsigned long)status, 0);
}

/*
 * In the original: chooses the branch with this index, or none by 0, once that is complete. BRAID_COPY has what it resulted in put
 * in place, and returns 1. BRAID_ADOPT makes the whole machine what the branch's has become: where that works it does not return,
 * and the branch goes on after its braid_done, which returns 1.
 */
static inline int braid_take_as(int index, int mode)
{
    return (int)braid_hint_take_((unsigned long)index, (unsigned long)mode);
}

/* As braid_take_as, in the way that the host prefers: BRAID_COPY unless it says otherwise. */
static inline int braid_take(int index)
{
    return braid_take_as(index, BRAID_AS_HOST_SAYS);
}

/* Names this position for the host: a text of at most BRAID_MAX_MARK bytes. Returns 1 when it was noted. */
static inline int braid_mark(const char *name)
{
    unsigned long length = 0;
    while (name[length] != 0 && length <= BRAID_MAX_MARK)
        length++;
    return (int)braid_hint_mark_((unsigned long)name, length);
}

/*
 * Begins code that only a replay runs, and only one that is asked for the code with this number: there it returns 1, and the machine
 * leaves the recording until braid_replay_only_end with the same number. What the code changed is gone then, and what it has written to
 * standard output and standard error is shown; so it flushes. Everywhere else this returns 0, at the cost of some instructions:
 *
 *     if (braid_replay_only_begin(7)) {
 *         expensive_check();
 *         braid_replay_only_end(7);
 *     }
 */
static inline int braid_replay_only_begin(unsigned long code)
{
    return (int)braid_hint_replay_only_begin_(code);
}

static inline void braid_replay_only_end(unsigned long code)
{
    (void)braid_hint_replay_only_end_(code);
}

/* The block that follows is replay-only code; it may be left by `break` and `continue`, and not by `goto` and `return`. */
#define BRAID_REPLAY_ONLY(code)                                                                                        \
    for (int braid_once_ = braid_replay_only_begin(code); braid_once_; braid_once_ = 0, braid_replay_only_end(code))   \
        for (; braid_once_; braid_once_ = 0)

#ifdef __cplusplus
}
#endif

#endif
