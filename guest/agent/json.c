#include "json.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The values of one text, in the order in which they begin: the root is the first. */
struct parser {
    char *at;
    char *end;
    struct json *values;
    size_t count;
    size_t limit;
    const char *error;
};

static bool fail(struct parser *parser, const char *error)
{
    if (!parser->error)
        parser->error = error;
    return false;
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->end && strchr(" \t\r\n", *parser->at) && *parser->at)
        parser->at++;
}

static bool literal(struct parser *parser, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(parser->end - parser->at) < length || memcmp(parser->at, word, length))
        return fail(parser, "not a JSON value");
    parser->at += length;
    return true;
}

static int hex4(struct parser *parser)
{
    int code = 0;
    if (parser->end - parser->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = *parser->at++;
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = code;
    } else if (code < 0x800) {
        *to++ = 0xc0 | code >> 6;
        *to++ = 0x80 | (code & 63);
    } else if (code < 0x10000) {
        *to++ = 0xe0 | code >> 12;
        *to++ = 0x80 | (code >> 6 & 63);
        *to++ = 0x80 | (code & 63);
    } else {
        *to++ = 0xf0 | code >> 18;
        *to++ = 0x80 | (code >> 12 & 63);
        *to++ = 0x80 | (code >> 6 & 63);
        *to++ = 0x80 | (code & 63);
    }
    return to;
}

/* Decoding never needs more room than the spelling, so it writes over what it has read. */
static bool string(struct parser *parser, char **text, size_t *length)
{
    if (parser->at == parser->end || *parser->at++ != '"')
        return fail(parser, "expected a string");
    char *to = *text = parser->at;
    while (parser->at < parser->end) {
        char c = *parser->at++;
        if (c == '"') {
            *length = to - *text;
            *to = 0;
            return true;
        }
        if ((unsigned char)c < 0x20)
            return fail(parser, "control character in a string");
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        char letter = parser->at < parser->end ? *parser->at++ : 0;
        const char *found = letter ? strchr(letters, letter) : NULL;
        if (found) {
            *to++ = meanings[found - letters];
            continue;
        }
        int code = letter == 'u' ? hex4(parser) : -1;
        if (code < 0)
            return fail(parser, "bad escape in a string");
        uint32_t whole = code;
        if (code >= 0xd800 && code < 0xe000) {
            /* Half of a pair: the other half has to follow. */
            int low = -1;
            if (code < 0xdc00 && parser->end - parser->at >= 6 && parser->at[0] == '\\' && parser->at[1] == 'u') {
                parser->at += 2;
                low = hex4(parser);
            }
            if (low < 0xdc00 || low >= 0xe000)
                return fail(parser, "bad surrogate in a string");
            whole = 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff));
        }
        to = put_utf8(to, whole);
    }
    return fail(parser, "string without end");
}

static bool number(struct parser *parser, struct json *value)
{
    char *at = parser->at, *end = parser->end;
    value->text = at;
    if (at < end && *at == '-')
        at++;
    char *digits = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    if (at == digits || (*digits == '0' && at - digits > 1))
        return fail(parser, "not a JSON value");
    if (at < end && *at == '.') {
        digits = ++at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        if (at == digits)
            return fail(parser, "bad number");
    }
    if (at < end && (*at | 32) == 'e') {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        digits = at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        if (at == digits)
            return fail(parser, "bad number");
    }
    value->type = JSON_NUMBER;
    value->length = at - value->text;
    parser->at = at;
    return true;
}

static struct json *parse_value(struct parser *parser, int depth);

/* The values between the brackets, and for an object the keys before them. */
static bool members(struct parser *parser, struct json *parent, char close, int depth)
{
    struct json **link = &parent->first;
    parser->at++;
    skip_space(parser);
    if (parser->at < parser->end && *parser->at == close) {
        parser->at++;
        return true;
    }
    for (;;) {
        char *key = NULL;
        size_t key_length = 0;
        if (close == '}') {
            skip_space(parser);
            if (!string(parser, &key, &key_length))
                return false;
            skip_space(parser);
            if (parser->at == parser->end || *parser->at++ != ':')
                return fail(parser, "expected a colon");
        }
        struct json *value = parse_value(parser, depth + 1);
        if (!value)
            return false;
        value->key = key;
        value->key_length = key_length;
        *link = value;
        link = &value->next;
        skip_space(parser);
        char c = parser->at < parser->end ? *parser->at++ : 0;
        if (c == close)
            return true;
        if (c != ',')
            return fail(parser, "expected a comma");
    }
}

