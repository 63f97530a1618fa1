/*
 * The end of the machine: processes first, as an open file keeps its file system busy; then swap and file systems,
 * the last mounted first. What cannot be unmounted, such as the root, becomes read-only, which leaves it clean too.
 */
#define _GNU_SOURCE
#include "power.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* From <linux/loop.h>, which a libc does not bring. */
#define LOOP_CLR_FD 0x4c01

enum {
    TIDY_STEPS = 20,      /* how often, STEP_MS apart, processes are looked at while they tidy up */
    STEP_MS = 25,
    MAX_MOUNTS = 1024,    /* unmounted in one pass */
    PASSES = 3,           /* a loop device holds the file system of its file until its own is gone */
};

static void pause_ms(long ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

static void end_processes(void)
{
    /* Everything but this process (a shell minds only SIGHUP); then a moment for those that tidy up. */
    if (kill(-1, SIGTERM) < 0)
        return;
    kill(-1, SIGHUP);
    for (int i = 0; i < TIDY_STEPS; i++) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        /* The first process is the parent of all: when it has no child, nothing is left. */
        if (pid < 0 && getpid() == 1)
            break;
        pause_ms(STEP_MS);
    }
    kill(-1, SIGKILL);
    while (getpid() == 1 && waitpid(-1, NULL, 0) > 0)
        ;
    /* Only a parent is told that a process is gone. */
    if (getpid() != 1)
        pause_ms(STEP_MS);
}

/* The next field of a line of /proc/mounts: its escapes (\040 for a space) are decoded in place. */
static char *field(char **rest)
{
    char *start = strsep(rest, " \t\n"), *to = start;
    for (char *from = start; from && *from; to++) {
        if (*from == '\\' && strspn(from + 1, "01234567") >= 3) {
            *to = (from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0');
            from += 4;
        } else {
            *to = *from++;
        }
    }
    if (to)
        *to = 0;
    return start;
}

static void swap_off(void)
{
    char line[4352];
    FILE *file = fopen("/proc/swaps", "re");
    /* The first line has the names of the columns. */
    for (int number = 0; file && fgets(line, sizeof line, file); number++) {
        char *rest = line, *path = field(&rest);
        if (number > 0 && path)
            swapoff(path);
    }
    if (file)
        fclose(file);
}

static void release_loop(const char *device)
{
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ioctl(fd, LOOP_CLR_FD, 0);
    close(fd);
}

/* Unmount what is on a device, the last first. True if something was still mounted and is gone now. */
static bool unmount_pass(void)
{
    static char *devices[MAX_MOUNTS], *points[MAX_MOUNTS];
    char line[8704];
    size_t count = 0;
    bool progress = false;
    FILE *file = fopen("/proc/mounts", "re");
    while (file && count < MAX_MOUNTS && fgets(line, sizeof line, file)) {
        char *rest = line, *device = field(&rest), *point = field(&rest);
        if (!device || !point || *device != '/')
            continue;
        devices[count] = strdup(device);
        points[count] = strdup(point);
        if (devices[count] && points[count])
            count++;
    }
    if (file)
        fclose(file);
    while (count-- > 0) {
        if (umount2(points[count], UMOUNT_NOFOLLOW) == 0) {
            progress = true;
            if (!strncmp(devices[count], "/dev/loop", 9))
                release_loop(devices[count]);
        } else {
            mount(NULL, points[count], NULL, MS_REMOUNT | MS_RDONLY, NULL);
        }
        free(devices[count]);
        free(points[count]);
    }
    return progress;
}

void switch_off(int how)
{
    sync();
    end_processes();
    swap_off();
    for (int pass = 0; pass < PASSES && unmount_pass(); pass++)
        ;
    sync();
    reboot(how);
}
