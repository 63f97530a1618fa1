/*
 * wrap WIDTH: breaks the words of standard input into lines of at most WIDTH characters. A longer word has a line of its own; an
 * empty line stays where it is, so paragraphs are kept.
 */
#include <unistd.h>

enum { LONGEST = 256 };

static char word[LONGEST];
static int length;
static int column;
static int width;

static void put(const char *text, int size)
{
    while (size > 0) {
        int written = write(1, text, size);
        if (written <= 0)
            _exit(2);
        text += written;
        size -= written;
    }
}

/* Ends the line, if there is anything on it. */
static void end_line(void)
{
    if (column > 0)
        put("\n", 1);
    column = 0;
}

/* Writes the word that was collected. */
static void end_word(void)
{
    if (length == 0)
        return;
    if (column > 0 && column + length > width)
        end_line();
    if (column > 0) {
        put(" ", 1);
        column++;
    }
    put(word, length);
    column += length;
    length = 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (const char *digit = argv[1]; *digit; digit++)
        width = width * 10 + (*digit - '0');
    int newlines = 0;
    char c;
    while (read(0, &c, 1) == 1) {
        if (c == '\n' || c == ' ') {
            end_word();
            if (c == '\n' && ++newlines == 2) {
                end_line();
                put("\n", 1);
            }
            continue;
        }
        newlines = 0;
        if (length == LONGEST)
            end_word();
        word[length++] = c;
    }
    end_word();
    end_line();
    return 0;
}
