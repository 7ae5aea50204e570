/* Parameters and gradients of a case: between the reference's whole tensors and the parts of this rank. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/conformance/run.h"

/* -- Between the reference's whole tensors and this rank's parts -- */

/* Calls `visit` for each element of a box, in order, with its index in the whole tensor. */
static void visit_box(const struct box *box, const struct parameter_spec *spec,
                      void (*visit)(void *self, int64_t index), void *self)
{
    int64_t count = box_count(box, spec->rank);
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i;
        int64_t index = 0;
        int64_t stride = 1;
        for (int axis = spec->rank - 1; axis >= 0; axis--) {
            index += (box->offset[axis] + rest % box->extent[axis]) * stride;
            rest /= box->extent[axis];
            stride *= spec->shape[axis];
        }
        visit(self, index);
    }
}

struct transfer {
    float *local;
    const float *from;
    double *whole;
};

static void take(void *self, int64_t index)
{
    struct transfer *transfer = self;
    *transfer->local++ = (float)transfer->whole[index];
}

static void give(void *self, int64_t index)
{
    struct transfer *transfer = self;
    transfer->whole[index] += (double)*transfer->from++;
}

static void visit_range(const struct shard *shard, struct range flat, void (*visit)(void *self, int64_t index),
                        struct transfer *transfer)
{
    struct box boxes[BOXES_OF_RANGE];
    struct box block = parameter_box(shard->parameter);
    int count = box_from_range(&block, shard->parameter->spec.rank, flat, boxes);
    for (int i = 0; i < count; i++)
        visit_box(&boxes[i], &shard->parameter->spec, visit, transfer);
}

static const char *prefix_of(const struct parameter_spec *spec)
{
    return spec->is_buffer ? "/buffers/" : "/parameters/";
}

/* A count is a scalar. */
static bool same_shape(const struct case_tensor *tensor, const struct parameter_spec *spec)
{
    bool same = spec->is_count ? tensor->rank == 0 : tensor->rank == spec->rank;
    for (int i = 0; same && !spec->is_count && i < spec->rank; i++)
        same = tensor->shape[i] == spec->shape[i];
    return same;
}

enum status run_load_parameters(struct run *run, struct session *session)
{
    const struct parameter_list *list = &session->parameters;
    int given = 0;
    int wanted = 0;
    for (int i = 0; i < run->test->count; i++)
        given += strncmp(run->test->tensors[i].name, "/parameters/", 12) == 0;
    for (int i = 0; i < list->count; i++)
        wanted += parameter_counts(list->item[i]);
    if (given != wanted)
        return context_fail(run->context, STATUS_FILE, "the case has %d parameters, the model %d", given, wanted);
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        const struct case_tensor *tensor = case_find(run->test, prefix_of(spec), spec->name);
        if (!tensor || !same_shape(tensor, spec))
            return context_fail(run->context, STATUS_FILE, "%s%s is missing or has another shape", prefix_of(spec),
                                spec->name);
    }
    for (int frozen = 0; frozen <= 1; frozen++) {
        int count;
        const struct shard *shards = (frozen ? replica_frozen : replica_shards)(session->replica, &count);
        for (int i = 0; i < count; i++) {
            const struct parameter_spec *spec = &shards[i].parameter->spec;
            struct case_tensor *tensor = case_find(run->test, prefix_of(spec), spec->name);
            if (spec->is_count) {
                *parameter_count(shards[i].parameter) = tensor->values[0];
                continue;
            }
            struct transfer transfer = {.local = shards[i].master, .whole = tensor->values};
            visit_range(&shards[i], shards[i].flat, take, &transfer);
        }
    }
    replica_gather_all(session->replica);
    return STATUS_OK;
}

