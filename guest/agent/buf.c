#include "buf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *buf_reserve(struct buf *buf, size_t more)
{
    if (buf->capacity - buf->length < more) {
        size_t capacity = buf->capacity ? buf->capacity : 256;
        while (capacity - buf->length < more)
            capacity *= 2;
        char *data = realloc(buf->data, capacity);
        if (!data)
            abort();
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->length;
}

void buf_add(struct buf *buf, const void *bytes, size_t count)
{
    if (count)
        memcpy(buf_reserve(buf, count), bytes, count);
    buf->length += count;
}

void buf_add_text(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

void buf_add_number(struct buf *buf, int64_t number)
{
    char text[24];
    buf_add(buf, text, snprintf(text, sizeof text, "%lld", (long long)number));
}

/* The length of the UTF-8 sequence at the front, or 0 if there is none. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t length = at[0] < 0x80 ? 1 : (at[0] & 0xe0) == 0xc0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3 : (at[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (length <= 1)
        return length;
    if (length > left)
        return 0;
    uint32_t code = at[0] & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : length;
}

void buf_add_string(struct buf *buf, const char *text, size_t count)
{
    buf_add(buf, "\"", 1);
    for (size_t i = 0; i < count;) {
        const unsigned char *at = (const unsigned char *)text + i;
        size_t length = utf8_length(at, count - i);
        if (length == 0) {
            buf_add_text(buf, "\xef\xbf\xbd");
        } else if (*at == '"' || *at == '\\') {
            buf_add(buf, (char[]){ '\\', *at }, 2);
        } else if (*at < 0x20 || *at == 0x7f) {
            char escape[8];
            buf_add(buf, escape, snprintf(escape, sizeof escape, "\\u%04x", *at));
        } else {
            buf_add(buf, at, length);
        }
        i += length ? length : 1;
    }
    buf_add(buf, "\"", 1);
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void buf_add_base64(struct buf *buf, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    char *to = buf_reserve(buf, (count + 2) / 3 * 4);
    for (; count >= 3; count -= 3, from += 3) {
        uint32_t group = from[0] << 16 | from[1] << 8 | from[2];
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = digits[group >> 6 & 63];
        *to++ = digits[group & 63];
    }
    if (count) {
        uint32_t group = from[0] << 16 | (count == 2 ? from[1] << 8 : 0);
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = count == 2 ? digits[group >> 6 & 63] : '=';
        *to++ = '=';
    }
    buf->length = to - buf->data;
}

static int digit_value(char digit)
{
    if (digit >= 'A' && digit <= 'Z')
        return digit - 'A';
    if (digit >= 'a' && digit <= 'z')
        return digit - 'a' + 26;
    if (digit >= '0' && digit <= '9')
        return digit - '0' + 52;
    return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

ptrdiff_t base64_decode(char *text, size_t length)
{
    if (length % 4)
        return -1;
    for (int i = 0; i < 2 && length && text[length - 1] == '='; i++)
        length--;
    uint32_t group = 0;
    ptrdiff_t count = 0;
    for (size_t i = 0; i < length; i++) {
        int value = digit_value(text[i]);
        if (value < 0)
            return -1;
        group = group << 6 | value;
        if (i % 4)
            text[count++] = group >> (6 - i % 4 * 2);
    }
    return count;
}

void buf_take(struct buf *buf, size_t count)
{
    buf->length -= count;
    memmove(buf->data, buf->data + count, buf->length);
    /* One large answer must not pin its memory. */
    if (!buf->length && buf->capacity > 1 << 20)
        buf_free(buf);
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){ 0 };
}
