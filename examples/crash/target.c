/*
 * settings [-v]: reads settings from standard input, counts them by section, and says how many there were.
 *
 *     [network]
 *     host=example; "name with \u00e9 and \U1f600"=1;
 *     # a comment
 *
 * It reads byte after byte, so that it can be fed by hand. With -v it says after each byte how many places of the parser have been
 * reached so far, which they are, and in which state it is (`3 places 143 in 1`): that is what a search for bad input goes by.
 *
 * There is a bug in it, of a common kind, and no short input shows it.
 */
#include <stdint.h>
#include <unistd.h>

enum { WORD = 8, SECTIONS = 4 };

struct section {
    char name[WORD];
    unsigned settings;
};

/* Places that -v counts: each of these, and each length of a word. */
enum { AT_WORD, AT_QUOTE, AT_ESCAPE, AT_HEX, AT_DIGIT, AT_VALUE = AT_DIGIT + 8, AT_SECTION, AT_COMMENT, AT_LENGTH };

static struct section sections[SECTIONS];

static struct {
    enum { START, NAME, QUOTED, ESCAPE, HEX, QUOTED_END, VALUE, COMMENT } state;
    /* The settings of this one are being read; 0 is for those before the first `[`. */
    unsigned count;
    unsigned digits, wanted;
    uint32_t code;
    uint64_t reached;
    int is_section;
    unsigned length;
    /* Names are short; longer ones are refused. */
    char word[WORD];
    struct section *section;
} parser = {.section = sections};

static void reach(unsigned place) { parser.reached |= UINT64_C(1) << place; }

static void say(const char *text)
{
    const char *end = text;
    while (*end)
        end++;
    write(1, text, end - text);
}

static void say_number(uint64_t number, unsigned base)
{
    char digits[24], *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    say(at);
}

static void refuse(const char *why)
{
    say("error: ");
    say(why);
    say("\n");
    _exit(1);
}

/* Adds a character to the word, as UTF-8. */
static void add(uint32_t code)
{
    if (parser.length >= WORD)
        refuse("a name is too long");
    char *at = parser.word + parser.length;
    if (code < 0x80) {
        *at++ = code;
    } else if (code < 0x800) {
        *at++ = 0xc0 | code >> 6;
        *at++ = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
        *at++ = 0xe0 | code >> 12;
        *at++ = 0x80 | (code >> 6 & 0x3f);
        *at++ = 0x80 | (code & 0x3f);
    } else {
        *at++ = 0xf0 | code >> 18;
        *at++ = 0x80 | (code >> 12 & 0x3f);
        *at++ = 0x80 | (code >> 6 & 0x3f);
        *at++ = 0x80 | (code & 0x3f);
    }
    parser.length = at - parser.word;
    reach(AT_LENGTH + (parser.length < 16 ? parser.length : 16));
}

static void begin_word(int state)
{
    parser.state = state;
    parser.length = 0;
    for (unsigned i = 0; i < WORD; i++)
        parser.word[i] = 0;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int is_letter(char c) { return (c >= 'a' && c <= 'z') || c == '-'; }

/* What comes after a name: a section begins, or a value. */
static void end_word(char c)
{
    if (parser.is_section && c == ']') {
        if (++parser.count >= SECTIONS)
            refuse("too many sections");
        parser.section = sections + parser.count;
        for (unsigned i = 0; i < WORD; i++)
            parser.section->name[i] = parser.word[i];
        reach(AT_SECTION);
        parser.is_section = 0;
        parser.state = START;
    } else if (!parser.is_section && c == '=') {
        parser.section->settings++;
        reach(AT_VALUE);
        parser.state = VALUE;
    } else {
        refuse("a name is followed by something else");
    }
}

static void take(char c)
{
    switch (parser.state) {
    case START:
        if (c == '#') {
            reach(AT_COMMENT);
            parser.state = COMMENT;
        } else if (c == '"') {
            reach(AT_QUOTE);
            begin_word(QUOTED);
        } else if (c == '[' && !parser.is_section) {
            parser.is_section = 1;
        } else if (is_letter(c)) {
            reach(AT_WORD);
            begin_word(NAME);
            add(c);
        } else if (c != '\n' && c != ' ') {
            refuse("there is no name");
        }
        break;
    case NAME:
        if (is_letter(c))
            add(c);
        else
            end_word(c);
        break;
    case QUOTED:
        if (c == '"') {
            parser.state = QUOTED_END;
        } else if (c == '\\') {
            reach(AT_ESCAPE);
            parser.state = ESCAPE;
        } else if (c == '\n') {
            refuse("a quoted name does not end");
        } else {
            add((unsigned char)c);
        }
        break;
    case ESCAPE:
        parser.code = parser.digits = 0;
        parser.wanted = c == 'U' ? 5 : 4;
        parser.state = HEX;
        if (c == 'u' || c == 'U') {
            reach(AT_HEX);
        } else {
            add((unsigned char)c);
            parser.state = QUOTED;
        }
        break;
    case HEX:
        if (hex(c) < 0)
            refuse("an escape needs hexadecimal digits");
        parser.code = parser.code << 4 | hex(c);
        reach(AT_DIGIT + parser.digits);
        if (++parser.digits == parser.wanted) {
            add(parser.code);
            parser.state = QUOTED;
        }
        break;
    case QUOTED_END:
        end_word(c);
        break;
    case VALUE:
        if (c == ';')
            parser.state = START;
        break;
    case COMMENT:
        if (c == '\n')
            parser.state = START;
        break;
    }
}

int main(int argc, char **argv)
{
    int verbose = argc > 1 && argv[1][0] == '-' && argv[1][1] == 'v';
    char c;
    while (read(0, &c, 1) == 1) {
        take(c);
        if (verbose) {
            unsigned places = 0;
            for (uint64_t left = parser.reached; left; left &= left - 1)
                places++;
            say_number(places, 10);
            say(" places ");
            say_number(parser.reached, 16);
            say(" in ");
            say_number(parser.state, 10);
            say("\n");
        }
    }
    unsigned settings = 0;
    for (unsigned i = 0; i < SECTIONS; i++)
        settings += sections[i].settings;
    say_number(settings, 10);
    say(" settings\n");
    return 0;
}
