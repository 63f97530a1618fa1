/*
 * Programs run for the host.
 *
 * guest-exec is the command of the QEMU guest agent: output is collected, and the host asks for it
 * with guest-exec-status. braid-exec pushes output and exit as events, so the host never asks.
 *
 * A program is over when it has exited and everything that it wrote has been read. A process that it
 * leaves behind may hold its output open for ever, so the end of the file is not waited for: what is in
 * the pipe when the exit is noticed is the output, and the rest is read and thrown away.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
    MAX_PROGRAMS = 512,
    CHUNK = 24 * 1024,                 /* most output in one event */
    CAPTURE_LIMIT = 16 * 1024 * 1024,  /* as the QEMU guest agent */
    INPUT_LIMIT = 4 * 1024 * 1024,     /* waiting for the program to read it */
};

enum { OUT, ERR };

struct program;

struct stream {
    struct watch watch;    /* first: the event loop hands this back */
    struct program *owner;
    bool stalled;          /* not watched, as the port is congested */
    bool truncated;
    struct buf capture;    /* of guest-exec */
};

struct input {
    struct watch watch;    /* first; for a terminal, fd is a duplicate of the output's */
    struct program *owner;
    struct buf queue;
    bool ends;             /* after the queue */
    bool announce;         /* the host knows that something waits, and wants to know when not */
};

struct program {
    struct program *next;
    pid_t pid;
    unsigned group;        /* all of its processes; 0 where the guest has no control groups */
    bool pushes, terminal;
    bool exited, finished; /* exited: by itself; finished: and the output is complete */
    int status;
    struct stream streams[2];
    struct input input;
};

static struct program *programs;
static int program_count;
static struct watch children = { .fd = -1 };

static struct program *find(const struct json *arguments, const char *name, bool pushes)
{
    int64_t id;
    if (json_integer(json_member(arguments, name), &id))
        for (struct program *program = programs; program; program = program->next)
            if (program->pid == id && program->pushes == pushes)
                return program;
    return NULL;
}

/* Free a finished program once nothing can arrive for it any more. */
static void forget(struct program *gone)
{
    for (struct program **link = &programs; *link; link = &(*link)->next) {
        if (*link != gone)
            continue;
        *link = gone->next;
        program_count--;
        for (int i = 0; i < 2; i++) {
            watch_close(&gone->streams[i].watch);
            buf_free(&gone->streams[i].capture);
        }
        watch_close(&gone->input.watch);
        buf_free(&gone->input.queue);
        group_close(gone->group);
        free(gone);
        return;
    }
}

/* --- Output --- */

static void push_output(struct program *program, int which, const char *bytes, size_t count)
{
    struct buf *event = event_begin("braid-exec-output");
    buf_add_text(event, "\"id\":");
    buf_add_number(event, program->pid);
    buf_add_text(event, which == OUT ? ",\"stream\":\"stdout\",\"data\":\"" : ",\"stream\":\"stderr\",\"data\":\"");
    buf_add_base64(event, bytes, count);
    buf_add_text(event, "\"");
    event_end();
}

static void deliver(struct stream *stream, const char *bytes, size_t count)
{
    struct program *program = stream->owner;
    if (program->finished)
        return;
    if (program->pushes) {
        push_output(program, stream - program->streams, bytes, count);
        return;
    }
    size_t room = CAPTURE_LIMIT - stream->capture.length;
    if (count > room)
        stream->truncated = true;
    buf_add(&stream->capture, bytes, count < room ? count : room);
}

