/*
 * Integer kernels for the speed of an engine: integer KERNEL REPETITIONS
 *
 * Each is a small program of a kind that real ones are made of. One repetition is a few million instructions. No kernel
 * enters the operating system between its markers; memory is static and touched before.
 */
#include "bench.h"

/* Adds, shifts, multiplications, divisions and branches on registers. */
KERNEL static uint64_t arithmetic(int repetitions)
{
    uint64_t a = 0x9e3779b97f4a7c15, b = 1, sum = 0;
    for (int i = 0; i < repetitions * 200000; i++) {
        a ^= a << 13;
        a ^= a >> 7;
        a ^= a << 17;
        b = b * 6364136223846793005u + a;
        sum += b >> 33;
        if (a & 4)
            sum ^= a + (b & 0xff);
        else
            sum -= b >> 3;
        if ((i & 15) == 0)
            sum += b / ((a & 0xffff) + 1) + (int32_t)b % 1000;
    }
    return sum;
}

/* Deep and shallow recursion, and calls through pointers. */
static int tak(int x, int y, int z)
{
    return y >= x ? z : tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}

static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t subtract(uint64_t a, uint64_t b) { return a - b; }
static uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b) * 31; }
static uint64_t turn(uint64_t a, uint64_t b) { return a << 7 | (a >> 57 ^ b); }
static uint64_t (*const volatile operations[])(uint64_t, uint64_t) = { add, subtract, mix, turn };

KERNEL static uint64_t calls(int repetitions)
{
    uint64_t sum = 0, seed = 88172645463325252u;
    for (int i = 0; i < repetitions; i++) {
        sum += tak(14, 8, 3);
        for (int n = 0; n < 50000; n++) {
            seed = seed * 2862933555777941757u + 3037000493u;
            sum = operations[seed >> 62](sum, seed);
        }
    }
    return sum;
}

/* Text, byte by byte: words split, measured, compared, turned round and written out as numbers. */
static char text[1 << 16], words[1 << 17];

static size_t write_number(char *to, uint32_t value)
{
    char digits[10];
    size_t length = 0, written = 0;
    do
        digits[length++] = '0' + value % 10;
    while (value /= 10);
    while (length)
        to[written++] = digits[--length];
    return written;
}

KERNEL static uint64_t strings(int repetitions)
{
    uint64_t seed = 42, sum = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        uint64_t letter = next_random(&seed) % 32;
        text[i] = letter < 26 ? 'a' + letter : letter < 30 ? ' ' : '\n';
    }
    for (int r = 0; r < repetitions; r++) {
        char *to = words, *previous = NULL;
        for (const char *from = text; *from;) {
            while (*from == ' ' || *from == '\n')
                from++;
            char *word = to;
            while (*from && *from != ' ' && *from != '\n')
                *to++ = *from++;
            for (char *low = word, *high = to - 1; low < high; low++, high--) {
                char byte = *low;
                *low = *high;
                *high = byte;
            }
            size_t length = to - word;
            *to++ = 0;
            if (previous) {
                const char *a = previous, *b = word;
                while (*a && *a == *b)
                    a++, b++;
                sum += (unsigned char)*a < (unsigned char)*b ? 1 : 3;
            }
            previous = word;
            if (length % 8 == 0)
                to += write_number(to, (uint32_t)sum);
        }
        for (const char *p = words; p < to; p++)
            sum = sum * 31 + (unsigned char)*p;
    }
    return sum;
}

/* Quicksort with insertion sort below 16, of 64-bit numbers. */
static uint64_t numbers[1 << 14];

static void insertion_sort(uint64_t *array, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t value = array[i];
        size_t j = i;
        for (; j > 0 && array[j - 1] > value; j--)
            array[j] = array[j - 1];
        array[j] = value;
    }
}

