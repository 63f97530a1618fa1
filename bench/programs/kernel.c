/*
 * What programs ask of an operating system's kernel: kernel ROW REPETITIONS [WORKERS]
 *
 * Each of WORKERS processes, or in the rows of threads each thread, does all the repetitions, and they run at the same time. An
 * eighth of the work runs before the start marker. The value behind the end marker is the same whoever runs when.
 *
 * kernel exit STATUS is what fork-exec executes.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { PAGE = 4096 };

static void check(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

static pid_t start_process(void)
{
    pid_t child = fork();
    check(child >= 0, "fork");
    return child;
}

static int status_of(pid_t child)
{
    int status;
    check(waitpid(child, &status, 0) == child && WIFEXITED(status), "waitpid");
    return WEXITSTATUS(status);
}

/* The cheapest call that is not answered in user space. */
static uint64_t system_calls(int repetitions, int self, int workers)
{
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++)
        sum += syscall(SYS_getppid) > 0;
    return sum;
}

/* New anonymous memory, one fault a page. */
static uint64_t page_faults(int repetitions, int self, int workers)
{
    enum { PAGES = 64 };
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++) {
        char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(memory != MAP_FAILED, "mmap");
        for (int page = 0; page < PAGES; page++)
            sum += ++memory[page * PAGE];
        check(munmap(memory, PAGES * PAGE) == 0, "munmap");
    }
    return sum;
}

/* A process that ends at once. Its parent has a little memory of its own, which becomes copy-on-write. */
static uint64_t fork_wait(int repetitions, int self, int workers)
{
    static volatile char memory[32 * PAGE];
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++) {
        sum += ++memory[i % 32 * PAGE];
        pid_t child = start_process();
        if (child == 0)
            _exit(i & 0x3f);
        sum += status_of(child);
    }
    return sum;
}

static uint64_t fork_exec(int repetitions, const char *program)
{
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++) {
        pid_t child = start_process();
        if (child == 0) {
            execl(program, program, "exit", i & 1 ? "1" : "2", NULL);
            _exit(127);
        }
        sum += status_of(child);
    }
    return sum;
}

static uint64_t exec_static(int repetitions, int self, int workers)
{
    return fork_exec(repetitions, "/bin/kernel");
}

/* The same program with a dynamic linker and a C library of its own. */
static uint64_t exec_dynamic(int repetitions, int self, int workers)
{
    return fork_exec(repetitions, "/bin/kernel-dynamic");
}

static uint64_t pass(int from, int to, unsigned char *byte)
{
    check(read(from, byte, 1) == 1, "read");
    check(write(to, byte, 1) == 1, "write");
    return *byte;
}

/* A byte that goes round a ring of processes, each waiting at a pipe. */
static uint64_t ring(int repetitions, int processes)
{
    int pipes[8][2];
    pid_t children[8];
    unsigned char byte = 0;
    uint64_t sum = 0;
    for (int i = 0; i < processes; i++)
        check(pipe(pipes[i]) == 0, "pipe");
    for (int i = 1; i < processes; i++) {
        children[i] = start_process();
        if (children[i])
            continue;
        for (int n = 0; n < repetitions; n++)
            pass(pipes[i][0], pipes[(i + 1) % processes][1], &byte);
        _exit(0);
    }
    for (int n = 0; n < repetitions; n++) {
        byte = n;
        check(write(pipes[1][1], &byte, 1) == 1 && read(pipes[0][0], &byte, 1) == 1, "ring");
        sum = sum * 31 + byte;
    }
    for (int i = 1; i < processes; i++)
        check(status_of(children[i]) == 0, "child");
    return sum;
}

static uint64_t pipe_round_trip(int repetitions, int self, int workers)
{
    return ring(repetitions, 2);
}

static uint64_t context_switch(int repetitions, int self, int workers)
{
    return ring(repetitions, 8);
}

/* Mappings that are made, cut and taken away, and hardly used. */
static uint64_t mapping(int repetitions, int self, int workers)
{
    enum { SIZE = 256 * PAGE, PART = 64 * PAGE };
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++) {
        char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(memory != MAP_FAILED, "mmap");
        sum += ++memory[PART];
        check(mprotect(memory + PART, PART, PROT_READ) == 0, "mprotect");
        sum += memory[PART];
        check(mprotect(memory + PART, PART, PROT_READ | PROT_WRITE) == 0, "mprotect");
        sum += ++memory[PART];
        check(munmap(memory + SIZE / 2, PART) == 0, "munmap");
        check(munmap(memory, SIZE) == 0, "munmap");
    }
    return sum;
}


static void futex(atomic_uint *word, int operation, unsigned value)
{
    long result = syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
    check(result >= 0 || errno == EAGAIN || errno == EINTR, "futex");
}

/* Threads that hand a baton round, each asleep until it comes; then they all want one mutex. */
static struct { _Alignas(64) atomic_uint received; } batons[8] = { { 1 } }; /* the first has one from the start */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t futexes(int repetitions, int self, int workers)
{
    static _Thread_local unsigned passed;
    static volatile uint64_t guarded[64];
    atomic_uint *mine = &batons[self].received, *next = &batons[(self + 1) % workers].received;
    for (int i = 0; i < repetitions; i++, passed++) {
        while (atomic_load(mine) == passed)
            futex(mine, FUTEX_WAIT_PRIVATE, passed);
        atomic_fetch_add(next, 1);
        futex(next, FUTEX_WAKE_PRIVATE, 1);
    }
    for (int i = 0; i < repetitions; i++) {
        pthread_mutex_lock(&mutex);
        for (size_t n = 0; n < COUNT(guarded); n++)
            guarded[n]++;
        pthread_mutex_unlock(&mutex);
    }
    return repetitions;
}