/* Read once. False if there is nothing more for now, or (the stream is closed then) ever. */
static bool read_stream(struct stream *stream)
{
    static char chunk[CHUNK];
    if (stream->watch.fd < 0)
        return false;
    ssize_t got = read(stream->watch.fd, chunk, sizeof chunk);
    if (got > 0) {
        deliver(stream, chunk, got);
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    /* A terminal whose last user has gone says EIO. */
    watch_close(&stream->watch);
    return false;
}

static void finish(struct program *program);

static bool must_wait(struct program *program)
{
    return program->pushes && !program->finished && port_congested();
}

static void stream_ready(struct watch *watch, uint32_t events)
{
    struct stream *stream = (struct stream *)watch;
    (void)events;
    if (must_wait(stream->owner)) {
        stream->stalled = true;
        watch_set(watch, 0);
        return;
    }
    read_stream(stream);
    finish(stream->owner);
}

/* After an exit: take what is left, as far as the port takes it, and then tell the host. */
static void finish(struct program *program)
{
    if (!program->exited)
        return;
    if (!program->finished) {
        for (int i = 0; i < 2; i++)
            do {
                if (must_wait(program))
                    return;
            } while (read_stream(&program->streams[i]));
        program->finished = true;
        watch_close(&program->input.watch);
        buf_free(&program->input.queue);
        if (program->pushes) {
            struct buf *event = event_begin("braid-exec-exit");
            buf_add_text(event, "\"id\":");
            buf_add_number(event, program->pid);
            buf_add_text(event, WIFSIGNALED(program->status) ? ",\"signal\":" : ",\"exitcode\":");
            buf_add_number(event, WIFSIGNALED(program->status) ? WTERMSIG(program->status) : WEXITSTATUS(program->status));
            event_end();
        }
    }
    if (program->pushes && program->streams[OUT].watch.fd < 0 && program->streams[ERR].watch.fd < 0)
        forget(program);
}

void exec_resume(void)
{
    struct program *next;
    for (struct program *program = programs; program && !port_congested(); program = next) {
        next = program->next;
        for (int i = 0; i < 2; i++) {
            struct stream *stream = &program->streams[i];
            if (stream->stalled && stream->watch.fd >= 0)
                watch_set(&stream->watch, EPOLLIN);
            stream->stalled = false;
        }
        finish(program);
    }
}

static void children_ready(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo ignored[8];
    int status;
    pid_t pid;
    (void)events;
    while (read(watch->fd, ignored, sizeof ignored) > 0)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (struct program *program = programs; program; program = program->next) {
            if (program->pid == pid && !program->exited) {
                program->exited = true;
                program->status = status;
                finish(program);
                break;
            }
        }
    }
}

void exec_start(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    children.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    children.ready = children_ready;
    watch_set(&children, EPOLLIN);
}

/* --- Input --- */

static void input_ready(struct watch *watch, uint32_t events)
{
    struct input *input = (struct input *)watch;
    (void)events;
    while (input->queue.length) {
        ssize_t sent = write(watch->fd, input->queue.data, input->queue.length);
        if (sent > 0) {
            buf_take(&input->queue, sent);
        } else if (sent < 0 && errno == EAGAIN) {
            watch_set(watch, EPOLLOUT);
            return;
        } else if (sent < 0 && errno != EINTR) {
            /* The program reads no more: it has closed its input. */
            buf_free(&input->queue);
            input->ends = true;
        }
    }
    if (input->announce) {
        input->announce = false;
        struct buf *event = event_begin("braid-exec-input-drained");
        buf_add_text(event, "\"id\":");
        buf_add_number(event, input->owner->pid);
        event_end();
    }
    if (input->ends)
        watch_close(watch);
    else
        watch_set(watch, 0);
}

static void queue_input(struct input *input, const char *bytes, size_t count, bool ends)
{
    buf_add(&input->queue, bytes, count);
    if (ends && input->owner->terminal)
        /* The end of a terminal's input is a character; the terminal stays open. */
        buf_add(&input->queue, "\4", 1);
    else
        input->ends |= ends;
    input_ready(&input->watch, 0);
}

/* --- Starting --- */

struct request {
    char **arguments;
    char **environment;
    const char *folder;
    bool terminal;
    struct winsize size;
    bool wants_input, wants_output, wants_errors, merge;
};

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Why a program was not executed, as its child tells the agent. */
struct refusal {
    bool folder;    /* it is the folder that cannot be entered */
    int reason;
};

/* In the child. `ends` are its standard input, output and errors; -1 stands for /dev/null. */
static void become(const struct request *request, const int ends[3], int report)
{
    struct refusal refusal = { .folder = true };
    sigset_t none;
    sigemptyset(&none);
    for (int signal_number = 1; signal_number < 32; signal_number++)
        signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    for (int i = 0; i < 3; i++) {
        int fd = ends[i] >= 0 ? ends[i] : open("/dev/null", i ? O_WRONLY : O_RDONLY);
        if (fd != i) {
            dup2(fd, i);
            if (ends[i] < 0)
                close(fd);
        }
    }
    if (request->merge)
        dup2(1, 2);
    if (request->terminal)
        ioctl(0, TIOCSCTTY, 0);
    if (!request->folder || chdir(request->folder) == 0) {
        refusal.folder = false;
        environ = request->environment;
        execvp(request->arguments[0], request->arguments);
    }
    refusal.reason = errno;
    while (write(report, &refusal, sizeof refusal) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static void close_all(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int open_terminal(struct program *program, const struct request *request)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0)
        return -1;
    int slave = -1;
    const char *name;
    if (grantpt(master) == 0 && unlockpt(master) == 0 && (name = ptsname(master)))
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        close(master);
        return -1;
    }
    ioctl(slave, TIOCSWINSZ, &request->size);
    program->streams[OUT].watch.fd = master;
    program->input.watch.fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return slave;
}

