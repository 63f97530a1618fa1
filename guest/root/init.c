/*
 * The first process of Braid's default guest.
 *
 * It prepares the file systems, starts the guest agent, and then either boots the disk named by
 * root= on the kernel command line, or keeps a shell on the console until the machine is switched
 * off. A compiled program and not a script, because every fork and exec of a script would come
 * before the prompt: this way the first program executed after this one is the agent, the second
 * is the shell.
 *
 * As in busybox init, SIGUSR2 asks for power off, SIGTERM for a reboot and SIGUSR1 for a halt:
 * `poweroff`, `reboot` and `halt` send exactly these.
 */
#define _GNU_SOURCE
#include "../agent/power.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char agent[] = "/sbin/braid-agent";

static char command_line[4096];
static sigset_t handled;

static void say(const char *what, const char *subject)
{
    dprintf(STDERR_FILENO, "init: %s %s: %s\n", what, subject, strerror(errno));
}

static void pause_ms(long ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *options)
{
    mkdir(target, 0755);
    if (mount(type, target, type, flags, options) < 0)
        say("cannot mount", target);
}

static void mount_all(void)
{
    mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
    mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
    mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    symlink("/proc/self/fd", "/dev/fd");
    symlink("fd/0", "/dev/stdin");
    symlink("fd/1", "/dev/stdout");
    symlink("fd/2", "/dev/stderr");
}

static void loopback_up(void)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
}

static size_t read_file(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, to, size - 1);
    if (fd >= 0)
        close(fd);
    to[got > 0 ? got : 0] = 0;
    return got > 0 ? got : 0;
}

/* The value of `name=value`, or "" for a bare `name`, on the kernel command line; else NULL. */
static const char *option(const char *name)
{
    static char value[512];
    size_t length = strlen(name);
    const char *found = NULL, *end;
    /* The last one wins, as in the kernel. */
    for (const char *word = command_line + strspn(command_line, " \n"); *word; word = end + strspn(end, " \n")) {
        end = word + strcspn(word, " \n");
        if (strncmp(word, name, length) || (word[length] != '=' && word + length != end))
            continue;
        const char *start = word[length] == '=' ? word + length + 1 : end;
        snprintf(value, sizeof value, "%.*s", (int)(end - start), start);
        found = value;
    }
    return found;
}

/*
 * A kernel with its drivers in modules comes with a second archive, unpacked over ours: the files of
 * the modules, and a list of them in the order in which they need each other.
 */
static void load_modules(void)
{
    FILE *list = fopen("/etc/modules.load", "re");
    char path[256];
    while (list && fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
            say("cannot load", path);
        if (fd >= 0)
            close(fd);
    }
    if (list)
        fclose(list);
}

/* A child with the signals and the session of an ordinary program. Returns 0 in the child. */
static pid_t fork_clean(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        sigprocmask(SIG_UNBLOCK, &handled, NULL);
        setsid();
    }
    return pid;
}

static pid_t start_agent(void)
{
    pid_t pid = fork_clean();
    if (pid == 0) {
        execl(agent, "braid-agent", NULL);
        _exit(127);
    }
    return pid;
}

/*
 * The shell gets the real terminal behind /dev/console, since the console device itself cannot be a
 * controlling terminal and there would be no Ctrl-C. The kernel lists the consoles in
 * /sys/class/tty/console/active; the last one is the one that /dev/console means.
 */
static pid_t start_shell(void)
{
    pid_t pid = fork_clean();
    if (pid)
        return pid;

    char active[128], path[160] = "/dev/console";
    read_file("/sys/class/tty/console/active", active, sizeof active);
    active[strcspn(active, "\n")] = 0;
    char *last = strrchr(active, ' ');
    if (*active)
        snprintf(path, sizeof path, "/dev/%s", last ? last + 1 : active);

    int fd = open(path, O_RDWR);
    if (fd < 0)
        fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd >= 0) {
        ioctl(fd, TIOCSCTTY, 1);
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
        if (fd > 2)
            close(fd);
    }
    chdir("/root");
    execl("/bin/sh", "-sh", NULL);
    say("cannot execute", "/bin/sh");
    _exit(127);
}

static void shut_down(int how)
{
    switch_off(how);
    for (;;)
        pause();
}

/* --- Booting a disk --- */

/* Delete the files of the initial root, which would otherwise stay in memory for ever. */
static void delete_tree(int folder, dev_t device)
{
    DIR *dir = fdopendir(folder);
    struct dirent *entry;
    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        struct stat status;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 || status.st_dev != device)
            continue;
        if (S_ISDIR(status.st_mode)) {
            int child = openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (child >= 0)
                delete_tree(child, device);
            unlinkat(folder, entry->d_name, AT_REMOVEDIR);
        } else {
            unlinkat(folder, entry->d_name, 0);
        }
    }
    closedir(dir);
}