static void quicksort(uint64_t *array, size_t count)
{
    while (count > 16) {
        uint64_t a = array[0], b = array[count / 2], c = array[count - 1];
        uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        size_t i = 0, j = count - 1;
        for (;; i++, j--) {
            while (array[i] < pivot)
                i++;
            while (array[j] > pivot)
                j--;
            if (i >= j)
                break;
            uint64_t value = array[i];
            array[i] = array[j];
            array[j] = value;
        }
        quicksort(array, j + 1);
        array += j + 1;
        count -= j + 1;
    }
    insertion_sort(array, count);
}

KERNEL static uint64_t sort(int repetitions)
{
    uint64_t seed = 7, sum = 0;
    for (int r = 0; r < repetitions; r++) {
        for (size_t i = 0; i < COUNT(numbers); i++)
            numbers[i] = next_random(&seed);
        quicksort(numbers, COUNT(numbers));
        for (size_t i = 1; i < COUNT(numbers); i++) {
            if (numbers[i - 1] > numbers[i])
                abort();
            sum += numbers[i] * i;
        }
    }
    return sum;
}

/* A table of 2^16 slots, open addressing: inserts, updates, finds and misses, in 1 MiB of memory. */
static struct { uint64_t key, value; } slots[1 << 16];

static uint64_t *slot_of(uint64_t key)
{
    size_t i = (key * 0x9e3779b97f4a7c15u) >> 48;
    while (slots[i].key && slots[i].key != key)
        i = (i + 1) % COUNT(slots);
    slots[i].key = key;
    return &slots[i].value;
}

KERNEL static uint64_t hash_table(int repetitions)
{
    uint64_t sum = 0;
    for (int r = 0; r < repetitions; r++) {
        uint64_t seed = 99 + r;
        memset(slots, 0, sizeof slots);
        for (int i = 0; i < 60000; i++)
            *slot_of(next_random(&seed) % 40000 + 1) += i;
        for (uint64_t key = 1; key <= 40000; key += 3) {
            size_t i = (key * 0x9e3779b97f4a7c15u) >> 48;
            while (slots[i].key && slots[i].key != key)
                i = (i + 1) % COUNT(slots);
            sum += slots[i].key ? slots[i].value : 1;
        }
    }
    return sum;
}

/* SHA-256 of 64 KiB. */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t value, int by)
{
    return value >> by | value << (32 - by);
}

static void sha256_block(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t first = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
        uint32_t a = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t second = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6];
        s[6] = s[5];
        s[5] = s[4];
        s[4] = s[3] + first;
        s[3] = s[2];
        s[2] = s[1];
        s[1] = s[0];
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

static unsigned char data[1 << 16];

static void fill_data(void)
{
    uint64_t seed = 5;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = next_random(&seed);
}

KERNEL static uint64_t sha256(int repetitions)
{
    uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    fill_data();
    for (int r = 0; r < repetitions; r++)
        for (size_t i = 0; i < sizeof data; i += 64)
            sha256_block(state, data + i);
    return (uint64_t)state[0] << 32 | state[7];
}

/* A compressor with matches found by a hash of four bytes, and its decompressor, on text that repeats itself. */
static unsigned char packed[1 << 17], unpacked[1 << 16];
static uint32_t heads[1 << 12];

static size_t compress(const unsigned char *from, size_t size, unsigned char *to)
{
    unsigned char *run = NULL; /* how many literals follow it */
    size_t out = 0;
    memset(heads, 0, sizeof heads);
    for (size_t at = 0; at < size;) {
        size_t length = 0, distance = 0;
        if (at + 4 <= size) {
            uint32_t word = from[at] | from[at + 1] << 8 | from[at + 2] << 16 | (uint32_t)from[at + 3] << 24;
            uint32_t *head = &heads[(word * 2654435761u) >> 20];
            if (*head) {
                distance = at - (*head - 1);
                while (at + length < size && length < 255 && from[at + length - distance] == from[at + length])
                    length++;
            }
            *head = at + 1;
        }
        if (length >= 4) {
            to[out++] = 0;
            to[out++] = length;
            to[out++] = distance;
            to[out++] = distance >> 8;
            at += length;
            run = NULL;
            continue;
        }
        if (!run || *run == 255) {
            run = &to[out++];
            *run = 0;
        }
        to[out++] = from[at++];
        ++*run;
    }
    return out;
}