/* Start a program; NULL and *error if it cannot be. */
static struct program *start(const struct request *request, bool pushes, const char **error)
{
    /* ours[i] is our end of the child's descriptor i, theirs[i] the child's. */
    int ours[3] = { -1, -1, -1 }, theirs[3] = { -1, -1, -1 }, report[2] = { -1, -1 };
    bool wanted[3] = { request->wants_input, request->wants_output, request->wants_errors };

    if (program_count == MAX_PROGRAMS) {
        *error = "too many programs";
        return NULL;
    }
    struct program *program = calloc(1, sizeof *program);
    if (!program)
        abort();
    program->pushes = pushes;
    program->terminal = request->terminal;
    program->group = group_open();
    program->input.owner = program;
    program->input.watch = (struct watch){ .fd = -1, .ready = input_ready };
    for (int i = 0; i < 2; i++) {
        program->streams[i].owner = program;
        program->streams[i].watch = (struct watch){ .fd = -1, .ready = stream_ready };
    }

    struct refusal refusal = { 0 };
    pid_t pid = -1;
    if (pipe2(report, O_CLOEXEC) < 0)
        goto failed;
    if (request->terminal) {
        theirs[0] = theirs[1] = theirs[2] = open_terminal(program, request);
        if (theirs[0] < 0)
            goto failed;
    } else {
        for (int i = 0; i < 3; i++) {
            int ends[2];
            if (!wanted[i])
                continue;
            if (pipe2(ends, O_CLOEXEC) < 0)
                goto failed;
            ours[i] = ends[i == 0];
            theirs[i] = ends[i != 0];
            set_nonblocking(ours[i]);
        }
        program->input.watch.fd = ours[0];
        program->streams[OUT].watch.fd = ours[1];
        program->streams[ERR].watch.fd = ours[2];
    }

    pid = group_fork(&program->group);
    if (pid < 0)
        goto failed;
    if (pid == 0)
        become(request, theirs, report[1]);
    close(report[1]);
    report[1] = -1;
    close_all(theirs, request->terminal ? 1 : 3);
    theirs[0] = theirs[1] = theirs[2] = -1;

    /* The pipe closes when the child executes the program, or brings the reason why it cannot. */
    ssize_t got;
    while ((got = read(report[0], &refusal, sizeof refusal)) < 0 && errno == EINTR)
        ;
    if (got > 0) {
        waitpid(pid, NULL, 0);
        errno = refusal.reason;
        goto failed;
    }
    close(report[0]);

    program->pid = pid;
    program->next = programs;
    programs = program;
    program_count++;
    for (int i = 0; i < 2; i++)
        if (program->streams[i].watch.fd >= 0)
            watch_set(&program->streams[i].watch, EPOLLIN);
    return program;

failed:
    *error = refusal.folder ? error_text("cannot enter the folder %s: %s", request->folder, strerror(errno))
                            : error_text("cannot execute %s: %s", request->arguments[0], strerror(errno));
    close_all(theirs, request->terminal ? 1 : 3);
    close_all(report, 2);
    close(program->input.watch.fd >= 0 ? program->input.watch.fd : ours[0]);
    close(program->streams[OUT].watch.fd >= 0 ? program->streams[OUT].watch.fd : ours[1]);
    close(program->streams[ERR].watch.fd >= 0 ? program->streams[ERR].watch.fd : ours[2]);
    group_close(program->group);
    free(program);
    return NULL;
}

/* --- Arguments of the commands --- */

static size_t json_count(const struct json *list)
{
    size_t count = 0;
    for (const struct json *item = list ? list->first : NULL; item; item = item->next)
        count++;
    return count;
}

/* Append the texts of a list to a NULL-terminated array with enough room. */
static bool add_texts(char **array, const struct json *list)
{
    size_t count = 0;
    while (array[count])
        count++;
    for (const struct json *item = list ? list->first : NULL; item; item = item->next) {
        const char *text;
        if (!json_text(item, &text))
            return false;
        array[count++] = (char *)text;
    }
    array[count] = NULL;
    return true;
}

/* Set K=V, replacing another value of K. `array` has room for one more. */
static void put_variable(char **array, char *variable, bool replace)
{
    size_t length = strcspn(variable, "=");
    for (; *array; array++) {
        if (strncmp(*array, variable, length) || (*array)[length] != '=')
            continue;
        if (replace)
            *array = variable;
        return;
    }
    *array++ = variable;
    *array = NULL;
}

