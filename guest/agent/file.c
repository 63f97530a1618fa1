/* guest-file-*: files, by handles that are small numbers. */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 64, FIRST_HANDLE = 1000, READ_USUAL = 4096, READ_LIMIT = 1024 * 1024 };

/* Descriptor plus one, so that the table starts empty. */
static int files[MAX_FILES];

static int *find(const struct json *arguments)
{
    int64_t handle;
    if (!json_integer(json_member(arguments, "handle"), &handle) || handle < FIRST_HANDLE ||
        handle >= FIRST_HANDLE + MAX_FILES || !files[handle - FIRST_HANDLE])
        return NULL;
    return &files[handle - FIRST_HANDLE];
}

static const char no_file[] = "no open file has this handle";

/* The modes of fopen: "r", "w" or "a", with "+" and "b" after it in any order. */
static int open_flags(const char *mode)
{
    bool both = strchr(mode, '+');
    if (!*mode || !strchr("rwa", *mode) || mode[1 + strspn(mode + 1, "b+")])
        return -1;
    int access = both ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    return access | (*mode == 'w' ? O_CREAT | O_TRUNC : *mode == 'a' ? O_CREAT | O_APPEND : 0);
}

static const char *file_open(const struct json *arguments, struct buf *result)
{
    const char *path, *mode = "r";
    const struct json *asked = json_member(arguments, "mode");
    if (!json_text(json_member(arguments, "path"), &path))
        return "path has to be a text";
    if (asked && !json_text(asked, &mode))
        mode = "";
    int flags = open_flags(mode), free_slot = 0;
    if (flags < 0)
        return "mode has to be one of fopen's";
    while (free_slot < MAX_FILES && files[free_slot])
        free_slot++;
    if (free_slot == MAX_FILES)
        return "too many open files";
    /* Not blocking: a pipe without a peer must not stop the agent. */
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (fd < 0)
        return error_text("cannot open %s: %s", path, strerror(errno));
    files[free_slot] = fd + 1;
    buf_add_number(result, FIRST_HANDLE + free_slot);
    return NULL;
}

static const char *file_close(const struct json *arguments, struct buf *result)
{
    int *file = find(arguments);
    (void)result;
    if (!file)
        return no_file;
    int failed = close(*file - 1);
    *file = 0;
    return failed ? error_text("cannot close: %s", strerror(errno)) : NULL;
}

static const char *file_read(const struct json *arguments, struct buf *result)
{
    int *file = find(arguments);
    int64_t count = READ_USUAL;
    const struct json *asked = json_member(arguments, "count");
    if (!file)
        return no_file;
    if (asked && (!json_integer(asked, &count) || count < 0))
        return "count has to be a number of bytes";
    if (count > READ_LIMIT)
        count = READ_LIMIT;
    char *bytes = malloc(count ? count : 1);
    if (!bytes)
        abort();
    ssize_t got = read(*file - 1, bytes, count);
    if (got >= 0) {
        buf_add_text(result, "{\"count\":");
        buf_add_number(result, got);
        buf_add_text(result, ",\"buf-b64\":\"");
        buf_add_base64(result, bytes, got);
        buf_add_text(result, got == 0 && count ? "\",\"eof\":true}" : "\",\"eof\":false}");
    }
    free(bytes);
    return got < 0 ? error_text("cannot read: %s", strerror(errno)) : NULL;
}

static const char *file_write(const struct json *arguments, struct buf *result)
{
    int *file = find(arguments);
    const struct json *data = json_member(arguments, "buf-b64"), *asked = json_member(arguments, "count");
    int64_t count;
    if (!file)
        return no_file;
    ptrdiff_t length = data && data->type == JSON_STRING ? base64_decode(data->text, data->length) : -1;
    if (length < 0)
        return "buf-b64 has to be base64";
    count = length;
    if (asked && (!json_integer(asked, &count) || count < 0 || count > length))
        return "count has to be at most the number of bytes given";
    ssize_t sent = write(*file - 1, data->text, count);
    if (sent < 0)
        return error_text("cannot write: %s", strerror(errno));
    buf_add_text(result, "{\"count\":");
    buf_add_number(result, sent);
    buf_add_text(result, ",\"eof\":false}");
    return NULL;
}

static const char *file_flush(const struct json *arguments, struct buf *result)
{
    int *file = find(arguments);
    (void)result;
    /* What cannot be synchronised, such as a device, has nothing to flush. */
    return !file ? no_file : fsync(*file - 1) < 0 && errno != EINVAL ? error_text("cannot flush: %s", strerror(errno)) : NULL;
}

static const char *file_seek(const struct json *arguments, struct buf *result)
{
    static const char *const names[] = { "set", "cur", "end" };
    static const int meanings[] = { SEEK_SET, SEEK_CUR, SEEK_END };
    int *file = find(arguments);
    const struct json *whence = json_member(arguments, "whence");
    const char *name;
    int64_t offset, number = -1;
    if (!file)
        return no_file;
    if (!json_integer(json_member(arguments, "offset"), &offset))
        return "offset has to be a number";
    if (json_text(whence, &name))
        for (int i = 0; i < 3; i++)
            number = strcmp(name, names[i]) ? number : i;
    else if (!json_integer(whence, &number))
        number = -1;
    if (number < 0 || number > 2)
        return "whence has to be set, cur or end";
    off_t position = lseek(*file - 1, offset, meanings[number]);
    if (position < 0)
        return error_text("cannot seek: %s", strerror(errno));
    buf_add_text(result, "{\"position\":");
    buf_add_number(result, position);
    buf_add_text(result, ",\"eof\":false}");
    return NULL;
}

const struct command file_commands[] = {
    { "guest-file-open", file_open, false },
    { "guest-file-close", file_close, false },
    { "guest-file-read", file_read, false },
    { "guest-file-write", file_write, false },
    { "guest-file-flush", file_flush, false },
    { "guest-file-seek", file_seek, false },
    { 0 },
};