static size_t decompress(const unsigned char *from, size_t size, unsigned char *to)
{
    size_t out = 0;
    for (size_t at = 0; at < size;) {
        size_t literals = from[at++];
        if (literals) {
            while (literals--)
                to[out++] = from[at++];
        } else {
            size_t length = from[at], distance = from[at + 1] | from[at + 2] << 8;
            at += 3;
            for (; length--; out++)
                to[out] = to[out - distance];
        }
    }
    return out;
}

KERNEL static uint64_t compression(int repetitions)
{
    static const char *const phrases[] = { "the machine ", "of frames ", "a hart that waits ", "restores ", "and then ", "page\n" };
    uint64_t seed = 11, sum = 0;
    for (size_t i = 0; i < sizeof data;) {
        uint64_t number = next_random(&seed);
        const char *phrase = phrases[number % COUNT(phrases)];
        for (; *phrase && i < sizeof data; i++)
            data[i] = *phrase++;
        if (number % 16 == 0 && i < sizeof data)
            data[i++] = number >> 32;
    }
    for (int r = 0; r < repetitions; r++) {
        size_t size = compress(data, sizeof data, packed);
        if (decompress(packed, size, unpacked) != sizeof data || memcmp(data, unpacked, sizeof data))
            abort();
        sum = sum * 31 + size;
        data[next_random(&seed) % sizeof data]++;
    }
    return sum;
}

/* An interpreter: a register machine that counts primes with a sieve of its own. */
enum { LOAD, MOVE, ADD, MULTIPLY, LESS, JUMP, JUMP_IF, GET, PUT, HALT };

static const int32_t program[][4] = {
    { LOAD, 0, 2 },      /* 0: i = 2 */
    { LOAD, 1, 4000 },   /* 1: limit */
    { LOAD, 2, 1 },      /* 2: one */
    { LOAD, 3, 0 },      /* 3: primes = 0 */
    { LESS, 4, 0, 1 },   /* 4: while i < limit */
    { JUMP_IF, 4, 7 },   /* 5 */
    { HALT },            /* 6 */
    { GET, 5, 0 },       /* 7: crossed out? */
    { JUMP_IF, 5, 15 },  /* 8 */
    { ADD, 3, 3, 2 },    /* 9: primes++ */
    { MULTIPLY, 6, 0, 0 }, /* 10: j = i * i */
    { LESS, 4, 6, 1 },   /* 11: while j < limit */
    { JUMP_IF, 4, 17 },  /* 12 */
    { MOVE, 7, 6 },      /* 13 */
    { JUMP, 15 },        /* 14 */
    { ADD, 0, 0, 2 },    /* 15: i++ */
    { JUMP, 4 },         /* 16 */
    { PUT, 6, 2 },       /* 17: cross out j */
    { ADD, 6, 6, 0 },    /* 18: j += i */
    { JUMP, 11 },        /* 19 */
};

KERNEL static uint64_t bytecode(int repetitions)
{
    static int64_t memory[4096];
    uint64_t sum = 0;
    for (int r = 0; r < repetitions * 16; r++) {
        int64_t x[8] = { 0 };
        memset(memory, 0, sizeof memory);
        for (int pc = 0, running = 1; running;) {
            const int32_t *op = program[pc++];
            switch (op[0]) {
            case LOAD: x[op[1]] = op[2]; break;
            case MOVE: x[op[1]] = x[op[2]]; break;
            case ADD: x[op[1]] = x[op[2]] + x[op[3]]; break;
            case MULTIPLY: x[op[1]] = x[op[2]] * x[op[3]]; break;
            case LESS: x[op[1]] = x[op[2]] < x[op[3]]; break;
            case JUMP: pc = op[1]; break;
            case JUMP_IF: if (x[op[1]]) pc = op[2]; break;
            case GET: x[op[1]] = memory[x[op[2]] & 4095]; break;
            case PUT: memory[x[op[1]] & 4095] = x[op[2]]; break;
            default: running = 0;
            }
        }
        sum = sum * 5 + x[3];
    }
    return sum;
}