static struct json *parse_value(struct parser *parser, int depth)
{
    bool good;
    if (depth > JSON_MAX_DEPTH)
        return fail(parser, "nested too deeply"), NULL;
    if (parser->count == parser->limit)
        return fail(parser, "too many values"), NULL;
    struct json *value = &parser->values[parser->count++];
    *value = (struct json){ 0 };
    skip_space(parser);
    switch (parser->at < parser->end ? *parser->at : 0) {
    case '{':
        value->type = JSON_OBJECT;
        good = members(parser, value, '}', depth);
        break;
    case '[':
        value->type = JSON_ARRAY;
        good = members(parser, value, ']', depth);
        break;
    case '"':
        value->type = JSON_STRING;
        good = string(parser, &value->text, &value->length);
        break;
    case 't':
        value->type = JSON_TRUE;
        good = literal(parser, "true");
        break;
    case 'f':
        value->type = JSON_FALSE;
        good = literal(parser, "false");
        break;
    case 'n':
        value->type = JSON_NULL;
        good = literal(parser, "null");
        break;
    default:
        good = number(parser, value);
    }
    return good ? value : NULL;
}

struct json *json_parse(char *text, size_t length, const char **error)
{
    /* Pointers between values must stay valid, so the room for all of them comes first. In a valid
       text every value but the root has a byte of its own and a comma or a bracket besides. */
    size_t limit = length / 2 + 1;
    if (limit > JSON_MAX_VALUES)
        limit = JSON_MAX_VALUES;
    struct parser parser = { .at = text, .end = text + length, .limit = limit };
    parser.values = malloc(limit * sizeof *parser.values);
    if (!parser.values)
        abort();
    if (parse_value(&parser, 0)) {
        skip_space(&parser);
        if (parser.at == parser.end)
            return parser.values;
        fail(&parser, "something after the value");
    }
    *error = parser.error;
    free(parser.values);
    return NULL;
}

void json_free(struct json *root)
{
    free(root);
}

void json_write(const struct json *value, struct buf *to)
{
    static const char *const words[] = { "null", "false", "true" };
    switch (value->type) {
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        buf_add_text(to, words[value->type]);
        return;
    case JSON_NUMBER:
        buf_add(to, value->text, value->length);
        return;
    case JSON_STRING:
        buf_add_string(to, value->text, value->length);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_add_text(to, value->type == JSON_ARRAY ? "[" : "{");
        for (const struct json *member = value->first; member; member = member->next) {
            if (member != value->first)
                buf_add_text(to, ",");
            if (member->key) {
                buf_add_string(to, member->key, member->key_length);
                buf_add_text(to, ":");
            }
            json_write(member, to);
        }
        buf_add_text(to, value->type == JSON_ARRAY ? "]" : "}");
    }
}

const struct json *json_member(const struct json *object, const char *name)
{
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    size_t length = strlen(name);
    for (const struct json *member = object->first; member; member = member->next)
        if (member->key_length == length && !memcmp(member->key, name, length))
            return member;
    return NULL;
}

bool json_integer(const struct json *value, int64_t *result)
{
    char copy[24], *end;
    if (!value || value->type != JSON_NUMBER || value->length >= sizeof copy)
        return false;
    memcpy(copy, value->text, value->length);
    copy[value->length] = 0;
    errno = 0;
    *result = strtoll(copy, &end, 10);
    return !*end && !errno;
}

bool json_text(const struct json *value, const char **result)
{
    if (!value || value->type != JSON_STRING || strlen(value->text) != value->length)
        return false;
    *result = value->text;
    return true;
}

bool json_true(const struct json *value)
{
    return value && value->type == JSON_TRUE;
}