static int mount_root(const char *device, const char *types, unsigned long flags)
{
    /* The usual one first: the kernel complains about each of the others. */
    char list[512] = "ext4\n";
    if (types)
        snprintf(list, sizeof list, "%s", types);
    else
        read_file("/proc/filesystems", list + 5, sizeof list - 5);
    /* Lines are "nodev\tTYPE" or "\tTYPE"; rootfstype= is TYPE,TYPE. */
    for (char *rest = list, *type; (type = strsep(&rest, "\n,"));) {
        if (!strncmp(type, "nodev", 5))
            continue;
        type += *type == '\t';
        if (*type && mount(device, "/newroot", type, flags, option("rootflags")) == 0)
            return 0;
    }
    return -1;
}

/* Run our agent from the old root only if the disk brings none, as one process holds the port. */
static int disk_has_agent(void)
{
    return !access("/usr/sbin/qemu-ga", X_OK) || !access("/usr/bin/qemu-ga", X_OK) ||
           !access("/usr/sbin/braid-agent", X_OK);
}

/* Returns only if the disk cannot be booted; nothing is lost then. */
static void boot_disk(const char *device, char **arguments)
{
    static const char *const inits[] = { "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };
    static const char *const kept[] = { "/dev", "/proc", "/sys", "/run" };
    static char path[512], name[512], type_list[512];

    /* Every answer of option() takes the place of the one before. */
    snprintf(name, sizeof name, "%s", device);
    unsigned long flags = option("rw") ? 0 : MS_RDONLY;
    const char *types = option("rootfstype");
    if (types)
        types = strcpy(type_list, types);
    mkdir("/newroot", 0755);
    /* A disk is there by the time that init runs, except one that is plugged in meanwhile. */
    for (int i = 0; i < 200 && access(name, F_OK) < 0; i++)
        pause_ms(25);
    if (mount_root(name, types, flags) < 0) {
        say("cannot mount root", name);
        return;
    }

    const char *asked = option("init");
    snprintf(name, sizeof name, "%s", asked ? asked : "");
    const char *found = asked ? name : NULL;
    for (size_t i = 0; !found && i < sizeof inits / sizeof *inits; i++) {
        struct stat status;
        snprintf(path, sizeof path, "/newroot%s", inits[i]);
        /* lstat, as an absolute symbolic link leads somewhere else until the root has changed. */
        if (lstat(path, &status) == 0)
            found = inits[i];
    }
    if (!found) {
        dprintf(STDERR_FILENO, "init: no init program on the disk\n");
        umount2("/newroot", MNT_DETACH);
        return;
    }

    umount2("/tmp", MNT_DETACH);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(path, sizeof path, "/newroot%s", kept[i]);
        if (mount(kept[i], path, NULL, MS_MOVE, NULL) < 0)
            umount2(kept[i], MNT_DETACH);
    }
    int agent_program = open(agent, O_RDONLY | O_CLOEXEC);
    int old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    fstat(old_root, &status);
    if (chdir("/newroot") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
        say("cannot change to", "the new root");
        return;
    }
    delete_tree(old_root, status.st_dev);

    if (agent_program >= 0 && !disk_has_agent() && fork_clean() == 0) {
        char *alone[] = { "braid-agent", NULL };
        fexecve(agent_program, alone, environ);
        _exit(127);
    }
    sigprocmask(SIG_UNBLOCK, &handled, NULL);
    /* The kernel hands over the words of the command line that it does not know, such as "single". */
    arguments[0] = (char *)found;
    execv(found, arguments);
    say("cannot execute", found);
    execl("/bin/sh", "sh", NULL);
    shut_down(RB_POWER_OFF);
}

int main(int count, char **arguments)
{
    (void)count;
    sigemptyset(&handled);
    sigaddset(&handled, SIGCHLD);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGUSR1);
    sigaddset(&handled, SIGUSR2);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    reboot(RB_DISABLE_CAD);

    umask(022);
    /* The kernel makes it for everybody to write in. */
    chmod("/", 0755);
    mount_all();
    load_modules();
    sethostname("braid", 5);
    loopback_up();
    clearenv();
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("TERM", "linux", 1);
    read_file("/proc/cmdline", command_line, sizeof command_line);

    const char *root = option("root");
    if (root && !strncmp(root, "/dev/", 5) && strcmp(root, "/dev/ram0"))
        boot_disk(root, arguments);

    pid_t agent_pid = start_agent();
    pid_t shell_pid = start_shell();
    for (;;) {
        int status;
        pid_t pid;
        switch (sigwaitinfo(&handled, NULL)) {
        case SIGUSR1:
            shut_down(RB_HALT_SYSTEM);
            break;
        case SIGUSR2:
            shut_down(RB_POWER_OFF);
            break;
        case SIGTERM:
            shut_down(RB_AUTOBOOT);
            break;
        }
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid == shell_pid) {
                dprintf(STDOUT_FILENO, "\nThe shell has ended; here is another. (`poweroff` switches the machine off.)\n");
                /* A shell that cannot start must not keep the machine busy. */
                if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                    pause_ms(1000);
                shell_pid = start_shell();
            } else if (pid == agent_pid) {
                /* It exits in peace when the machine has no port for it. */
                agent_pid = WIFSIGNALED(status) ? start_agent() : 0;
            }
        }
    }
}
