/* Memories from segment to segment: a running X + L X + T for each row and kv head. Columns of X need nothing of each
 * other, so with few rows and heads panels of them are the tasks. */
#include "src/ops/infini_tiles.h"

#include <string.h>

enum { PANEL_COLUMNS = 64 };

/* Columns of one X in a thread's tiles; or columns of L, which are carried on in the same way when maps are joined. */
struct panel {
    float *x, *before; /* [height, ld]; and what x was before the last step */
    int64_t ld;
    int64_t width; /* of the rows in memory */
    struct range columns;
    bool of_maps;
};

static struct panel panel_create(const struct infini_chain *chain, float *scratch, struct range columns, bool of_maps)
{
    struct panel panel = {.ld = integer_round_up(columns.count, TILE_MULTIPLE),
                          .width = of_maps ? chain->height : chain->columns,
                          .columns = columns,
                          .of_maps = of_maps};
    panel.x = floats_take(&scratch, chain->height * panel.ld);
    panel.before = floats_take(&scratch, chain->height * panel.ld);
    return panel;
}

static void panel_load(const struct kernels *kernels, const struct infini_chain *chain, const struct panel *panel,
                       float *tile, const float *from)
{
    kernels->tile_gather(tile, panel->ld, from + panel->columns.begin, panel->width, chain->height,
                         panel->columns.count, 1.0f, DTYPE_F32);
}

static void panel_store(const struct kernels *kernels, const struct infini_chain *chain, const struct panel *panel,
                        float *to, const float *tile)
{
    kernels->tile_scatter(to + panel->columns.begin, panel->width, tile, panel->ld, chain->height, panel->columns.count,
                          NULL, 0.0f, DTYPE_F32);
}

/* x = x + map x + term; map NULL is 0. */
static void panel_step(const struct kernels *kernels, const struct infini_chain *chain, struct panel *panel,
                       const float *map, const float *term)
{
    const float *x = panel->x;
    float *next = panel->before;
    panel->before = panel->x;
    panel->x = next;
    panel_load(kernels, chain, panel, next, term);
    kernels->accumulate(next, DTYPE_F32, x, DTYPE_F32, 1.0f, chain->height * panel->ld);
    if (map)
        kernels->tile_multiply(&(struct tile_product){.m = chain->height,
                                                      .n = panel->columns.count,
                                                      .k = chain->height,
                                                      .a = map,
                                                      .a_row = chain->height,
                                                      .a_step = 1,
                                                      .b = x,
                                                      .ldb = panel->ld,
                                                      .c = next,
                                                      .ldc = panel->ld,
                                                      .beta = 1.0f});
}

/* Along the segments of one row and kv head. `keep` puts each X in its term's place. */
static void panel_run(const struct kernels *kernels, const struct infini_chain *chain, struct panel *panel,
                      int64_t index, bool keep, const float *start, float *end)
{
    int64_t row = index / chain->kv_heads;
    int64_t head = index % chain->kv_heads;
    if (start)
        panel_load(kernels, chain, panel, panel->x, start);
    else
        memset(panel->x, 0, (size_t)(chain->height * panel->ld) * sizeof(float));
    for (int64_t i = 0; i < chain->segments; i++) {
        int64_t segment = chain->reverse ? chain->segments - 1 - i : i;
        int64_t block = (row * chain->segments + segment) * chain->kv_heads + head;
        const float *map = chain->maps ? chain->maps + block * chain->height * chain->height : NULL;
        float *term = chain->terms + block * chain->stride;
        panel_step(kernels, chain, panel, map, panel->of_maps ? map : term);
        if (keep)
            panel_store(kernels, chain, panel, term, panel->before);
    }
    if (end)
        panel_store(kernels, chain, panel, end, panel->x);
}

/* Part `index` of the columns, whole vectors of them. */
static struct range columns_part(int64_t columns, int64_t parts, int64_t index)
{
    struct range units = range_partition(integer_divide_up(columns, PANEL_COLUMNS), parts, index);
    struct range part = {.begin = units.begin * PANEL_COLUMNS, .count = units.count * PANEL_COLUMNS};
    return range_intersect(part, (struct range){.begin = 0, .count = columns});
}

