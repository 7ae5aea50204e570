/* What shows inside of a case: logits, choices of routers, memories. */
#include <stdio.h>
#include <string.h>

#include "src/ops/infini.h"
#include "tests/conformance/run.h"
#include "tests/support/fields.h"

void run_see_logits(void *self, int64_t first, const struct tensor *logits)
{
    const struct eye *eye = self;
    struct run *run = eye->run;
    const struct batch *batch = &run->trainer.batch;
    const struct decoder *decoder = decoder_of(run->trainer.model);
    const float *values = logits->data;
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        int64_t row = eye->row + (first + n) / decoder_batch_of(batch)->own_count;
        int64_t token =
            row * run->length + decoder_batch_of(batch)->own[(first + n) % decoder_batch_of(batch)->own_count];
        for (int64_t v = 0; v < decoder->vocabulary.count; v++)
            run->logits[token * run->vocabulary + decoder->vocabulary.begin + v] =
                (double)values[n * decoder->vocabulary.count + v];
    }
}

/* -- What routers chose -- */

/* All tensor and context ranks see the same. */
static bool speaks_for_selections(const struct run *run)
{
    return mesh_rank(run->runner->mesh, MESH_TENSOR) == 0 && mesh_rank(run->runner->mesh, MESH_CONTEXT) == 0;
}

/* Positions in ascending order, or how many recursions each token takes. */
void run_see_selection(void *self, const struct decoder_selection *selection)
{
    const struct eye *eye = self;
    struct run *run = eye->run;
    if (!speaks_for_selections(run))
        return;
    int64_t index = selection->kind == SELECTION_DEPTH ? 0 : selection->index;
    for (int64_t row = 0; row < selection->rows; row++) {
        double *values = run->selected + (index * run->rows + eye->row + row) * run->length;
        for (int64_t i = selection->begin[row]; i < selection->begin[row + 1]; i++) {
            int32_t position = selection->position[selection->slot[i]];
            if (selection->kind == SELECTION_DEPTH)
                values[position] = (double)(selection->index + 1);
            else
                values[i - selection->begin[row]] = position;
        }
    }
}

void run_compare_selections(struct run *run)
{
    int64_t layers = run->config.model.layers;
    mesh_all_reduce(run->runner->mesh, MESH_TEAM, run->selected, layers * run->rows * run->length, DTYPE_F64, MESH_SUM);
    for (int64_t index = 0; index < layers; index++) {
        char name[CASE_NAME];
        const char *prefix = "/expect/selected/";
        snprintf(name, sizeof name, "layers.%lld", (long long)index);
        struct case_tensor *expected = case_find(run->test, prefix, name);
        snprintf(name, sizeof name, "recursions.%lld", (long long)index);
        if (!expected)
            expected = case_find(run->test, prefix, name);
        if (!expected && index == 0)
            expected = case_find(run->test, prefix, "depth");
        if (!expected || expected->rank != 2 || expected->shape[0] != run->rows || expected->shape[1] > run->length)
            continue;
        /* Rows of the case are as long as what was chosen. */
        double *rows = run->selected + index * run->rows * run->length;
        for (int64_t row = 0; row < run->rows; row++)
            memmove(rows + row * expected->shape[1], rows + row * run->length,
                    (size_t)expected->shape[1] * sizeof *rows);
        run_compare(run, expected, rows, 0.0);
    }
}

/* -- Memories -- */

/* A part of the memories of a layer: a kv head's M or z in a row of this rank. */
static float *memory_part(const struct run *run, float *layer, int64_t row, int64_t head, bool norm)
{
    int64_t width = run->config.model.head_width;
    int64_t size = infini_elements(run->config.model.attention.memory_update, width);
    return layer + row * run->streams->size + head * size + (norm ? width * width : 0);
}

/* The first of the ranks that hold a kv head. */
static bool owns_head(const struct run *run, int64_t head)
{
    const struct decoder *decoder = decoder_of(run->trainer.model);
    int64_t group = decoder->config.heads / decoder->config.kv_heads;
    bool shared = head == 0 && decoder->heads.begin % group != 0;
    return !shared && mesh_rank(run->runner->mesh, MESH_CONTEXT) == 0;
}

static void load_memory(struct run *run, const char *name, int64_t layer, bool norm)
{
    const struct case_tensor *given = case_find(run->test, "/memory_before/", name);
    const struct decoder *decoder = decoder_of(run->trainer.model);
    float *memory = run->streams->memory.before[layer];
    int64_t width = decoder->config.head_width;
    int64_t each = norm ? width : width * width;
    for (int64_t row = 0; given && memory && row < run->streams->mine.count; row++)
        for (int64_t head = 0; head < decoder->kv_heads.count; head++) {
            int64_t from = (run->trainer.batch.mine.begin + row) * decoder->config.kv_heads + decoder->kv_heads.begin;
            for (int64_t i = 0; i < each; i++)
                memory_part(run, memory, row, head, norm)[i] = (float)given->values[(from + head) * each + i];
        }
}

static enum status compare_memory(struct run *run, const char *name, int64_t layer, bool norm)
{
    struct case_tensor *expected = case_find(run->test, "/expect/memory_after/", name);
    const struct decoder *decoder = decoder_of(run->trainer.model);
    float *memory = run->streams->memory.after[layer];
    int64_t width = decoder->config.head_width;
    int64_t each = norm ? width : width * width;
    if (!expected)
        return STATUS_OK;
    if (expected->count != run->rows * decoder->config.kv_heads * each || !decoder_has_memory(decoder, layer))
        return context_fail(run->context, STATUS_FILE, "%s: has another shape, or the layer no memory", expected->name);
    double *whole = memory_allocate(run->context, (size_t)expected->count * sizeof *whole, MEMORY_OTHER);
    if (!whole)
        return STATUS_MEMORY;
    for (int64_t row = 0; memory && row < run->streams->mine.count; row++)
        for (int64_t head = 0; head < decoder->kv_heads.count; head++) {
            int64_t to = (run->trainer.batch.mine.begin + row) * decoder->config.kv_heads + decoder->kv_heads.begin;
            for (int64_t i = 0; owns_head(run, head) && i < each; i++)
                whole[(to + head) * each + i] = (double)memory_part(run, memory, row, head, norm)[i];
        }
    mesh_all_reduce(run->runner->mesh, MESH_TEAM, whole, expected->count, DTYPE_F64, MESH_SUM);
    run_compare(run, expected, whole, 0.0);
    memory_free(run->context, whole);
    return STATUS_OK;
}

enum status run_each_memory(struct run *run, bool load)
{
    bool gated = run->config.model.attention.memory_update == MEMORY_UPDATE_GATED_DELTA;
    for (int64_t layer = 0; layer < run->config.model.layers; layer++)
        for (int norm = 0; norm < (gated ? 1 : 2); norm++) {
            char name[CASE_NAME];
            snprintf(name, sizeof name, "layers.%lld/%s", (long long)layer, norm ? "norm" : "state");
            if (load)
                load_memory(run, name, layer, norm);
            else
                CHECK(compare_memory(run, name, layer, norm));
        }
    return STATUS_OK;
}
