#include "src/model/stages.h"

#include <math.h>

#include "src/model/decoder.h"

bool stages_circular(const struct model_config *config, const struct mesh_config *mesh)
{
    return layers_cycle(config) && mesh->pipeline > 1 && mesh->recursions == RECURSIONS_RING;
}

/* All recursions are one chunk then. */
static bool is_whole(const struct model_config *config, const struct mesh_config *mesh)
{
    return layers_cycle(config) && mesh->pipeline > 1 && mesh->recursions == RECURSIONS_STAGE;
}

/* Beside that chunk there are the layer before it, if any, and what comes after it: a layer and the head, or the head
 * alone. */
static enum status check_whole(struct context *context, const struct mesh_config *mesh,
                               const struct model_config *config)
{
    int64_t most = layers_middle(config) ? 3 : 2;
    if (mesh->virtual_stages > 1)
        return context_fail(context, STATUS_USAGE,
                            "mesh.virtual_stages: %lld; with mesh.recursions stage all recursions are one chunk, use 1",
                            (long long)mesh->virtual_stages);
    if (mesh->pipeline > most)
        return context_fail(context, STATUS_USAGE,
                            "mesh.pipeline: %lld; with mesh.recursions stage and this sharing at most %lld stages have "
                            "layers; use at most %lld, or mesh.recursions ring",
                            (long long)mesh->pipeline, (long long)most, (long long)most);
    return STATUS_OK;
}

enum status stages_check(struct context *context, const struct mesh_config *mesh, const struct model_config *config)
{
    int64_t stored = layers_stored(config);
    if (is_whole(config, mesh))
        return check_whole(context, mesh, config);
    if (stages_circular(config, mesh) && mesh->virtual_stages > 1)
        return context_fail(context, STATUS_USAGE,
                            "mesh.virtual_stages: %lld; each recursion is a chunk already, use 1",
                            (long long)mesh->virtual_stages);
    if (mesh->pipeline * mesh->virtual_stages > stored)
        return context_fail(context, STATUS_USAGE,
                            "mesh.pipeline: %lld stages of %lld chunks cannot share %lld %slayers; pipeline x "
                            "virtual_stages may be at most %lld",
                            (long long)mesh->pipeline, (long long)mesh->virtual_stages, (long long)stored,
                            stored < config->layers ? "stored " : "", (long long)stored);
    return STATUS_OK;
}

int stages_chunks(const struct model_config *config, const struct mesh_config *mesh)
{
    return (int)(stages_circular(config, mesh) ? config->depth.recursions : mesh->virtual_stages);
}

/* Stored layers of a chunk, where no layer is used by several chunks. The last chunk has the head besides, which may
 * cost as much as several layers, so it gets as many fewer as makes the costliest chunk cheapest; the others share the
 * rest evenly. */
static struct range stored_of_chunk(const struct model_config *config, int64_t chunks, int64_t chunk, int64_t length)
{
    int64_t stored = layers_stored(config);
    double head = decoder_head_cost(config, length) * (double)stored / (double)config->layers;
    int64_t last = stored;
    double least = INFINITY;
    for (int64_t own = 0; own <= stored && chunks > 1; own++) {
        double cost = fmax((double)integer_divide_up(stored - own, chunks - 1), (double)own + head);
        if (cost <= least) {
            least = cost;
            last = own;
        }
    }
    if (chunk == chunks - 1)
        return (struct range){.begin = stored - last, .count = last};
    return range_partition(stored - last, chunks - 1, chunk);
}

/* The first unrolled layer that uses this stored layer or a later one. */
static int64_t first_use(const struct model_config *config, int64_t stored)
{
    int64_t layer = 0;
    while (layer < config->layers && layers_stored_of(config, layer) < stored)
        layer++;
    return layer;
}

/* Of each recursion the same part; what comes before and after the recursions lies at the two ends. */
static struct range circular_chunk(const struct model_config *config, int64_t stages, int64_t chunk)
{
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    struct range part = range_partition(count, stages, chunk % stages);
    int64_t begin = first + chunk / stages * count + part.begin;
    int64_t end = begin + part.count;
    if (chunk == 0)
        begin = 0;
    if (chunk == stages * config->depth.recursions - 1)
        end = config->layers;
    return (struct range){.begin = begin, .count = end - begin};
}

/* All recursions in one: with two chunks the first, which has what comes before, and not the one with the head. */
static struct range whole_chunk(const struct model_config *config, int64_t chunks, int64_t chunk)
{
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    int64_t end = first + config->depth.recursions * count;
    int64_t before = chunks > 2 ? first : 0;
    if (chunk == chunks - 1)
        return (struct range){.begin = end, .count = config->layers - end};
    return chunk == chunks - 2 ? (struct range){.begin = before, .count = end - before}
                               : (struct range){.begin = 0, .count = before};
}

struct range stages_layers(const struct model_config *config, const struct mesh_config *mesh, int64_t chunk,
                           int64_t length)
{
    if (stages_circular(config, mesh))
        return circular_chunk(config, mesh->pipeline, chunk);
    if (is_whole(config, mesh))
        return whole_chunk(config, mesh->pipeline, chunk);
    struct range stored = stored_of_chunk(config, mesh->pipeline * mesh->virtual_stages, chunk, length);
    /* Without a pipeline one chunk has all layers, in whatever order they use the stored ones. */
    int64_t begin = first_use(config, stored.begin);
    int64_t end = first_use(config, stored.begin + stored.count);
    return (struct range){.begin = begin, .count = end - begin};
}
