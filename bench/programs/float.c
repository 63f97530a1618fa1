/*
 * Floating-point kernels for the speed of an engine: float KERNEL REPETITIONS
 *
 * Doubles, and only operations that IEEE 754 defines to the last bit: no library function, no contraction by the compiler
 * (-ffp-contract=off). So the bits that a kernel returns are the same on every machine that is right.
 */
#include "bench.h"

static double square_root(double x) { return __builtin_sqrt(x); }

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* From 0 up to 1. */
static double random_fraction(uint64_t *seed)
{
    return (double)(next_random(seed) >> 11) * 0x1p-53;
}

/* N-body: a sun and four planets that started on circles, 1000 steps a repetition. Returns the energy. */
enum { BODIES = 5 };

struct body { double x, y, z, vx, vy, vz, mass; };

static void place_bodies(struct body *bodies)
{
    static const double radius[] = { 0, 1, 1.75, 3.25, 6 }, mass[] = { 1, 0x1p-10, 0x1p-12, 0x1p-11, 0x1p-14 };
    for (int i = 0; i < BODIES; i++) {
        double side = i % 2 ? 1 : -1;
        double speed = i ? square_root(1 / radius[i]) : 0;
        bodies[i] = (struct body){ .x = side * radius[i], .vy = side * speed, .vz = speed / 16, .mass = mass[i] };
    }
}

static double energy_of(const struct body *bodies)
{
    double energy = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *a = &bodies[i];
        energy += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (int j = i + 1; j < BODIES; j++) {
            const struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            energy -= a->mass * b->mass / square_root(dx * dx + dy * dy + dz * dz);
        }
    }
    return energy;
}

static inline double rounded_twice(double a, double b, double c) { return a * b + c; }
static inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

/* Moves the bodies on, with its multiply-adds as `madd` makes them. A macro: the two kernels may be for different processors. */
#define ADVANCE(bodies, step, madd)                                                           \
    for (int i = 0; i < BODIES; i++) {                                                        \
        struct body *a = &bodies[i];                                                          \
        for (int j = i + 1; j < BODIES; j++) {                                                \
            struct body *b = &bodies[j];                                                      \
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;                      \
            double square = madd(dz, dz, madd(dy, dy, dx * dx));                              \
            double pull = step / (square * square_root(square));                              \
            double on_a = b->mass * pull, on_b = a->mass * pull;                              \
            a->vx = madd(-dx, on_a, a->vx), b->vx = madd(dx, on_b, b->vx);                    \
            a->vy = madd(-dy, on_a, a->vy), b->vy = madd(dy, on_b, b->vy);                    \
            a->vz = madd(-dz, on_a, a->vz), b->vz = madd(dz, on_b, b->vz);                    \
        }                                                                                     \
    }                                                                                         \
    for (int i = 0; i < BODIES; i++) {                                                        \
        struct body *a = &bodies[i];                                                          \
        a->x = madd(step, a->vx, a->x), a->y = madd(step, a->vy, a->y), a->z = madd(step, a->vz, a->z); \
    }

#define STEP 0x1p-8

KERNEL static uint64_t nbody(int repetitions)
{
    struct body bodies[BODIES];
    place_bodies(bodies);
    for (int r = 0; r < repetitions * 1000; r++) {
        ADVANCE(bodies, STEP, rounded_twice)
    }
    return bits_of(energy_of(bodies));
}

/* The same as a compiler makes it that may contract, which is what GCC does unless told otherwise. */
#ifdef __x86_64__
__attribute__((target("fma")))
#endif
KERNEL static uint64_t nbody_fma(int repetitions)
{
    struct body bodies[BODIES];
    place_bodies(bodies);
    for (int r = 0; r < repetitions * 1000; r++) {
        ADVANCE(bodies, STEP, fused)
    }
    return bits_of(energy_of(bodies));
}

/* The product of two matrices of 128 x 128. */
enum { SIZE = 128 };

