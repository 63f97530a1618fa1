/*
 * braid-agent [-p PATH]
 *
 * A QEMU-style guest agent: one JSON object a line, each way, over a virtio serial port. PATH is the
 * port, a terminal or a Unix socket; without it the port named org.qemu.guest_agent.0 is looked for.
 * README.md describes the commands and events.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum {
    LINE_LIMIT = 8 * 1024 * 1024,
    CONGESTED_ABOVE = 128 * 1024,    /* bytes that wait for the host */
    RESUME_BELOW = 32 * 1024,
    READ_CHUNK = 16 * 1024,
};

static int events_fd;

static struct {
    struct watch watch;
    bool socket;         /* ends for good when the peer goes away */
    bool connected;
    bool waiting;        /* children were told to wait */
    struct buf out;
    size_t sent;         /* of `out` */
    struct buf in;
    size_t scanned;      /* of `in`, without the end of a line */
    bool skipping;       /* the rest of a line that was too long */
} port = { .watch = { .fd = -1 } };

const char *error_text(const char *format, ...)
{
    static char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

static void die(const char *what)
{
    fprintf(stderr, "braid-agent: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- Watches --- */

void watch_set(struct watch *watch, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = watch };
    if (watch->fd < 0 || watch->events == events)
        return;
    /* Events that cannot be masked, such as a hang-up, would wake us: off means removed. */
    int how = !events ? EPOLL_CTL_DEL : watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(events_fd, how, watch->fd, &event) < 0)
        die("epoll_ctl");
    watch->events = events;
}

void watch_close(struct watch *watch)
{
    if (watch->fd < 0)
        return;
    watch_set(watch, 0);
    close(watch->fd);
    watch->fd = -1;
}

/* --- Sending --- */

static size_t pending(void)
{
    return port.out.length - port.sent;
}

bool port_congested(void)
{
    if (pending() <= CONGESTED_ABOVE)
        return false;
    return port.waiting = true;
}

static void flush(void)
{
    while (port.connected && pending()) {
        ssize_t sent = write(port.watch.fd, port.out.data + port.sent, pending());
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        port.sent += sent;
    }
    if (port.sent > port.out.length / 2) {
        buf_take(&port.out, port.sent);
        port.sent = 0;
    }
}

struct buf *event_begin(const char *name)
{
    buf_add_text(&port.out, "{\"event\":\"");
    buf_add_text(&port.out, name);
    buf_add_text(&port.out, "\",\"data\":{");
    return &port.out;
}

void event_end(void)
{
    buf_add_text(&port.out, "}}\n");
    if (!port.connected)
        port.out.length = port.sent = 0;
}

static void reply(const char *member, const char *text, size_t length, const struct json *id)
{
    buf_add_text(&port.out, "{\"");
    buf_add_text(&port.out, member);
    buf_add_text(&port.out, "\":");
    buf_add(&port.out, text, length);
    if (id) {
        buf_add_text(&port.out, ",\"id\":");
        json_write(id, &port.out);
    }
    buf_add_text(&port.out, "}\n");
}

static void reply_error(const char *class, const char *text, const struct json *id)
{
    struct buf error = { 0 };
    buf_add_text(&error, "{\"class\":\"");
    buf_add_text(&error, class);
    buf_add_text(&error, "\",\"desc\":");
    buf_add_string(&error, text, strlen(text));
    buf_add_text(&error, "}");
    reply("error", error.data, error.length, id);
    buf_free(&error);
}

/* --- Commands about the agent --- */

static const char *ping(const struct json *arguments, struct buf *result)
{
    (void)arguments, (void)result;
    return NULL;
}

/* The host sends a number of its choice, to find out where answers to itself begin. */
static const char *sync_id(const struct json *arguments, struct buf *result)
{
    const struct json *id = json_member(arguments, "id");
    if (!id || id->type != JSON_NUMBER)
        return "id has to be a number";
    json_write(id, result);
    return NULL;
}

static const char *sync_delimited(const struct json *arguments, struct buf *result)
{
    const char *error = sync_id(arguments, result);
    /* Never part of JSON text: the host throws away everything up to it. */
    if (!error)
        buf_add(&port.out, "\xff", 1);
    return error;
}

static command_fn info;

static const struct command own_commands[] = {
    { "guest-ping", ping, false },
    { "guest-sync", sync_id, false },
    { "guest-sync-delimited", sync_delimited, false },
    { "guest-info", info, false },
    { 0 },
};

static const struct command *const all_commands[] = { own_commands, exec_commands, file_commands, system_commands };

static const char *info(const struct json *arguments, struct buf *result)
{
    const char *separator = "";
    (void)arguments;
    buf_add_text(result, "{\"version\":\"" AGENT_VERSION "\",\"supported_commands\":[");
    for (size_t i = 0; i < sizeof all_commands / sizeof *all_commands; i++) {
        for (const struct command *command = all_commands[i]; command->name; command++) {
            buf_add_text(result, separator);
            buf_add_text(result, "{\"name\":\"");
            buf_add_text(result, command->name);
            buf_add_text(result, command->silent ? "\",\"enabled\":true,\"success-response\":false}" : "\",\"enabled\":true,\"success-response\":true}");
            separator = ",";
        }
    }
    buf_add_text(result, "]}");
    return NULL;
}

/* --- Receiving --- */

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof all_commands / sizeof *all_commands; i++)
        for (const struct command *command = all_commands[i]; command->name; command++)
            if (!strcmp(command->name, name))
                return command;
    return NULL;
}

