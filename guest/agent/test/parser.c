/* The JSON reader against known texts, and then against random ones until the sanitizers complain. */
#include "../json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a byte that is not UTF-8 becomes. */
#define BAD "\xef\xbf\xbd"

static int failures;

/* What `text` becomes when read and written again; NULL if it is refused. Freed by the caller. */
static char *again(const char *text, size_t length)
{
    const char *error = NULL;
    /* A copy of the exact size, so that reading too far is noticed. */
    char *copy = malloc(length ? length : 1);
    memcpy(copy, text, length);
    struct json *root = json_parse(copy, length, &error);
    struct buf out = { 0 };
    if (root) {
        json_write(root, &out);
        buf_add(&out, "", 1);
    } else if (!error) {
        printf("refused without a reason: %.*s\n", (int)length, text);
        failures++;
    }
    json_free(root);
    free(copy);
    return out.data;
}

static void expect(const char *text, const char *wanted)
{
    char *got = again(text, strlen(text));
    if (!got != !wanted || (got && strcmp(got, wanted))) {
        printf("%s\n  became %s\n  not    %s\n", text, got ? got : "(refused)", wanted ? wanted : "(refused)");
        failures++;
    }
    free(got);
}

static uint64_t state = 1;

static unsigned below(unsigned limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

static void known(void)
{
    static const char *const same[] = {
        "{}", "[]", "null", "true", "false", "0", "-1", "12.5e+3", "\"\"", "[1,[2,[3]],{\"a\":{}}]",
        "{\"execute\":\"guest-ping\",\"id\":[1,null]}",
    };
    static const char *const refused[] = {
        "", " ", "{", "[", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "nul", "01", "-", "1.", "1e", "+1", "'a'", "\"", "\"\\",
        "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\t\"", "1 2", "{} {}", "[1", "[[[[[[[[[[",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        expect(same[i], same[i]);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        expect(refused[i], NULL);
    expect(" { \"a\" : [ 1 , 2 ] } ", "{\"a\":[1,2]}");
    expect("\"\\u0041\\n\\/\\u00e9\\u20ac\\ud83d\\ude00\"", "\"A\\u000a/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    expect("\"a\\u0000b\"", "\"a\\u0000b\"");
    expect("\"\xff\xc0\xaf\xed\xa0\x80\"", "\"" BAD BAD BAD BAD BAD BAD "\"");

    char deep[2 * JSON_MAX_DEPTH + 8] = "";
    memset(deep, '[', JSON_MAX_DEPTH + 1);
    memset(deep + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    expect(deep, deep);
    memset(deep, '[', JSON_MAX_DEPTH + 2);
    memset(deep + JSON_MAX_DEPTH + 2, ']', JSON_MAX_DEPTH + 2);
    expect(deep, NULL);

    struct buf many = { 0 };
    buf_add_text(&many, "[0");
    for (int i = 0; i < JSON_MAX_VALUES; i++)
        buf_add_text(&many, ",0");
    buf_add(&many, "]", 2);
    expect(many.data, NULL);
    buf_free(&many);
}

static void base64(void)
{
    for (int round = 0; round < 20000; round++) {
        unsigned char bytes[64];
        unsigned count = below(sizeof bytes);
        for (unsigned i = 0; i < count; i++)
            bytes[i] = below(256);
        struct buf text = { 0 };
        buf_reserve(&text, 1);
        buf_add_base64(&text, bytes, count);
        if (base64_decode(text.data, text.length) != (ptrdiff_t)count || memcmp(text.data, bytes, count)) {
            printf("base64 does not return\n");
            failures++;
        }
        for (unsigned i = 0; i < text.length; i++)
            text.data[i] = "AZaz09+/=\n"[below(10)];
        base64_decode(text.data, text.length);
        buf_free(&text);
    }
}

/* Valid requests with bytes changed, and heaps of the characters that mean something. */
static void garbage(int rounds)
{
    static const char model[] =
        "{\"execute\":\"braid-exec\",\"arguments\":{\"argv\":[\"sh\",\"-c\",\"\\u0041\\ud83d\\ude00\"],\"n\":-1.5e3,\"input\":true},\"id\":null}";
    static const char letters[] = "[]{}:,\"\\u0dD8ceE+-.123nulltruefalse \t\xff\x80\xc3";
    char text[256];
    for (int round = 0; round < rounds; round++) {
        size_t length;
        if (below(2)) {
            length = sizeof model - 1;
            memcpy(text, model, length);
            for (unsigned changes = 1 + below(4); changes; changes--)
                text[below(length)] = below(2) ? (char)below(256) : letters[below(sizeof letters - 1)];
            length -= below(4) ? 0 : below(length);
        } else {
            length = below(sizeof text);
            for (size_t i = 0; i < length; i++)
                text[i] = letters[below(sizeof letters - 1)];
        }
        char *once = again(text, length);
        if (once) {
            /* What we write, we read as the same. */
            char *twice = again(once, strlen(once));
            if (!twice || strcmp(once, twice)) {
                printf("not stable: %s\n", once);
                failures++;
            }
            free(twice);
        }
        free(once);
    }
}

int main(int count, char **arguments)
{
    if (count > 2)
        state = strtoull(arguments[2], NULL, 10) * 2 + 1;
    known();
    base64();
    garbage(count > 1 ? atoi(arguments[1]) : 200000);
    return failures > 0;
}
