/*
 * A JSON reader for messages from a peer that is not trusted: depth and number of values are bounded.
 *
 * It works in place. Strings are decoded inside the text and values point into it, so the text has
 * to outlive them. Numbers keep their spelling, and are converted when asked for.
 */
#ifndef JSON_H
#define JSON_H
#include "buf.h"
#include <stdbool.h>

enum { JSON_MAX_DEPTH = 32, JSON_MAX_VALUES = 65536 };

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    char *text;            /* of a string (with a zero byte after it) or number */
    size_t length;
    char *key;             /* as a member of an object, else NULL */
    size_t key_length;
    struct json *first;    /* of an array or object */
    struct json *next;     /* within the array or object that holds this value */
};

/* Parse one whole text. Returns NULL and sets *error if it is not valid; free with json_free. */
struct json *json_parse(char *text, size_t length, const char **error);
void json_free(struct json *root);
void json_write(const struct json *value, struct buf *to);

/* A member of an object, or NULL (also if `object` is NULL or something else). */
const struct json *json_member(const struct json *object, const char *name);
/* False if the value is missing or has another type. A string with a zero byte inside is not text. */
bool json_integer(const struct json *value, int64_t *result);
bool json_text(const struct json *value, const char **result);
/* True only for the value true. */
bool json_true(const struct json *value);

#endif