static void handle_line(char *line, size_t length)
{
    const char *error, *name;
    if (strspn(line, " \t\r") >= length)
        return;
    struct json *request = json_parse(line, length, &error);
    if (!request) {
        reply_error("GenericError", error_text("not a request: %s", error), NULL);
        return;
    }
    const struct json *id = json_member(request, "id"), *arguments = json_member(request, "arguments");
    const struct command *command;
    struct buf result = { 0 };
    if (!json_text(json_member(request, "execute"), &name))
        reply_error("GenericError", "a request is an object with the member execute", id);
    else if (!(command = find_command(name)))
        reply_error("CommandNotFound", error_text("no command is called %s", name), id);
    else if (arguments && arguments->type != JSON_OBJECT)
        reply_error("GenericError", "arguments has to be an object", id);
    else if ((error = command->run(arguments, &result)))
        reply_error("GenericError", error, id);
    else if (!command->silent)
        reply("return", result.length ? result.data : "{}", result.length ? result.length : 2, id);
    buf_free(&result);
    json_free(request);
}

/*
 * Take one line from what has arrived. The byte 0xff, which no JSON text contains, throws away what
 * came before it on the line, so that a host can start afresh whatever its predecessor has sent.
 */
static bool take_line(void)
{
    struct buf *in = &port.in;
    for (; port.scanned < in->length; port.scanned++) {
        unsigned char byte = in->data[port.scanned];
        if (byte == 0xff) {
            buf_take(in, port.scanned + 1);
            port.skipping = false;
            port.scanned = -1;
        } else if (byte == '\n') {
            size_t length = port.scanned;
            in->data[length] = 0;
            if (!port.skipping)
                handle_line(in->data, length);
            buf_take(in, length + 1);
            port.skipping = false;
            port.scanned = 0;
            return true;
        }
    }
    if (port.skipping || in->length > LINE_LIMIT) {
        if (!port.skipping)
            reply_error("GenericError", "the request is too long", NULL);
        port.skipping = true;
        port.scanned = 0;
        buf_free(in);
    }
    return false;
}

static bool receive(void)
{
    ssize_t got;
    do
        got = read(port.watch.fd, buf_reserve(&port.in, READ_CHUNK), READ_CHUNK);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    port.in.length += got;
    return true;
}

/* Handle what has arrived, but no faster than the host takes the answers. */
static void serve(void)
{
    while (pending() <= CONGESTED_ABOVE && (take_line() || receive()))
        flush();
}

/* --- The port --- */

static void drop_everything(void)
{
    port.sent = port.scanned = 0;
    port.skipping = false;
    buf_free(&port.out);
    buf_free(&port.in);
}

static void announce(void)
{
    buf_add_text(event_begin("braid-agent-ready"), "\"version\":\"" AGENT_VERSION "\"");
    event_end();
}

/*
 * The port is watched for changes ("edge-triggered"): while the host is away it hangs up for as long
 * as that lasts, and only the change must wake us.
 */
static void port_ready(struct watch *watch, uint32_t events)
{
    (void)watch;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        if (port.socket)
            exit(0);
        port.connected = false;
        drop_everything();
        return;
    }
    if (!port.connected) {
        port.connected = true;
        announce();
    }
}

/* After every event: send, and go on with whatever had to wait for that. */
static void pump(void)
{
    do {
        flush();
        if (port.waiting && pending() < RESUME_BELOW) {
            port.waiting = false;
            exec_resume();
        }
        if (port.connected)
            serve();
        flush();
    } while (port.waiting && pending() < RESUME_BELOW);
}

static bool find_port(char *path, size_t size)
{
    static const char folder[] = "/sys/class/virtio-ports", wanted[] = "org.qemu.guest_agent.0\n";
    DIR *dir = opendir(folder);
    struct dirent *entry;
    bool found = false;
    while (dir && !found && (entry = readdir(dir))) {
        char name[64] = "";
        snprintf(path, size, "%s/%s/name", folder, entry->d_name);
        int fd = entry->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        found = read(fd, name, sizeof name - 1) > 0 && !strcmp(name, wanted);
        close(fd);
        snprintf(path, size, "/dev/%s", entry->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

static void open_port(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        port.socket = true;
        port.watch.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (port.watch.fd < 0 || connect(port.watch.fd, (struct sockaddr *)&address, sizeof address) < 0)
            die(path);
        fcntl(port.watch.fd, F_SETFL, O_NONBLOCK);
    } else {
        struct termios terminal;
        port.watch.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (port.watch.fd < 0)
            die(path);
        if (tcgetattr(port.watch.fd, &terminal) == 0) {
            cfmakeraw(&terminal);
            tcsetattr(port.watch.fd, TCSANOW, &terminal);
        }
    }
    port.watch.ready = port_ready;
    watch_set(&port.watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

int main(int count, char **arguments)
{
    static char found[300];
    const char *path = NULL;
    int option;
    while ((option = getopt(count, arguments, "p:")) != -1) {
        if (option != 'p') {
            fprintf(stderr, "usage: braid-agent [-p PATH]\n");
            return 2;
        }
        path = optarg;
    }
    /* Nothing to do on a machine without the port. */
    if (!path && !find_port(found, sizeof found))
        return 0;

    /* The first three descriptors have to be taken, so that no pipe to a child becomes one. */
    int null;
    while ((null = open("/dev/null", O_RDWR)) >= 0 && null < 3)
        ;
    close(null);

    events_fd = epoll_create1(EPOLL_CLOEXEC);
    if (events_fd < 0)
        die("epoll_create1");
    exec_start();
    open_port(path ? path : found);
    for (;;) {
        /* One event at a time: handling one may free the watch that another would point to. */
        struct epoll_event event;
        int ready = epoll_wait(events_fd, &event, 1, -1);
        if (ready == 1) {
            struct watch *watch = event.data.ptr;
            watch->ready(watch, event.events);
            pump();
        }
    }
}
