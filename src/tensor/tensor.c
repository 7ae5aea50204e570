#include "src/tensor/tensor.h"

int64_t tensor_count(const struct tensor *tensor)
{
    return tensor_rows(tensor) * tensor_columns(tensor);
}

int64_t tensor_rows(const struct tensor *tensor)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < tensor->rank; i++)
        rows *= tensor->shape[i];
    return rows;
}

int64_t tensor_columns(const struct tensor *tensor)
{
    return tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
}
