#include "src/tensor/parameter.h"

#include <stdint.h>
#include <string.h>

#include "src/core/random.h"

struct box parameter_box(const struct parameter *parameter)
{
    struct box box = {0};
    for (int i = 0; i < parameter->spec.rank; i++)
        box.extent[i] = parameter->spec.shape[i];
    box.offset[parameter->division.axis] = parameter->division.slice.begin;
    box.extent[parameter->division.axis] = parameter->division.slice.count;
    return box;
}

int64_t parameter_elements(const struct parameter_spec *spec)
{
    int64_t count = 1;
    for (int i = 0; i < spec->rank; i++)
        count *= spec->shape[i];
    return count;
}

struct range parameter_owned(const struct parameter *parameter, struct range flat)
{
    if (parameter->division.owned.begin == parameter->division.slice.begin &&
        parameter->division.owned.count == parameter->division.slice.count)
        return flat;
    if (parameter->division.owned.count == 0)
        return (struct range){.begin = flat.begin, .count = 0};
    /* A part of the block is owned only where ranks overlap, and they overlap along axis 0 only. */
    int64_t slab = 1;
    for (int i = 1; i < parameter->spec.rank; i++)
        slab *= parameter->spec.shape[i];
    struct range owned = {.begin = (parameter->division.owned.begin - parameter->division.slice.begin) * slab,
                          .count = parameter->division.owned.count * slab};
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
    case INITIAL_UNIFORM:
        return spec->deviation * (2.0 * random_uniform(key, (uint64_t)global) - 1.0);
    case INITIAL_ORTHOGONAL: {
        int64_t rows = spec->shape[spec->rank - 2];
        int64_t columns = spec->shape[spec->rank - 1];
        return global % columns % rows == global / columns % rows ? spec->deviation : 0.0;
    }
    case INITIAL_FIRST:
        return global % spec->shape[spec->rank - 1] == 0 ? 1.0 : 0.0;
    case INITIAL_CONSTANT:
        return spec->deviation;
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

double *parameter_count(struct parameter *parameter)
{
    return parameter->value.data;
}

bool parameter_learns(const struct parameter *parameter)
{
    return !parameter->frozen && !parameter->spec.is_buffer;
}

/* -- The list -- */

void parameter_list_create(struct context *context, struct parameter_list *list)
{
    *list = (struct parameter_list){.context = context};
}

void parameter_list_destroy(struct parameter_list *list)
{
    for (int i = list->borrowed; i < list->count; i++)
        memory_free(list->context, list->item[i]);
    memory_free(list->context, list->item);
    *list = (struct parameter_list){.context = list->context};
}

static bool make_room(struct parameter_list *list)
{
    if (list->count < list->room)
        return true;
    int room = list->room ? 2 * list->room : 64;
    struct parameter **item = memory_allocate(list->context, (size_t)room * sizeof(struct parameter *), MEMORY_OTHER);
    if (!item)
        return false;
    if (list->count > 0)
        memcpy(item, list->item, (size_t)list->count * sizeof *item);
    memory_free(list->context, list->item);
    list->item = item;
    list->room = room;
    return true;
}

static struct parameter *append(struct parameter_list *list, const struct parameter_spec *spec,
                                const struct parameter_division *division, bool here, int64_t model_chunk)
{
    struct parameter *parameter =
        make_room(list) ? memory_allocate(list->context, sizeof *parameter, MEMORY_OTHER) : NULL;
    if (!parameter)
        return NULL;
    *parameter = (struct parameter){
        .spec = *spec, .division = *division, .here = here, .model_chunk = model_chunk, .bucket = -1};
    list->item[list->count++] = parameter;
    return parameter;
}

static bool same_shape(const struct parameter *parameter, const struct parameter_spec *spec)
{
    return parameter->spec.rank == spec->rank &&
           memcmp(parameter->spec.shape, spec->shape, (size_t)spec->rank * sizeof *spec->shape) == 0;
}

struct parameter *parameter_declare(struct parameter_list *list, const struct parameter_spec *spec,
                                    const struct parameter_division *division, bool here, int64_t model_chunk)
{
    struct parameter *known = parameter_find(list, spec->name);
    bool borrowed = false;
    for (int i = 0; i < list->borrowed; i++)
        borrowed = borrowed || list->item[i] == known;
    if (known && !(borrowed && same_shape(known, spec) && known->here == here)) {
        context_fail(list->context, STATUS_INTERNAL, "parameter %s is declared twice, or is not the one that is lent",
                     spec->name);
        return NULL;
    }
    if (!known)
        known = append(list, spec, division, here, model_chunk);
    return known && here ? known : NULL;
}

struct parameter *parameter_declare_copy(struct parameter_list *list, struct parameter *first,
                                         const struct parameter_spec *spec, const struct parameter_division *division,
                                         bool here, int64_t model_chunk)
{
    struct parameter *copy = append(list, spec, division, here, model_chunk);
    if (first)
        first->tied = true;
    if (!copy)
        return NULL;
    copy->copy = copy->tied = true;
    copy->division.owned.count = 0;
    return here ? copy : NULL;
}

enum status parameter_borrow(struct parameter_list *list, struct parameter *parameter)
{
    if (parameter_learns(parameter) || list->borrowed != list->count)
        return context_fail(list->context, STATUS_INTERNAL, "%s: only frozen parameters can be lent, before others",
                            parameter->spec.name);
    if (!make_room(list))
        return STATUS_MEMORY;
    list->item[list->count++] = parameter;
    list->borrowed = list->count;
    return STATUS_OK;
}

struct parameter *parameter_find(const struct parameter_list *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (!list->item[i]->copy && strcmp(list->item[i]->spec.name, name) == 0)
            return list->item[i];
    return NULL;
}

bool parameter_counts(const struct parameter *parameter)
{
    return !parameter->copy && !parameter->spec.is_buffer;
}

int64_t parameter_list_elements(const struct parameter_list *list)
{
    int64_t sum = 0;
    for (int i = 0; i < list->count; i++)
        if (parameter_counts(list->item[i]))
            sum += parameter_elements(&list->item[i]->spec);
    return sum;
}

int64_t parameter_list_lowest(const struct parameter_list *list)
{
    int64_t lowest = INT64_MAX;
    for (int i = 0; i < list->count; i++)
        if (parameter_learns(list->item[i]))
            lowest = integer_min(lowest, list->item[i]->model_chunk);
    return lowest;
}
