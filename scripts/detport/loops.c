/* The loops of preprocessing over all bytes of an image, written so that a compiler turns them into vector instructions.

   across and down are the two passes of Pillow's resize of 8-bit images: a pixel is the sum of its neighbours by weights
   of 22 bits behind the point, plus a half, cut to 8 bits. Nothing is checked here: loops.py does, before it calls. */

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(ONE_VARIANT)
#define VARIANTS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VARIANTS
#endif

enum { BITS = 22, HALF = 1 << (BITS - 1), ROWS = 16, CHUNK = 1024, SPAN = 256 };

static inline uint8_t byte_of(int32_t sum)
{
    sum >>= BITS;
    sum = sum < 0 ? 0 : sum;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

/* to[i] of `taps` rows that lie `stride` apart; the weights are those of the rows. */
static inline __attribute__((always_inline)) void weigh(const uint8_t *from, ptrdiff_t stride, const int32_t *weights,
                                                        ptrdiff_t taps, ptrdiff_t length, uint8_t *restrict to)
{
    if (taps == 2) { /* whatever is enlarged by a linear filter */
        const uint8_t *next = from + stride;
        const int32_t a = weights[0], b = weights[1];
        for (ptrdiff_t i = 0; i < length; i++)
            to[i] = byte_of(HALF + a * from[i] + b * next[i]);
        return;
    }
    for (ptrdiff_t start = 0; start < length; start += CHUNK) {
        int32_t sum[CHUNK];
        const ptrdiff_t size = length - start < CHUNK ? length - start : CHUNK;
        for (ptrdiff_t i = 0; i < size; i++)
            sum[i] = HALF;
        for (ptrdiff_t j = 0; j < taps; j++)
            for (ptrdiff_t i = 0; i < size; i++)
                sum[i] += weights[j] * from[j * stride + start + i];
        for (ptrdiff_t i = 0; i < size; i++)
            to[start + i] = byte_of(sum[i]);
    }
}

/* Resize the columns: rows of `length` bytes, which lie `row` apart, become `height` rows that lie `to_row` apart. */
VARIANTS
void down(const uint8_t *from, ptrdiff_t row, ptrdiff_t length, const int32_t *first, const int32_t *weights,
          ptrdiff_t taps, ptrdiff_t height, uint8_t *restrict to, ptrdiff_t to_row)
{
    for (ptrdiff_t y = 0; y < height; y++)
        weigh(from + first[y] * row, row, weights + y * taps, taps, length, to + y * to_row);
}

/* Resize the rows of packed pixels to `new_width`. Rows, pixels and channels of the result lie row, step and plane
   apart. ROWS rows at a time are turned into columns, so that what has the same weights lies side by side; `turned` has
   room for them. */
VARIANTS
void across(const uint8_t *from, ptrdiff_t width, ptrdiff_t height, ptrdiff_t channels, const int32_t *first,
            const int32_t *weights, ptrdiff_t taps, ptrdiff_t new_width, uint8_t *restrict turned, uint8_t *restrict to,
            ptrdiff_t row, ptrdiff_t step, ptrdiff_t plane)
{
    const ptrdiff_t values = width * channels, column = channels * ROWS;
    for (ptrdiff_t y = 0; y < height; y += ROWS, from += ROWS * values, to += ROWS * row) {
        const ptrdiff_t rows = height - y < ROWS ? height - y : ROWS;
        for (ptrdiff_t start = 0; start < values; start += SPAN) {
            const ptrdiff_t end = values - start < SPAN ? values : start + SPAN;
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t i = start; i < end; i++)
                    turned[i * ROWS + r] = from[r * values + i];
        }
        for (ptrdiff_t x = 0; x < new_width; x++) {
            uint8_t bytes[3 * ROWS];
            if (channels == 3) /* again a number that the compiler knows */
                weigh(turned + first[x] * column, 3 * ROWS, weights + x * taps, taps, 3 * ROWS, bytes);
            else
                weigh(turned + first[x] * column, column, weights + x * taps, taps, column, bytes);
            for (ptrdiff_t c = 0; c < channels; c++) {
                uint8_t *pixel = to + x * step + c * plane;
                if (rows == ROWS) /* known to the compiler, which lays it out straight */
                    for (ptrdiff_t r = 0; r < ROWS; r++)
                        pixel[r * row] = bytes[c * ROWS + r];
                else
                    for (ptrdiff_t r = 0; r < rows; r++)
                        pixel[r * row] = bytes[c * ROWS + r];
            }
        }
    }
}

/* The values of levels that lie `step` apart. One by one: to gather many at a time takes longer. */
void look_up(const uint8_t *from, ptrdiff_t row, ptrdiff_t step, ptrdiff_t width, ptrdiff_t height, const float *table,
             float *restrict to, ptrdiff_t to_row)
{
    for (ptrdiff_t y = 0; y < height; y++, from += row, to += to_row) {
        if (step == 1)
            for (ptrdiff_t x = 0; x < width; x++)
                to[x] = table[from[x]];
        else
            for (ptrdiff_t x = 0; x < width; x++)
                to[x] = table[from[x * step]];
    }
}
