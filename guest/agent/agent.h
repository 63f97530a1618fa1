/*
 * Braid's guest agent: what its parts offer each other.
 *
 *   main.c     the port, the event loop, and the commands about the agent itself
 *   exec.c     programs: guest-exec, which the host polls, and braid-exec, which pushes
 *   group.c    the control group of a program
 *   file.c     guest-file-*
 *   system.c   time, names, random numbers, switching off
 *   power.c    the end of the machine, which leaves file systems clean; init has it too
 *
 * The agent sleeps in epoll_wait without a timeout whenever nothing happens: an idle guest has to
 * execute no instructions on its behalf.
 */
#ifndef AGENT_H
#define AGENT_H
#include "buf.h"
#include "json.h"
#include <stdint.h>
#include <sys/types.h>

#define AGENT_VERSION "1.0.0"

/*
 * A command adds the JSON text of its result to `result` (nothing stands for {}), and returns NULL,
 * or a text that says why it failed.
 */
typedef const char *command_fn(const struct json *arguments, struct buf *result);

struct command {
    const char *name;
    command_fn *run;
    bool silent;    /* no answer unless it fails */
};

extern const struct command exec_commands[], file_commands[], system_commands[];

/* An error text made with printf; valid until the next one. */
const char *error_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- The event loop --- */

/* Something waits for a file descriptor; it is kept inside a larger structure. */
struct watch {
    int fd;
    uint32_t events;     /* being waited for; 0 if not registered at all */
    void (*ready)(struct watch *watch, uint32_t events);
};

void watch_set(struct watch *watch, uint32_t events);
/* Stop waiting and close. */
void watch_close(struct watch *watch);

/* --- The port --- */

/* Start an event; the caller adds the members of "data" after the brace and calls event_end. */
struct buf *event_begin(const char *name);
void event_end(void);
/* True while the host has much left to read: then children must wait. exec_resume ends it. */
bool port_congested(void);

/* --- Programs --- */

void exec_start(void);
/* The port can take more: read again from the children that had to wait. */
void exec_resume(void);

/* --- Control groups of programs --- */

/* Make one: its number, or 0 where the guest has none. */
unsigned group_open(void);
/* As fork, with the child in the group. *group is 0 afterwards if it is not. */
pid_t group_fork(unsigned *group);
/* End every process in it at once. False if that cannot be done. */
bool group_kill(unsigned group);
/* The program is over. The group is removed as soon as no process that was left behind is in it. */
void group_close(unsigned group);

#endif
