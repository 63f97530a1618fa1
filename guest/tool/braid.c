/*
 * The hints of include/braid.h for shell scripts.
 *
 *     i=$(braid branch 4)
 *     if [ "$i" -gt 0 ]; then
 *         try-way "$i" >/tmp/out; status=$?
 *         braid result /tmp/out
 *         braid done $status
 *     fi
 *     braid take 2 >/tmp/out
 *
 * `branch` prints the index; where the host has chosen, negated. The others exit with 0 when the monitor has done what was asked and with 1 when not, as on a
 * machine without one; 2 is a mistake in how the tool was called.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../include/braid.h"

enum { TAKEN = 0, IGNORED = 1, MISUSED = 2, PAGE = 4096 };

/*
 * What a branch results in. The program is not relocated, so this has the same address in the process that declares it, in a
 * clone, and in the one that takes it, in the original.
 */
static struct {
    unsigned long length;
    char bytes[BRAID_MAX_RESULT - sizeof(unsigned long)];
} result __attribute__((aligned(PAGE)));

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(MISUSED);
}

static int refuse(const char *subject, const char *why)
{
    say("braid: ");
    say(subject);
    say(": ");
    say(why);
    say("\n");
    return MISUSED;
}

static int usage(void)
{
    say("usage: braid branch COUNT    go on in COUNT clones too; prints the index, 0 in the original\n"
        "       braid result [FILE]   what this branch gives, at most 1 MiB; standard input without FILE\n"
        "       braid done [STATUS]   the branch is complete\n"
        "       braid take INDEX      choose a branch; prints what it gave\n"
        "       braid adopt INDEX     choose a branch, and go on as it has\n"
        "       braid mark NAME       name this position\n");
    return MISUSED;
}

/* Everything, or 0. */
static int write_all(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        bytes += n;
        length -= (size_t)n;
    }
    return 1;
}

static int number(const char *text, long low, long high, long *value)
{
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && *value >= low && *value <= high;
}

static void touch_result(void)
{
    for (size_t at = 0; at < sizeof result; at += PAGE)
        ((volatile char *)&result)[at] = 0;
}

static int branch(const char *text)
{
    long count;
    if (!number(text, 1, BRAID_MAX_BRANCHES, &count))
        return refuse(text, "not 1 to 64 clones");
    /* So that there is a page wherever the host may put what it has chosen. */
    touch_result();
    int index = braid_branch((int)count);
    int chosen = index < 0;
    if (chosen)
        index = -index;
    char digits[12];
    char *at = digits + sizeof digits;
    *--at = '\n';
    do
        *--at = (char)('0' + index % 10);
    while ((index /= 10) > 0);
    if (chosen)
        *--at = '-';
    return write_all(at, (size_t)(digits + sizeof digits - at)) ? TAKEN : refuse("standard output", strerror(errno));
}

static int declare(const char *file)
{
    int in = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    const char *name = file ? file : "standard input";
    if (in < 0)
        return refuse(name, strerror(errno));
    for (;;) {
        size_t room = sizeof result.bytes - result.length;
        char more;
        ssize_t n = room > 0 ? read(in, result.bytes + result.length, room) : read(in, &more, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return refuse(name, strerror(errno));
        if (n == 0)
            break;
        if (room == 0)
            return refuse(name, "more than 1 MiB");
        result.length += (size_t)n;
    }
    return braid_result(&result, sizeof result.length + result.length) ? TAKEN : IGNORED;
}

static int take(const char *text)
{
    long index;
    if (!number(text, 0, BRAID_MAX_BRANCHES, &index))
        return refuse(text, "not the index of a branch");
    /* So that there is a page wherever something may be put. */
    touch_result();
    if (!braid_take((int)index))
        return IGNORED;
    if (result.length > sizeof result.bytes)
        return refuse(text, "its result is not of this tool");
    return write_all(result.bytes, result.length) ? TAKEN : refuse("standard output", strerror(errno));
}

static int adopt(const char *text)
{
    long index;
    if (!number(text, 1, BRAID_MAX_BRANCHES, &index))
        return refuse(text, "not the index of a branch");
    return braid_take_as((int)index, BRAID_ADOPT) ? TAKEN : IGNORED;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    const char *argument = argc > 2 ? argv[2] : NULL;
    if (argc > 3)
        return usage();
    if (strcmp(verb, "result") == 0)
        return declare(argument);
    if (strcmp(verb, "done") == 0) {
        long status = 0;
        if (argument && !number(argument, INT_MIN, INT_MAX, &status))
            return refuse(argument, "not a status");
        return braid_done((int)status) ? TAKEN : IGNORED;
    }
    if (!argument)
        return usage();
    if (strcmp(verb, "branch") == 0)
        return branch(argument);
    if (strcmp(verb, "take") == 0)
        return take(argument);
    if (strcmp(verb, "adopt") == 0)
        return adopt(argument);
    if (strcmp(verb, "mark") == 0) {
        if (strlen(argument) > BRAID_MAX_MARK)
            return refuse(argument, "longer than 256 bytes");
        return braid_mark(argument) ? TAKEN : IGNORED;
    }
    return usage();
}
