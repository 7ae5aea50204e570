#include "tests/support/support.h"

#include <math.h>

#include "src/core/random.h"

void assert_near(const float *a, const float *b, int64_t count, double tolerance, const char *what)
{
    double largest = 0.0;
    double difference = 0.0;
    int64_t where = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= difference)) {
            difference = d;
            where = i;
        }
        if (fabs((double)b[i]) > largest)
            largest = fabs((double)b[i]);
    }
    if (!(difference <= tolerance * largest))
        fail_msg("%s: element %lld is %.9g, expected %.9g: %.3g of the largest, allowed %.3g", what, (long long)where,
                 (double)a[where], (double)b[where], difference / largest, tolerance);
}

void assert_close(double a, double b, double relative, double absolute)
{
    if (!(fabs(a - b) <= relative * fabs(b) + absolute))
        fail_msg("%.17g, expected %.17g: differs by %.3g", a, b, fabs(a - b));
}

void fill_random(float *values, int64_t count, const char *name)
{
    uint64_t key = random_key(1, name);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(2.0 * random_uniform(key, (uint64_t)i) - 1.0);
}
