#include "io/checkpoint/spectrum.h"

#include <math.h>
#include <stdbool.h>

/* In lanes, which a compiler may add side by side. */
static double dot(const double *a, const double *b, int64_t n)
{
    enum { LANES = 8 };
    double part[LANES] = {0};
    double sum = 0.0;
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            part[j] += a[i + j] * b[i + j];
    for (int j = 0; j < LANES; j++)
        sum += part[j];
    for (int64_t i = whole; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Turns two rows in their plane so that they are orthogonal; squares are their lengths', product their dot product. */
static void rotate(double *a, double *b, int64_t n, double *square_a, double *square_b, double product)
{
    double zeta = (*square_b - *square_a) / (2.0 * product);
    double tangent = copysign(1.0, zeta) / (fabs(zeta) + sqrt(1.0 + zeta * zeta));
    double cosine = 1.0 / sqrt(1.0 + tangent * tangent);
    double sine = cosine * tangent;
    for (int64_t i = 0; i < n; i++) {
        double from_a = a[i];
        double from_b = b[i];
        a[i] = cosine * from_a - sine * from_b;
        b[i] = sine * from_a + cosine * from_b;
    }
    *square_a = fmax(0.0, *square_a - tangent * product);
    *square_b += tangent * product;
}

/* Every pair of rows once; false when all were orthogonal already. `noise` is a product that nobody sees. */
static bool sweep(double *matrix, int64_t n, double *squares, double noise)
{
    bool turned = false;
    for (int64_t i = 0; i + 1 < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            double *a = matrix + i * n;
            double *b = matrix + j * n;
            double product = dot(a, b, n);
            if (fabs(product) <= fmax(noise, 1e-10 * sqrt(squares[i] * squares[j])))
                continue;
            rotate(a, b, n, &squares[i], &squares[j], product);
            turned = true;
        }
    return turned;
}

void spectrum_singular_values(double *matrix, int64_t n, double *values)
{
    enum { SWEEPS = 40 };
    bool turned = true;
    double total = dot(matrix, matrix, n * n);
    for (int i = 0; i < SWEEPS && turned && isfinite(total); i++) {
        for (int64_t row = 0; row < n; row++)
            values[row] = dot(matrix + row * n, matrix + row * n, n);
        turned = sweep(matrix, n, values, 1e-16 * total);
    }
    for (int64_t row = 0; row < n; row++)
        values[row] = sqrt(dot(matrix + row * n, matrix + row * n, n));
}