/* More threads than harts: each gives way all the time, and sometimes sleeps. */
static uint64_t schedule(int repetitions, int self, int workers)
{
    const struct timespec short_while = { 0, 1000 };
    uint64_t sum = 0;
    for (int i = 0; i < repetitions; i++)
        sum += (i + self) % 64 ? sched_yield() == 0 : nanosleep(&short_while, NULL) == 0;
    return sum;
}

/* Nothing that a kernel is asked for: how far harts run at the same time. */
static uint64_t compute(int repetitions, int self, int workers)
{
    uint64_t seed = self + 1, sum = 0;
    for (int i = 0; i < repetitions * 1000; i++) {
        sum += next_random(&seed) >> 40;
        sum = sum * 6364136223846793005u ^ (seed & 0xff) << (i & 31);
    }
    return sum;
}

/* Not the kernel's work but its page tables': memory in which each page is met again and again, and some that is too large for that. */
enum { NEAR_WORDS = 1 << 21, FAR_WORDS = 1 << 24 };
static uint64_t memory[FAR_WORDS];

static uint64_t count_anywhere(int repetitions, size_t words)
{
    uint64_t seed = 1, sum = 0;
    for (int i = 0; i < repetitions * 1000; i++)
        sum += ++memory[next_random(&seed) % words] > 0;
    return sum;
}

static uint64_t update(int repetitions, int self, int workers)
{
    return count_anywhere(repetitions, NEAR_WORDS);
}

static uint64_t update_far(int repetitions, int self, int workers)
{
    return count_anywhere(repetitions, FAR_WORDS);
}

/* Read in order, a word of each line of a cache. */
static uint64_t scan(int repetitions, int self, int workers)
{
    uint64_t sum = 0;
    for (int i = 0; i < FAR_WORDS; i += 512)
        memory[i] = i;
    for (int r = 0; r < repetitions; r++)
        for (int i = 0; i < FAR_WORDS; i += 8)
            sum += memory[i];
    return sum;
}

struct row {
    const char *name;
    uint64_t (*run)(int repetitions, int self, int workers);
    int threads; /* of each worker; 0: it is a process */
};

static const struct row rows[] = {
    { "syscall", system_calls },         { "page-fault", page_faults },       { "fork-wait", fork_wait }, { "fork-exec", exec_static },
    { "exec-dynamic", exec_dynamic },    { "pipe", pipe_round_trip },         { "mmap", mapping },
    { "context-switch", context_switch }, { "futex", futexes, 1 },             { "sched", schedule, 4 },   { "compute", compute, 1 },
    { "update", update },                { "update-far", update_far },     { "scan", scan },
};

enum { MAX_WORKERS = 32 };

static const struct row *row;
static int repetitions, count;

static struct shared {
    pthread_barrier_t barrier;
    uint64_t results[MAX_WORKERS];
} *shared;

static void *work(void *argument)
{
    int self = (intptr_t)argument;
    row->run(repetitions / 8 + 1, self, count);
    pthread_barrier_wait(&shared->barrier); /* all are warm */
    pthread_barrier_wait(&shared->barrier); /* start */
    shared->results[self] = row->run(repetitions, self, count);
    return NULL;
}

static uint64_t with_workers(void)
{
    pthread_barrierattr_t across;
    pthread_t threads[MAX_WORKERS];
    pid_t processes[MAX_WORKERS];
    uint64_t sum = 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED, "mmap");
    pthread_barrierattr_init(&across);
    pthread_barrierattr_setpshared(&across, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &across, count + 1);
    for (intptr_t i = 0; i < count; i++) {
        if (row->threads) {
            check(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "pthread_create");
        } else if ((processes[i] = start_process()) == 0) {
            work((void *)i);
            _exit(0);
        }
    }
    pthread_barrier_wait(&shared->barrier);
    mark_start(row->name);
    pthread_barrier_wait(&shared->barrier);
    for (int i = 0; i < count; i++) {
        if (row->threads)
            pthread_join(threads[i], NULL);
        else
            check(status_of(processes[i]) == 0, "worker");
        sum += shared->results[i];
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "exit") == 0)
        _exit(atoi(argv[2]));
    for (size_t i = 0; (argc == 3 || argc == 4) && i < COUNT(rows); i++) {
        if (strcmp(argv[1], rows[i].name))
            continue;
        row = &rows[i];
        repetitions = atoi(argv[2]);
        count = (argc == 4 ? atoi(argv[3]) : 1) * (row->threads ? row->threads : 1);
        if (count < 1 || count > MAX_WORKERS || (row->threads == 1 && count > (int)COUNT(batons)))
            break;
        uint64_t sum;
        if (count == 1) {
            row->run(repetitions / 8 + 1, 0, 1);
            mark_start(row->name);
            sum = row->run(repetitions, 0, 1);
        } else {
            sum = with_workers();
        }
        mark_end(row->name, sum);
        return 0;
    }
    fprintf(stderr, "usage: kernel ROW REPETITIONS [WORKERS]\n");
    return 2;
}