KERNEL static uint64_t matmul(int repetitions)
{
    static double a[SIZE][SIZE], b[SIZE][SIZE], product[SIZE][SIZE];
    uint64_t seed = 17, sum = 0;
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = random_fraction(&seed) - 0.5;
            b[i][j] = random_fraction(&seed) - 0.5;
        }
    }
    for (int r = 0; r < repetitions; r++) {
        memset(product, 0, sizeof product);
        for (int i = 0; i < SIZE; i++)
            for (int k = 0; k < SIZE; k++)
                for (int j = 0; j < SIZE; j++)
                    product[i][j] += a[i][k] * b[k][j];
        for (int i = 0; i < SIZE; i++)
            sum = sum * 31 + bits_of(product[i][SIZE - 1 - i]);
        a[r % SIZE][r / SIZE % SIZE] += 1;
    }
    return sum;
}

/* FFT of 4096 complex numbers, radix 2, in place: there and back. */
enum { LOG_POINTS = 12, POINTS = 1 << LOG_POINTS };

struct complex { double re, im; };

static struct complex times(struct complex a, struct complex b)
{
    return (struct complex){ a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re };
}

static struct complex roots[POINTS / 2]; /* roots[k] = e^(-2 pi i k / POINTS) */

static void find_roots(void)
{
    struct complex power[LOG_POINTS]; /* power[n] = roots[2^n], each half the angle of the one after it */
    power[LOG_POINTS - 2] = (struct complex){ 0, -1 };
    for (int n = LOG_POINTS - 3; n >= 0; n--) {
        double cosine = square_root((1 + power[n + 1].re) / 2);
        power[n] = (struct complex){ cosine, power[n + 1].im / (2 * cosine) };
    }
    roots[0] = (struct complex){ 1, 0 };
    for (int n = 0; n < LOG_POINTS - 1; n++)
        for (int k = 0; k < 1 << n; k++)
            roots[(1 << n) + k] = times(roots[k], power[n]);
}

static void transform(struct complex *points)
{
    for (int i = 0, j = 0; i < POINTS; i++) { /* j is i with its bits in reverse */
        if (i < j) {
            struct complex point = points[i];
            points[i] = points[j];
            points[j] = point;
        }
        int bit = POINTS / 2;
        for (; j & bit; bit /= 2)
            j -= bit;
        j += bit;
    }
    for (int half = 1; half < POINTS; half *= 2) {
        for (int start = 0; start < POINTS; start += 2 * half) {
            for (int k = 0; k < half; k++) {
                struct complex *low = &points[start + k], *high = low + half;
                struct complex turned = times(*high, roots[k * (POINTS / 2 / half)]);
                *high = (struct complex){ low->re - turned.re, low->im - turned.im };
                *low = (struct complex){ low->re + turned.re, low->im + turned.im };
            }
        }
    }
}

KERNEL static uint64_t fft(int repetitions)
{
    static struct complex points[POINTS];
    uint64_t seed = 19, sum = 0;
    find_roots();
    for (int i = 0; i < POINTS; i++)
        points[i] = (struct complex){ random_fraction(&seed), random_fraction(&seed) };
    for (int r = 0; r < repetitions; r++) {
        transform(points);
        sum = sum * 31 + (bits_of(points[r % POINTS].re) ^ bits_of(points[r % POINTS].im));
        for (int i = 0; i < POINTS; i++)
            points[i].im = -points[i].im;
        transform(points);
        for (int i = 0; i < POINTS; i++)
            points[i] = (struct complex){ points[i].re / POINTS, -points[i].im / POINTS };
    }
    return sum * 31 + bits_of(points[1].re);
}

/* The Mandelbrot set: 128 x 128 points, up to 200 iterations each. */
KERNEL static uint64_t mandelbrot(int repetitions)
{
    uint64_t sum = 0;
    for (int r = 0; r < repetitions; r++) {
        for (int row = 0; row < 128; row++) {
            for (int column = 0; column < 128; column++) {
                double cx = column / 64.0 - 1.5 + r * 0x1p-20, cy = row / 64.0 - 1;
                double x = 0, y = 0, xx = 0, yy = 0;
                int n = 0;
                for (; n < 200 && xx + yy <= 4; n++) {
                    y = 2 * x * y + cy;
                    x = xx - yy + cx;
                    xx = x * x;
                    yy = y * y;
                }
                sum = sum * 31 + (bits_of(x) ^ n);
            }
        }
    }
    return sum;
}

static const struct kernel kernels[] = {
    { "nbody", nbody }, { "matmul", matmul }, { "fft", fft }, { "mandelbrot", mandelbrot }, { "nbody-fma", nbody_fma },
};

int main(int argc, char **argv)
{
    return run_kernel(kernels, COUNT(kernels), argc, argv);
}
