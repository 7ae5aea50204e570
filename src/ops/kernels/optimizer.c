/* One pass over parameters, gradients and moments. */
#include "src/ops/kernels/declare.h"

#include <math.h>

WORKER void adamw_piece(const struct kernel_adamw s, float *master, float *m, float *v, const float *gradient,
                        int64_t count)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * s.gradient_scale;
        m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g;
        v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * g * g;
        float change = m[i] / s.correction1 / (sqrtf(v[i] / s.correction2) + s.epsilon) + s.decay * master[i];
        master[i] -= s.rate * change;
    }
}

void KERNEL(adamw)(const struct kernel_adamw *step, float *master, float *m, float *v, const float *gradient,
                   bf16 *values, int64_t count)
{
    for (int64_t begin = 0; begin < count; begin += PIECE) {
        int64_t piece = count - begin < PIECE ? count - begin : PIECE;
        adamw_piece(*step, master + begin, m + begin, v + begin, gradient + begin, piece);
        if (values)
            KERNEL(convert)(values + begin, DTYPE_BF16, master + begin, DTYPE_F32, piece, false);
    }
}

double KERNEL(sum_of_squares)(const float *values, int64_t count)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sum;
}