/* Our own environment, completed with what a program may expect, and then what the host asks for. */
static bool make_environment(char **array, const struct json *added, bool terminal)
{
    static char *const defaults[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                      "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh" };
    *array = NULL;
    for (char **own = environ; *own; own++)
        put_variable(array, *own, true);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        put_variable(array, defaults[i], false);
    if (terminal)
        put_variable(array, "TERM=xterm-256color", true);
    for (const struct json *item = added ? added->first : NULL; item; item = item->next) {
        const char *text;
        if (!json_text(item, &text) || !strchr(text, '='))
            return false;
        put_variable(array, (char *)text, true);
    }
    return true;
}

static bool is_list(const struct json *value)
{
    return !value || value->type == JSON_ARRAY;
}

static size_t environment_room(const struct json *added)
{
    size_t count = json_count(added) + 16;
    for (char **own = environ; *own; own++)
        count++;
    return count;
}

static int dimension(const struct json *value, int usual)
{
    int64_t number;
    return json_integer(value, &number) && number > 0 && number < 65536 ? number : usual;
}

static struct winsize window_size(const struct json *value)
{
    return (struct winsize){ .ws_row = dimension(json_member(value, "rows"), 24),
                             .ws_col = dimension(json_member(value, "cols"), 80) };
}

static const char *braid_exec(const struct json *arguments, struct buf *result)
{
    const struct json *argv = json_member(arguments, "argv"), *env = json_member(arguments, "env");
    const struct json *terminal = json_member(arguments, "terminal"), *cwd = json_member(arguments, "cwd");
    const char *error = NULL;
    struct request request = { .wants_output = true, .wants_errors = true };

    if (!argv || !is_list(argv) || !argv->first)
        return "argv has to be a list of texts, the program first";
    if (!is_list(env))
        return "env has to be a list of NAME=VALUE";
    if (cwd && cwd->type != JSON_NULL && !json_text(cwd, &request.folder))
        return "cwd has to be a text";
    if (terminal && terminal->type == JSON_OBJECT) {
        request.terminal = true;
        request.size = window_size(terminal);
    }
    request.wants_input = json_true(json_member(arguments, "input"));
    request.arguments = calloc(json_count(argv) + 1, sizeof *request.arguments);
    request.environment = calloc(environment_room(env), sizeof *request.environment);
    if (!request.arguments || !request.environment)
        abort();
    if (!add_texts(request.arguments, argv))
        error = "argv has to be a list of texts, the program first";
    else if (!make_environment(request.environment, env, request.terminal))
        error = "env has to be a list of NAME=VALUE";
    else {
        struct program *program = start(&request, true, &error);
        if (program) {
            buf_add_text(result, "{\"id\":");
            buf_add_number(result, program->pid);
            buf_add_text(result, "}");
        }
    }
    free(request.arguments);
    free(request.environment);
    return error;
}

static const char no_program[] = "no running program has this id";

static const char *braid_exec_input(const struct json *arguments, struct buf *result)
{
    struct program *program = find(arguments, "id", true);
    const struct json *data = json_member(arguments, "data");
    if (!program || program->exited)
        return no_program;
    if (program->input.watch.fd < 0)
        return "the program's input is closed";
    if (data && data->type != JSON_STRING)
        return "data has to be base64";
    ptrdiff_t count = data ? base64_decode(data->text, data->length) : 0;
    if (count < 0)
        return "data has to be base64";
    if (program->input.queue.length + count > INPUT_LIMIT)
        return "too much input waits for the program";
    queue_input(&program->input, data ? data->text : NULL, count, json_true(json_member(arguments, "eof")));
    program->input.announce = program->input.queue.length > 0;
    buf_add_text(result, "{\"queued\":");
    buf_add_number(result, program->input.queue.length);
    buf_add_text(result, "}");
    return NULL;
}

static const char *braid_exec_signal(const struct json *arguments, struct buf *result)
{
    struct program *program = find(arguments, "id", true);
    int64_t number;
    (void)result;
    /* Once it has been waited for, its number may belong to somebody else. */
    if (!program || program->exited)
        return no_program;
    if (!json_integer(json_member(arguments, "signal"), &number) || number < 0 || number > 64)
        return "signal has to be a signal number";
    return kill(-program->pid, number) < 0 ? error_text("cannot send the signal: %s", strerror(errno)) : NULL;
}

