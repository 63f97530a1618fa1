/* Time, names, random numbers, and switching off. */
#define _GNU_SOURCE
#include "agent.h"
#include "power.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* From <linux/rtc.h>, which a libc does not bring. */
struct rtc_time { int sec, min, hour, mday, mon, year, wday, yday, isdst; };
#define RTC_RD_TIME _IOR('p', 0x09, struct rtc_time)
#define RTC_SET_TIME _IOW('p', 0x0a, struct rtc_time)
/* From <linux/random.h>: have the kernel make its key of random numbers anew, now. */
#define RNDRESEEDCRNG _IO('R', 0x07)

static const char *get_time(const struct json *arguments, struct buf *result)
{
    struct timespec now;
    (void)arguments;
    clock_gettime(CLOCK_REALTIME, &now);
    buf_add_number(result, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    return NULL;
}

/* With a time: set the system's clock and the hardware's. Without: the system's from the hardware's. */
static const char *set_time(const struct json *arguments, struct buf *result)
{
    const struct json *asked = json_member(arguments, "time");
    int64_t nanoseconds;
    (void)result;
    int rtc = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
    struct timespec now = { 0 };
    struct rtc_time hardware = { 0 };
    struct tm calendar = { 0 };
    const char *error = NULL;

    if (asked) {
        if (!json_integer(asked, &nanoseconds) || nanoseconds < 0)
            error = "time has to be a number of nanoseconds";
        now.tv_sec = nanoseconds / 1000000000;
        now.tv_nsec = nanoseconds % 1000000000;
    } else if (rtc < 0 || ioctl(rtc, RTC_RD_TIME, &hardware) < 0) {
        error = error_text("cannot read the hardware clock: %s", strerror(errno));
    } else {
        calendar = (struct tm){ .tm_sec = hardware.sec, .tm_min = hardware.min, .tm_hour = hardware.hour,
                                .tm_mday = hardware.mday, .tm_mon = hardware.mon, .tm_year = hardware.year };
        now.tv_sec = timegm(&calendar);
    }
    if (!error && clock_settime(CLOCK_REALTIME, &now) < 0)
        error = error_text("cannot set the time: %s", strerror(errno));
    if (!error && asked && rtc >= 0 && gmtime_r(&now.tv_sec, &calendar)) {
        hardware = (struct rtc_time){ calendar.tm_sec, calendar.tm_min, calendar.tm_hour, calendar.tm_mday,
                                      calendar.tm_mon, calendar.tm_year, 0, 0, 0 };
        ioctl(rtc, RTC_SET_TIME, &hardware);
    }
    if (rtc >= 0)
        close(rtc);
    return error;
}

static void add_member(struct buf *result, const char *name, const char *text, size_t length)
{
    buf_add_text(result, result->length ? ",\"" : "{\"");
    buf_add_text(result, name);
    buf_add_text(result, "\":");
    buf_add_string(result, text, length);
}

static const char *get_host_name(const struct json *arguments, struct buf *result)
{
    struct utsname name;
    (void)arguments;
    uname(&name);
    add_member(result, "host-name", name.nodename, strlen(name.nodename));
    buf_add_text(result, "}");
    return NULL;
}

static const char *get_osinfo(const struct json *arguments, struct buf *result)
{
    static const char *const members[][2] = {
        { "ID=", "id" }, { "NAME=", "name" }, { "PRETTY_NAME=", "pretty-name" }, { "VERSION=", "version" },
        { "VERSION_ID=", "version-id" }, { "VARIANT=", "variant" }, { "VARIANT_ID=", "variant-id" },
    };
    struct utsname name;
    char line[512];
    (void)arguments;
    struct buf members_found = { 0 };
    uname(&name);
    add_member(&members_found, "kernel-release", name.release, strlen(name.release));
    add_member(&members_found, "kernel-version", name.version, strlen(name.version));
    add_member(&members_found, "machine", name.machine, strlen(name.machine));
    FILE *file = fopen("/etc/os-release", "re");
    while (file && fgets(line, sizeof line, file)) {
        for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
            size_t length = strlen(members[i][0]);
            if (strncmp(line, members[i][0], length))
                continue;
            char *value = line + length;
            value[strcspn(value, "\n")] = 0;
            size_t count = strlen(value);
            if (count >= 2 && (*value == '"' || *value == '\'') && value[count - 1] == *value) {
                value++;
                count -= 2;
            }
            add_member(&members_found, members[i][1], value, count);
        }
    }
    if (file)
        fclose(file);
    buf_add(result, members_found.data, members_found.length);
    buf_add_text(result, "}");
    buf_free(&members_found);
    return NULL;
}

/*
 * Mix bytes into the kernel's random numbers, and have it use them from the next number on: what is only written waits
 * for the kernel's next key, which may be a minute away. A kernel that has no key yet uses all that it has anyway.
 */
static const char *reseed(const struct json *arguments, struct buf *result)
{
    const struct json *data = json_member(arguments, "data");
    ptrdiff_t count = data && data->type == JSON_STRING ? base64_decode(data->text, data->length) : -1;
    const char *error = NULL;
    (void)result;
    if (count < 0)
        return "data has to be base64";
    int random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (random < 0 || write(random, data->text, count) != count)
        error = error_text("cannot write to /dev/urandom: %s", strerror(errno));
    else if (ioctl(random, RNDRESEEDCRNG) < 0 && errno != ENODATA)
        error = error_text("cannot renew the key of the random numbers: %s", strerror(errno));
    if (random >= 0)
        close(random);
    return error;
}

/* How often, a second apart, the system is asked to end before it is simply ended. */
#define SHUTDOWN_ATTEMPTS 60

/*
 * In a process of its own, as a shutdown program may wait for the agent to answer first. While a system
 * starts, its shutdown program may find nobody to talk to yet: it is asked again until it is heard.
 */
static const char *shut_down(const struct json *arguments, struct buf *result)
{
    static const struct { const char *mode, *option, *program; int how; } modes[] = {
        { "powerdown", "-P", "poweroff", RB_POWER_OFF },
        { "reboot", "-r", "reboot", RB_AUTOBOOT },
        { "halt", "-H", "halt", RB_HALT_SYSTEM },
    };
    const struct json *asked = json_member(arguments, "mode");
    const char *mode = "powerdown";
    (void)result;
    if (asked && !json_text(asked, &mode))
        mode = "";
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(mode, modes[i].mode))
            continue;
        pid_t pid = fork();
        if (pid < 0)
            return error_text("cannot fork: %s", strerror(errno));
        if (pid > 0)
            return NULL;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        for (int attempt = 0; attempt < SHUTDOWN_ATTEMPTS; attempt++) {
            pid_t program = fork();
            if (program == 0) {
                execl("/sbin/shutdown", "shutdown", modes[i].option, "now", NULL);
                execlp(modes[i].program, modes[i].program, NULL);
                _exit(127);
            }
            int status;
            if (program < 0 || waitpid(program, &status, 0) != program)
                break;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                _exit(0);
            if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                break;
            sleep(1);
        }
        switch_off(modes[i].how);
        _exit(1);
    }
    return "mode has to be powerdown, reboot or halt";
}

const struct command system_commands[] = {
    { "guest-get-time", get_time, false },
    { "guest-set-time", set_time, false },
    { "guest-get-host-name", get_host_name, false },
    { "guest-get-osinfo", get_osinfo, false },
    { "guest-shutdown", shut_down, true },
    { "braid-reseed", reseed, false },
    { 0 },
};
