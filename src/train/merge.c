/* LoRA maps into the matrices that they stand beside: W + alpha / rank U D (src/model/README.md section 10). */
#include <stdio.h>
#include <string.h>

#include "src/train/convert_private.h"

/* LoRA maps, whole on every rank. */
struct lora {
    int64_t rank, rows, columns;
    double factor;
    float *down, *up; /* [rank, columns], [rows, rank] */
    double *row;      /* [columns] */
};

bool merge_finds(const struct conversion *conversion, const char *name, struct lora_names *names)
{
    static const char end[] = ".weight";
    size_t length = strlen(name);
    size_t stem = length - (sizeof end - 1);
    if (length < sizeof end || strcmp(name + stem, end) != 0)
        return false;
    int room = PARAMETER_NAME;
    bool fits = snprintf(names->down, PARAMETER_NAME, "%.*s.lora_down.weight", (int)stem, name) < room;
    fits = fits && snprintf(names->up, PARAMETER_NAME, "%.*s.lora_up.weight", (int)stem, name) < room;
    return fits && parameter_find(&conversion->source, names->down) && parameter_find(&conversion->source, names->up);
}

static enum status create(const struct conversion *conversion, const struct parameter_spec *spec, struct lora *lora)
{
    struct context *context = conversion->context;
    const struct model_config *from = &conversion->from.model;
    *lora = (struct lora){.rank = from->lora.rank,
                          .rows = spec->shape[0],
                          .columns = spec->shape[1],
                          .factor = from->lora.alpha / (double)from->lora.rank};
    size_t rank = (size_t)lora->rank;
    lora->down = memory_allocate(context, rank * (size_t)lora->columns * sizeof(float), MEMORY_OTHER);
    lora->up = memory_allocate(context, rank * (size_t)lora->rows * sizeof(float), MEMORY_OTHER);
    lora->row = memory_allocate(context, (size_t)lora->columns * sizeof(double), MEMORY_OTHER);
    return context->status;
}

static void destroy(const struct conversion *conversion, const struct lora *lora)
{
    memory_free(conversion->context, lora->down);
    memory_free(conversion->context, lora->up);
    memory_free(conversion->context, lora->row);
}

static enum status read(const struct conversion *conversion, const struct lora_names *names, const struct lora *lora)
{
    struct state_piece down = {.box.extent = {lora->rank, lora->columns}, .data = lora->down};
    struct state_piece up = {.box.extent = {lora->rows, lora->rank}, .data = lora->up};
    struct state_array arrays[2] = {
        {.rank = 2, .shape = {lora->rank, lora->columns}, .pieces = &down, .piece_count = 1},
        {.rank = 2, .shape = {lora->rows, lora->rank}, .pieces = &up, .piece_count = 1}};
    snprintf(arrays[0].name, sizeof arrays[0].name, "/parameters/%s", names->down);
    snprintf(arrays[1].name, sizeof arrays[1].name, "/parameters/%s", names->up);
    return checkpoint_read(conversion->context, conversion->mesh, conversion->path, arrays, 2);
}

/* A row of U D times the factor. */
static void multiply_row(const struct lora *lora, int64_t row)
{
    const float *up = lora->up + row * lora->rank;
    memset(lora->row, 0, (size_t)lora->columns * sizeof *lora->row);
    for (int64_t k = 0; k < lora->rank; k++) {
        const float *down = lora->down + k * lora->columns;
        double weight = lora->factor * (double)up[k];
        for (int64_t j = 0; j < lora->columns; j++)
            lora->row[j] += weight * (double)down[j];
    }
}

static void add_to_shards(const struct conversion *conversion, const struct parameter_spec *spec,
                          const struct lora *lora)
{
    int count;
    const struct shard *shards = replica_shards(conversion->trainer->session.replica, &count);
    for (int i = 0; i < count; i++) {
        struct box block = parameter_box(shards[i].parameter);
        int64_t made = -1;
        if (strcmp(shards[i].parameter->spec.name, spec->name) != 0)
            continue;
        for (int64_t e = 0; e < shards[i].flat.count; e++) {
            int64_t local = shards[i].flat.begin + e;
            int64_t row = block.offset[0] + local / block.extent[1];
            if (row != made)
                multiply_row(lora, made = row);
            double sum = (double)shards[i].master[e] + lora->row[block.offset[1] + local % block.extent[1]];
            shards[i].master[e] = (float)sum;
        }
    }
}

enum status merge_lora(struct conversion *conversion)
{
    const struct parameter_list *list = &conversion->target;
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        struct lora_names names;
        struct lora lora;
        if (!merge_finds(conversion, spec->name, &names))
            continue;
        enum status status = mesh_agree(conversion->mesh, conversion->context, create(conversion, spec, &lora));
        if (status == STATUS_OK)
            status = read(conversion, &names, &lora);
        if (status == STATUS_OK)
            add_to_shards(conversion, spec, &lora);
        destroy(conversion, &lora);
        CHECK(status);
    }
    return STATUS_OK;
}
