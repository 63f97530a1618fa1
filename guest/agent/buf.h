/* A growing array of bytes. Running out of memory ends the agent: init starts another. */
#ifndef BUF_H
#define BUF_H
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;
    size_t length;
    size_t capacity;
};

/* Room for `more` bytes after the end; the caller then adds to `length` what it has used. */
char *buf_reserve(struct buf *buf, size_t more);
void buf_add(struct buf *buf, const void *bytes, size_t count);
void buf_add_text(struct buf *buf, const char *text);
void buf_add_number(struct buf *buf, int64_t number);
/* As a JSON string, with quotes; bytes that are not UTF-8 become U+FFFD. */
void buf_add_string(struct buf *buf, const char *text, size_t count);
void buf_add_base64(struct buf *buf, const void *bytes, size_t count);
/* Remove bytes from the front. */
void buf_take(struct buf *buf, size_t count);
void buf_free(struct buf *buf);

/* Decode in place; returns the number of bytes, or -1 if it is not base64. */
ptrdiff_t base64_decode(char *text, size_t length);

#endif