/* CRC-32 with a table, and Adler-32. */
KERNEL static uint64_t crc(int repetitions)
{
    static uint32_t table[256];
    uint32_t crc = ~0u, a = 1, b = 0;
    fill_data();
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
        table[i] = value;
    }
    for (int r = 0; r < repetitions * 4; r++) {
        for (size_t i = 0; i < sizeof data; i++)
            crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
        for (size_t i = 0; i < sizeof data; i++) {
            a += data[i];
            b += a;
            if ((i & 2047) == 2047)
                a %= 65521, b %= 65521;
        }
    }
    return (uint64_t)crc << 32 | b << 16 | a;
}

/* One load after the other, each of which says where the next is: a random cycle through all of the nodes. */
struct node { struct node *next; uint64_t key, padding[6]; };

static struct node near_nodes[1 << 8], far_nodes[1 << 18]; /* 16 KiB and 16 MiB */

static void tie_cycle(struct node *nodes, size_t count)
{
    uint64_t seed = 3;
    for (size_t i = 0; i < count; i++)
        nodes[i] = (struct node){ .next = &nodes[i], .key = next_random(&seed) };
    for (size_t i = count - 1; i > 0; i--) { /* Sattolo: exchanges with earlier ones only leave a single cycle */
        size_t other = next_random(&seed) % i;
        struct node *next = nodes[i].next;
        nodes[i].next = nodes[other].next;
        nodes[other].next = next;
    }
}

static uint64_t chase_cycle(struct node *nodes, size_t count, size_t steps)
{
    struct node *node = nodes;
    uint64_t sum = 0;
    if (!node->next) /* the first call, before the marker */
        tie_cycle(nodes, count);
    for (size_t i = 0; i < steps; i++) {
        sum = sum * 31 + node->key;
        node = node->next;
    }
    return sum;
}

KERNEL static uint64_t chase(int repetitions)
{
    return chase_cycle(far_nodes, COUNT(far_nodes), (size_t)repetitions << 18);
}

KERNEL static uint64_t chase_small(int repetitions)
{
    return chase_cycle(near_nodes, COUNT(near_nodes), (size_t)repetitions << 18);
}

/* The library's memcpy: blocks of 256 KiB, and records of up to 256 bytes that are not aligned. */
KERNEL static uint64_t copy(int repetitions)
{
    static unsigned char from[1 << 18], to[1 << 18];
    uint64_t seed = 13, sum = 0;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = next_random(&seed);
    for (int r = 0; r < repetitions * 4; r++) {
        from[next_random(&seed) % sizeof from]++;
        memcpy(to, from, sizeof to);
        for (int i = 0; i < 4096; i++) {
            uint64_t number = next_random(&seed);
            size_t length = (number & 255) + 1;
            memcpy(to + (number >> 8) % (sizeof to - 256), from + (number >> 32) % (sizeof from - 256), length);
        }
        for (size_t i = 0; i < sizeof to; i += 64)
            sum = sum * 31 + to[i];
    }
    return sum;
}

static const struct kernel kernels[] = {
    { "arithmetic", arithmetic },   { "calls", calls },       { "strings", strings },
    { "sort", sort },               { "hash-table", hash_table }, { "sha256", sha256 },
    { "crc", crc },                 { "compression", compression }, { "bytecode", bytecode },
    { "chase", chase },             { "chase-small", chase_small }, { "copy", copy },
};

int main(int argc, char **argv)
{
    return run_kernel(kernels, COUNT(kernels), argc, argv);
}
