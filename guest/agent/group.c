/*
 * A control group for each program: all of its processes can be ended, whatever session they have moved to.
 *
 * Only where the guest has mounted control groups of version 2. The groups lie beside each other below the one in
 * which the agent itself runs, and no controller is switched on, so they cost a folder each and limit nothing.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <linux/sched.h>, which a libc does not bring. */
#define CLONE_INTO_CGROUP 0x200000000ull
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

enum { LEFT_LIMIT = 512 };

static unsigned last_group;
/* Groups whose program is over while processes that it left behind were still in them. */
static unsigned left[LEFT_LIMIT];
static size_t left_count;

/* Read a small file as text. */
static bool read_text(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, to, size - 1);
    if (fd >= 0)
        close(fd);
    to[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* The folder of the agent's own group; NULL where there is none. */
static const char *base_folder(void)
{
    static char base[600], text[16 * 1024];
    char own[256] = "";
    if (*base)
        return base;
    /* Lines are NUMBER:CONTROLLERS:/PATH; version 2 is number 0 without controllers, and the last. */
    char *line = read_text("/proc/self/cgroup", text, sizeof text) ? strstr(text, "0::/") : NULL;
    if (line)
        snprintf(own, sizeof own, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    read_text("/proc/mounts", text, sizeof text);
    for (char *rest = text; (line = strsep(&rest, "\n"));) {
        strsep(&line, " ");
        char *where = strsep(&line, " "), *type = strsep(&line, " ");
        if (type && !strcmp(type, "cgroup2")) {
            snprintf(base, sizeof base, "%s%s", where, own[1] ? own : "");
            return base;
        }
    }
    return NULL;
}

static void path_of(char *path, size_t size, unsigned group, const char *file)
{
    snprintf(path, size, "%s/braid-%u%s", base_folder(), group, file);
}

/* True when the group is gone. */
static bool remove_group(unsigned group)
{
    char path[600];
    path_of(path, sizeof path, group, "");
    return rmdir(path) == 0 || errno != EBUSY;
}

unsigned group_open(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < left_count; i++)
        if (!remove_group(left[i]))
            left[kept++] = left[i];
    left_count = kept;

    char path[600];
    if (!base_folder())
        return 0;
    /* An agent before this one may have left groups behind. */
    for (int attempt = 0; attempt < LEFT_LIMIT; attempt++) {
        path_of(path, sizeof path, ++last_group, "");
        if (mkdir(path, 0755) == 0)
            return last_group;
        if (errno != EEXIST)
            return 0;
    }
    return 0;
}

void group_close(unsigned group)
{
    if (group && !remove_group(group) && left_count < LEFT_LIMIT)
        left[left_count++] = group;
}

/*
 * Born in its group (clone3, Linux 5.7), as moving a process there has every hart wait for the others: 20 ms.
 */
pid_t group_fork(unsigned *group)
{
    char path[600];
    if (!*group)
        return fork();
    path_of(path, sizeof path, *group, "");
    struct clone_arguments arguments = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    arguments.cgroup = folder;
    pid_t pid = folder < 0 ? -1 : syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        return 0;
    if (folder >= 0)
        close(folder);
    if (pid > 0)
        return pid;
    group_close(*group);
    *group = 0;
    return fork();
}

bool group_kill(unsigned group)
{
    char path[600];
    if (!group)
        return false;
    path_of(path, sizeof path, group, "/cgroup.kill");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool killed = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    return killed;
}
