/*
 * Reads and writes a disk past the guest's page cache: disk DEVICE read|write|random AMOUNT
 *
 * read, write: AMOUNT MiB from the start, in requests of 1 MiB. random: AMOUNT reads of 4 KiB, one after the other, anywhere.
 * What is written is not flushed before the end marker: hosts differ in their media, and that is not what is compared.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>

enum { MIB = 1 << 20, BLOCK = 4096 };

static void check(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: disk DEVICE read|write|random AMOUNT\n");
        return 2;
    }
    const char *mode = argv[2];
    int writes = strcmp(mode, "write") == 0, amount = atoi(argv[3]);
    int fd = open(argv[1], (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    check(fd >= 0, argv[1]);
    uint64_t blocks = lseek(fd, 0, SEEK_END) / BLOCK, seed = 1, sum = 0;
    unsigned char *buffer = aligned_alloc(BLOCK, MIB);
    memset(buffer, 0x5a, MIB);

    mark_start(mode);
    for (int i = 0; i < amount; i++) {
        if (strcmp(mode, "random") == 0) {
            check(pread(fd, buffer, BLOCK, next_random(&seed) % blocks * BLOCK) == BLOCK, mode);
        } else if (writes) {
            buffer[0] = i;
            check(pwrite(fd, buffer, MIB, (off_t)i * MIB) == MIB, mode);
        } else {
            check(pread(fd, buffer, MIB, (off_t)i * MIB) == MIB, mode);
        }
        sum = sum * 31 + buffer[0];
    }
    mark_end(mode, sum);

    fsync(fd);
    return 0;
}