/* The whole of a parameter, or of its gradient, on all ranks. */
static void collect(struct run *run, const char *name, bool gradient, double *whole, int64_t size)
{
    int count;
    const struct shard *shards = replica_shards(run->trainer.session.replica, &count);
    memset(whole, 0, (size_t)size * sizeof *whole);
    for (int i = 0; i < count; i++) {
        const struct shard *shard = &shards[i];
        if (strcmp(shard->parameter->spec.name, name) != 0)
            continue;
        struct range owned = parameter_owned(shard->parameter, shard->flat);
        const float *from = gradient ? shard->gradient : shard->master;
        struct transfer transfer = {.from = from + owned.begin - shard->flat.begin, .whole = whole};
        visit_range(shard, owned, give, &transfer);
    }
    mesh_all_reduce(run->runner->mesh, MESH_TEAM, whole, size, DTYPE_F64, MESH_SUM);
}

/* -- Comparison -- */

void run_compare(struct run *run, struct case_tensor *expected, const double *values, double scale)
{
    double difference = 0.0;
    double largest = 0.0;
    for (int64_t i = 0; i < expected->count; i++) {
        double d = fabs(values[i] - expected->values[i]);
        if (!(d <= difference))
            difference = d;
        largest = fmax(largest, fabs(expected->values[i]));
    }
    if (largest < 1e-6 * scale)
        largest = scale;
    double error = largest > 0.0 ? difference / largest : difference;
    if (!(error <= run->worst)) {
        run->worst = error;
        snprintf(run->where, sizeof run->where, "%s", expected->name);
    }
    expected->checked = true;
}

static double largest_gradient(const struct conformance_case *test)
{
    double largest = 0.0;
    for (int i = 0; i < test->count; i++)
        if (strncmp(test->tensors[i].name, "/expect/gradients/", 18) == 0)
            for (int64_t e = 0; e < test->tensors[i].count; e++)
                largest = fmax(largest, fabs(test->tensors[i].values[e]));
    return largest;
}

enum status run_compare_parameters(struct run *run, const char *prefix, bool gradient)
{
    const struct parameter_list *list = &run->trainer.session.parameters;
    double scale = gradient ? largest_gradient(run->test) : 0.0;
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        if (!parameter_counts(list->item[i]))
            continue;
        struct case_tensor *expected = case_find(run->test, prefix, spec->name);
        if (!expected || !same_shape(expected, spec))
            return context_fail(run->context, STATUS_FILE, "%s%s is missing or has another shape", prefix, spec->name);
        double *whole = memory_allocate(run->context, (size_t)expected->count * sizeof *whole, MEMORY_OTHER);
        if (!whole)
            return STATUS_MEMORY;
        collect(run, spec->name, gradient, whole, expected->count);
        run_compare(run, expected, whole, scale);
        memory_free(run->context, whole);
    }
    return STATUS_OK;
}

/* All ranks hold the same, and a rank that holds more shows. */
enum status run_compare_buffers(struct run *run, const char *prefix)
{
    const struct parameter_list *list = &run->trainer.session.parameters;
    for (int i = 0; i < list->count; i++) {
        struct parameter *parameter = list->item[i];
        if (!parameter->spec.is_buffer)
            continue;
        struct case_tensor *expected = case_find(run->test, prefix, parameter->spec.name);
        if (!expected || !same_shape(expected, &parameter->spec))
            return context_fail(run->context, STATUS_FILE, "%s%s is missing or has another shape", prefix,
                                parameter->spec.name);
        double *values = memory_allocate(run->context, (size_t)expected->count * sizeof *values, MEMORY_OTHER);
        if (!values)
            return STATUS_MEMORY;
        for (int64_t e = 0; e < expected->count; e++)
            values[e] =
                parameter->spec.is_count ? *parameter_count(parameter) : (double)((float *)parameter->value.data)[e];
        mesh_all_reduce(run->runner->mesh, MESH_TEAM, values, expected->count, DTYPE_F64, MESH_MAX);
        run_compare(run, expected, values, 0.0);
        memory_free(run->context, values);
    }
    return STATUS_OK;
}