/* End a program with every process that it has started, those in sessions of their own too, where that can be done. */
static const char *braid_exec_kill(const struct json *arguments, struct buf *result)
{
    struct program *program = find(arguments, "id", true);
    if (!program)
        return no_program;
    bool all = group_kill(program->group);
    /* Its number belongs to it for as long as it has not been waited for. */
    if (!program->exited)
        kill(-program->pid, SIGKILL);
    buf_add_text(result, all ? "{\"all\":true}" : "{\"all\":false}");
    return NULL;
}

static const char *braid_exec_resize(const struct json *arguments, struct buf *result)
{
    struct program *program = find(arguments, "id", true);
    (void)result;
    if (!program || program->exited)
        return no_program;
    if (!program->terminal)
        return "the program has no terminal";
    struct winsize size = window_size(arguments);
    return ioctl(program->input.watch.fd, TIOCSWINSZ, &size) < 0 ? error_text("cannot resize: %s", strerror(errno)) : NULL;
}

/* --- The polled commands --- */

static bool text_is(const struct json *value, const char *wanted)
{
    const char *text;
    return json_text(value, &text) && !strcmp(text, wanted);
}

static const char *guest_exec(const struct json *arguments, struct buf *result)
{
    const struct json *arg = json_member(arguments, "arg"), *env = json_member(arguments, "env");
    const struct json *input = json_member(arguments, "input-data"), *capture = json_member(arguments, "capture-output");
    const char *path, *error = NULL;
    struct request request = { 0 };
    ptrdiff_t input_count = 0;

    if (!json_text(json_member(arguments, "path"), &path))
        return "path has to be a text";
    if (!is_list(arg) || !is_list(env))
        return "arg and env have to be lists of texts";
    if (input && (input->type != JSON_STRING || (input_count = base64_decode(input->text, input->length)) < 0))
        return "input-data has to be base64";
    request.wants_input = input != NULL;
    /* Newer versions of the protocol have names for what to capture, besides true and false. */
    request.merge = text_is(capture, "merged");
    request.wants_output = json_true(capture) || request.merge || text_is(capture, "stdout") || text_is(capture, "separated");
    request.wants_errors = json_true(capture) || text_is(capture, "stderr") || text_is(capture, "separated");
    request.arguments = calloc(json_count(arg) + 2, sizeof *request.arguments);
    request.environment = calloc(environment_room(env), sizeof *request.environment);
    if (!request.arguments || !request.environment)
        abort();
    request.arguments[0] = (char *)path;
    /* Here an environment replaces ours, as the protocol says. */
    if (!add_texts(request.arguments, arg) || !(env ? add_texts(request.environment, env) : make_environment(request.environment, NULL, false)))
        error = "arg and env have to be lists of texts";
    else {
        struct program *program = start(&request, false, &error);
        if (program) {
            if (input)
                queue_input(&program->input, input->text, input_count, true);
            buf_add_text(result, "{\"pid\":");
            buf_add_number(result, program->pid);
            buf_add_text(result, "}");
        }
    }
    free(request.arguments);
    free(request.environment);
    return error;
}

static const char *guest_exec_status(const struct json *arguments, struct buf *result)
{
    static const char *const names[][2] = { { "out-data", "out-truncated" }, { "err-data", "err-truncated" } };
    struct program *program = find(arguments, "pid", false);
    if (!program)
        return "no program has this pid";
    if (!program->finished) {
        buf_add_text(result, "{\"exited\":false}");
        return NULL;
    }
    bool killed = WIFSIGNALED(program->status);
    buf_add_text(result, killed ? "{\"exited\":true,\"signal\":" : "{\"exited\":true,\"exitcode\":");
    buf_add_number(result, killed ? WTERMSIG(program->status) : WEXITSTATUS(program->status));
    for (int i = 0; i < 2; i++) {
        struct stream *stream = &program->streams[i];
        if (!stream->capture.length)
            continue;
        buf_add_text(result, ",\"");
        buf_add_text(result, names[i][0]);
        buf_add_text(result, "\":\"");
        buf_add_base64(result, stream->capture.data, stream->capture.length);
        buf_add_text(result, "\"");
        if (stream->truncated) {
            buf_add_text(result, ",\"");
            buf_add_text(result, names[i][1]);
            buf_add_text(result, "\":true");
        }
    }
    buf_add_text(result, "}");
    forget(program);
    return NULL;
}

const struct command exec_commands[] = {
    { "guest-exec", guest_exec, false },
    { "guest-exec-status", guest_exec_status, false },
    { "braid-exec", braid_exec, false },
    { "braid-exec-input", braid_exec_input, false },
    { "braid-exec-signal", braid_exec_signal, false },
    { "braid-exec-kill", braid_exec_kill, false },
    { "braid-exec-resize", braid_exec_resize, false },
    { 0 },
};
