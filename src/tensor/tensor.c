#include "src/tensor/tensor.h"

#include "src/core/random.h"

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

struct box parameter_box(const struct parameter *parameter)
{
    struct box box = {0};
    for (int i = 0; i < parameter->spec.rank; i++)
        box.extent[i] = parameter->spec.shape[i];
    box.offset[parameter->axis] = parameter->slice.begin;
    box.extent[parameter->axis] = parameter->slice.count;
    return box;
}

int64_t box_count(const struct box *box, int rank)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= box->extent[i];
    return count;
}

/* The boxes of `flat` within dimensions axis.. of the block, whose earlier dimensions are fixed by `prefix`: a partial
 * first slab, the whole slabs between, a partial last slab. */
static int boxes_below(const struct box *block, int rank, int axis, struct range flat, struct box prefix,
                       struct box *boxes)
{
    if (flat.count == 0)
        return 0;
    int64_t slab = 1;
    for (int i = axis + 1; i < rank; i++)
        slab *= block->extent[i];
    int64_t first = flat.begin / slab;
    int64_t end = flat.begin + flat.count;
    int count = 0;
    if (axis == rank - 1) {
        prefix.offset[axis] = block->offset[axis] + flat.begin;
        prefix.extent[axis] = flat.count;
        boxes[0] = prefix;
        return 1;
    }
    prefix.extent[axis] = 1;
    if (flat.begin % slab || end < (first + 1) * slab) {
        int64_t stop = integer_min(end, (first + 1) * slab);
        prefix.offset[axis] = block->offset[axis] + first;
        struct range part = {.begin = flat.begin - first * slab, .count = stop - flat.begin};
        count += boxes_below(block, rank, axis + 1, part, prefix, boxes);
        first++;
    }
    int64_t last = end / slab;
    if (last > first) {
        struct box whole = prefix;
        whole.offset[axis] = block->offset[axis] + first;
        whole.extent[axis] = last - first;
        for (int i = axis + 1; i < rank; i++) {
            whole.offset[i] = block->offset[i];
            whole.extent[i] = block->extent[i];
        }
        boxes[count++] = whole;
    }
    if (last >= first && end > last * slab) {
        prefix.offset[axis] = block->offset[axis] + last;
        struct range part = {.begin = 0, .count = end - last * slab};
        count += boxes_below(block, rank, axis + 1, part, prefix, boxes + count);
    }
    return count;
}

int box_from_range(const struct box *block, int rank, struct range flat, struct box boxes[BOXES_OF_RANGE])
{
    struct box prefix = {0};
    return boxes_below(block, rank, 0, flat, prefix, boxes);
}

struct range parameter_owned(const struct parameter *parameter, struct range flat)
{
    if (parameter->owned.begin == parameter->slice.begin && parameter->owned.count == parameter->slice.count)
        return flat;
    if (parameter->owned.count == 0)
        return (struct range){.begin = flat.begin, .count = 0};
    /* A part of the block is owned only where ranks overlap, and they overlap along axis 0 only. */
    int64_t slab = 1;
    for (int i = 1; i < parameter->spec.rank; i++)
        slab *= parameter->spec.shape[i];
    struct range owned = {.begin = (parameter->owned.begin - parameter->slice.begin) * slab,
                          .count = parameter->owned.count * slab};
    return range_intersect(owned, flat);
}

/* The index in the whole tensor of an element of the local block. */
static int64_t global_index(const struct parameter_spec *spec, const struct box *block, int64_t local)
{
    int64_t global = 0;
    int64_t scale = 1;
    for (int axis = spec->rank - 1; axis >= 0; axis--) {
        global += (block->offset[axis] + local % block->extent[axis]) * scale;
        local /= block->extent[axis];
        scale *= spec->shape[axis];
    }
    return global;
}

static double initial_value(const struct parameter_spec *spec, uint64_t key, int64_t global)
{
    switch (spec->initial) {
    case INITIAL_NORMAL:
        return spec->deviation * random_normal(key, (uint64_t)global);
    case INITIAL_ORTHOGONAL: {
        int64_t rows = spec->shape[spec->rank - 2];
        int64_t columns = spec->shape[spec->rank - 1];
        return global % columns % rows == global / columns % rows ? spec->deviation : 0.0;
    }
    case INITIAL_ONE:
        return 1.0;
    default:
        return 0.0;
    }
}

void parameter_initialize(const struct parameter *parameter, uint64_t seed, struct range flat, float *values)
{
    const struct parameter_spec *spec = &parameter->spec;
    uint64_t key = random_key(seed, spec->name);
    struct box block = parameter_box(parameter);
    for (int64_t i = 0; i < flat.count; i++)
        values[i] = (float)initial_value(spec, key, global_index(spec, &block, flat.begin + i));
}