static char *chain_scratch(struct engine *engine, const struct infini_chain *chain, size_t *stride)
{
    int64_t widest = integer_max(chain->columns, chain->maps ? chain->height : 0);
    int64_t tile = chain->height * integer_round_up(widest, TILE_MULTIPLE);
    return infini_scratch(engine, 2 * tile + chain->height * chain->height, 3, stride);
}

static bool chains_run(struct engine *engine, const struct infini_chain *chain, bool of_maps, bool keep,
                       const struct infini_ends *ends)
{
    int64_t chains = chain->rows * chain->kv_heads;
    int64_t width = of_maps ? chain->height : chain->columns;
    int64_t parts = infini_parts(engine, chains, integer_divide_up(width, PANEL_COLUMNS));
    int64_t work = chains * (chain->segments + 1) * width * chain->height * (chain->maps ? chain->height : 1);
    size_t stride;
    char *scratch = chain_scratch(engine, chain, &stride);
    if (!scratch)
        return false;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t index = 0; index < chains; index++)
        for (int64_t part = 0; part < parts; part++) {
            struct panel panel = panel_create(chain, (float *)(scratch + (size_t)omp_get_thread_num() * stride),
                                              columns_part(width, parts, part), of_maps);
            panel_run(engine->kernels, chain, &panel, index, keep,
                      ends->start ? ends->start + index * ends->start_stride : NULL,
                      ends->end ? ends->end + index * ends->end_stride : NULL);
        }
    return true;
}

bool infini_chain_run(struct engine *engine, const struct infini_chain *chain, const struct infini_ends *ends)
{
    return chains_run(engine, chain, false, true, ends);
}

int64_t infini_chain_elements(const struct infini_chain *chain)
{
    return chain->height * (chain->columns + (chain->maps ? chain->height : 0));
}

bool infini_chain_total(struct engine *engine, const struct infini_chain *chain, const struct infini_ends *ends,
                        float *total)
{
    int64_t elements = infini_chain_elements(chain);
    int64_t map = chain->maps ? chain->height * chain->height : 0;
    struct infini_ends of_maps = {.end = total, .end_stride = elements};
    struct infini_ends of_terms = {
        .start = ends->start, .start_stride = ends->start_stride, .end = total + map, .end_stride = elements};
    return (!chain->maps || chains_run(engine, chain, true, false, &of_maps)) &&
           chains_run(engine, chain, false, false, &of_terms);
}

/* The step of a chain whose term and map are the later total; its L is copied, as its place is written first. */
static void total_join(const struct kernels *kernels, const struct infini_chain *chain, const float *earlier,
                       float *later, float *scratch)
{
    int64_t map = chain->height * chain->height;
    float *copy = floats_take(&scratch, map);
    memcpy(copy, later, (size_t)map * sizeof *copy);
    for (int of_maps = 1; of_maps >= 0; of_maps--) {
        int64_t at = of_maps ? 0 : map;
        struct range all = {.begin = 0, .count = of_maps ? chain->height : chain->columns};
        struct panel panel = panel_create(chain, scratch, all, of_maps);
        panel_load(kernels, chain, &panel, panel.x, earlier + at);
        panel_step(kernels, chain, &panel, copy, later + at);
        panel_store(kernels, chain, &panel, later + at, panel.x);
    }
}

void infini_chain_join(struct engine *engine, const struct infini_chain *chain, const float *earlier, float *later)
{
    int64_t chains = chain->rows * chain->kv_heads;
    int64_t elements = infini_chain_elements(chain);
    size_t stride;
    char *scratch = chain_scratch(engine, chain, &stride);
#pragma omp parallel for schedule(dynamic) num_threads(operation_threads(engine, chains *elements * chain->height))
    for (int64_t index = 0; index < chains; index++)
        total_join(engine->kernels, chain, earlier + index * elements, later + index * elements,
                   (float *)(scratch + (size_t)omp_get_thread_num() * stride));
}
