#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/text.h"
#include "src/model/layers.h"
#include "src/train/convert_private.h"
#include "src/train/state.h"

/* -- Which layer goes where -- */

/* Layers outside of the shared ones at each end. */
static int64_t end_layers(const struct model_config *config)
{
    bool is_middle = config->depth.sharing == SHARING_MIDDLE_CYCLE || config->depth.sharing == SHARING_MIDDLE_SEQUENCE;
    return is_middle ? 1 : 0;
}

/* Whether layers of the source are divided among stored ones; else they are each other's. */
static bool spreads(const struct conversion *conversion)
{
    return target_of(conversion)->depth.kind == DEPTH_MOR && !conversion->way->merges;
}

/* How many of the source's layers a stored layer is the mean of. */
static int64_t origin_count(const struct conversion *conversion)
{
    const struct model_config *target = target_of(conversion);
    bool several = spreads(conversion) && conversion->way->initialization == CONVERT_AVERAGE;
    return several ? target->depth.recursions : 1;
}

int64_t convert_use(const struct model_config *config, int64_t stored, int64_t index)
{
    for (int64_t layer = 0; layer < config->layers; layer++)
        if (layers_stored_of(config, layer) == stored && index-- == 0)
            return layer;
    return -1;
}

int64_t convert_origin(const struct conversion *conversion, int64_t stored, int64_t index)
{
    const struct model_config *target = target_of(conversion);
    if (!spreads(conversion))
        return index == 0 ? stored : -1;
    if (conversion->way->initialization == CONVERT_AVERAGE)
        return convert_use(target, stored, index);
    if (index > 0)
        return -1;
    int64_t ends = end_layers(target);
    int64_t shared = layers_stored(target) - 2 * ends;
    int64_t replaced = conversion->from.model.layers - 2 * ends;
    int64_t place = stored - ends;
    if (place < 0)
        return 0;
    if (place == shared)
        return conversion->from.model.layers - 1;
    if (conversion->way->initialization == CONVERT_LOWER)
        return ends + place;
    if (conversion->way->initialization == CONVERT_UPPER)
        return ends + replaced - shared + place;
    double distance = (double)(place * (replaced - 1)) / (double)integer_max(1, shared - 1);
    return (int64_t)nearbyint((double)ends + distance); /* halves to even, as in the authors' code */
}

static enum status check_depths(const struct conversion *conversion)
{
    struct context *context = conversion->context;
    const struct model_config *target = target_of(conversion);
    const char *path = conversion->path;
    long long given = (long long)conversion->from.model.layers;
    long long wanted = (long long)target->layers;
    if (conversion->way->merges)
        return STATUS_OK;
    if (conversion->from.model.depth.kind != DEPTH_FIXED)
        return context_fail(context, STATUS_USAGE, "%s: only models with model.depth.kind fixed can be converted",
                            path);
    if (target->depth.kind != DEPTH_MOR && given != wanted)
        return context_fail(context, STATUS_USAGE,
                            "model.layers: %lld in %s, but %lld in the configuration; only a recursive model may have "
                            "another number",
                            given, path, wanted);
    if (target->depth.kind != DEPTH_MOR)
        return STATUS_OK;
    int64_t ends = end_layers(target);
    if (conversion->way->initialization == CONVERT_AVERAGE && given != wanted)
        return context_fail(context, STATUS_USAGE,
                            "--initialization average: %s has %lld layers, but a token takes %lld; the other "
                            "initializations do without a mean",
                            path, given, wanted);
    bool spaced = conversion->way->initialization == CONVERT_STEPWISE;
    int64_t least = spaced ? 2 * ends + 1 : layers_stored(target);
    if (given < least)
        return context_fail(context, STATUS_USAGE,
                            "%s: %lld layers are too few for %lld stored ones of the configuration; at least %lld are "
                            "needed",
                            path, given, (long long)layers_stored(target), (long long)least);
    return STATUS_OK;
}

/* -- Which parameter is which -- */

bool convert_split_name(const char *name, int64_t *layer, const char **rest)
{
    static const char prefix[] = "model.layers.";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    char *end;
    *layer = strtoll(name + sizeof prefix - 1, &end, 10);
    *rest = end;
    return true;
}

static const struct parameter_spec *find_spec(const struct parameter_list *list, const char *name)
{
    const struct parameter *parameter = parameter_find(list, name);
    return parameter ? &parameter->spec : NULL;
}

/* The index-th parameter of the source that one of the new model's is the mean of; NULL if there is none. */
static const struct parameter_spec *find_source(const struct conversion *conversion, const char *name, int64_t index)
{
    int64_t stored;
    const char *rest;
    char origin[PARAMETER_NAME];
    if (!convert_split_name(name, &stored, &rest))
        return index == 0 ? find_spec(&conversion->source, name) : NULL;
    int64_t layer = convert_origin(conversion, stored, index);
    int length = snprintf(origin, sizeof origin, "model.layers.%lld%s", (long long)layer, rest);
    return layer < 0 || length >= PARAMETER_NAME ? NULL : find_spec(&conversion->source, origin);
}

static const char *shape_text(const struct parameter_spec *spec, char text[PARAMETER_NAME])
{
    size_t used = 0;
    for (int d = 0; d < spec->rank; d++)
        used +=
            (size_t)snprintf(text + used, PARAMETER_NAME - used, "%s%lld", d ? ", " : "[", (long long)spec->shape[d]);
    snprintf(text + used, PARAMETER_NAME - used, "]");
    return text;
}

static bool same_shape(const struct parameter_spec *a, const struct parameter_spec *b)
{
    bool same = a->rank == b->rank;
    for (int d = 0; same && d < a->rank; d++)
        same = a->shape[d] == b->shape[d];
    return same;
}

static enum status check_shapes(const struct conversion *conversion)
{
    const struct parameter_list *target = &conversion->target;
    char given[PARAMETER_NAME];
    char wanted[PARAMETER_NAME];
    for (int i = 0; i < target->count; i++) {
        const struct parameter_spec *spec = &target->item[i]->spec;
        const struct parameter_spec *source = find_source(conversion, spec->name, 0);
        if (source && !same_shape(source, spec))
            return context_fail(conversion->context, STATUS_USAGE,
                                "%s: %s has shape %s, but %s of the configuration's model has %s", conversion->path,
                                source->name, shape_text(source, given), spec->name, shape_text(spec, wanted));
    }
    return STATUS_OK;
}

/* Nothing that was learned may be left out, but for layers whose place others take. */
static enum status check_places(const struct conversion *conversion)
{
    const struct parameter_list *target = &conversion->target;
    for (int i = 0; i < conversion->source.count; i++) {
        const char *name = conversion->source.item[i]->spec.name;
        int64_t layer = 0;
        const char *rest;
        bool first = !convert_split_name(name, &layer, &rest) || layer == 0;
        if (conversion->way->merges && conversion->source.item[i]->spec.group == GROUP_LORA)
            continue;
        if (first && conversion->source.item[i]->spec.group == GROUP_LORA && !find_spec(target, name))
            return context_fail(conversion->context, STATUS_USAGE,
                                "%s: has LoRA maps, for which the configuration's model has no place; bring them into "
                                "its matrices first, with --merge-lora",
                                conversion->path);
        if (first && !find_spec(target, name))
            return context_fail(conversion->context, STATUS_USAGE, "%s: the configuration's model has no place for %s",
                                conversion->path, name);
    }
    return STATUS_OK;
}

/* What may differ are the sections that add parameters or share them. */
static enum status check_rest(const struct conversion *conversion)
{
    const struct model_config *target = target_of(conversion);
    struct model_config source = conversion->from.model;
    source.layers = target->layers;
    source.attention = target->attention;
    source.residual = target->residual;
    source.depth = target->depth;
    source.lora = target->lora;
    return config_same_model(conversion->context, &source, target, conversion->path, "the configuration");
}

/* -- The values -- */

/* The parameters' names in the source, empty where nothing is taken. */
static void find_names(struct conversion *conversion, int64_t index)
{
    const struct parameter_list *target = &conversion->trainer->session.parameters;
    int next = 0;
    for (int i = 0; i < target->count; i++) {
        if (!parameter_counts(target->item[i]))
            continue;
        const struct parameter_spec *source = find_source(conversion, target->item[i]->spec.name, index);
        text_copy(conversion->names[next++], PARAMETER_NAME, source ? source->name : "");
    }
}

/* What an origin gives to a shard, with its norm where the matrix takes it in. */
static void fold_norm(const struct conversion *conversion, const struct shard *shard, int64_t index)
{
    int64_t stored;
    const char *rest;
    float *values = conversion->values + shard->begin;
    if (!convert_split_name(shard->parameter->spec.name, &stored, &rest))
        return;
    int64_t layer = convert_origin(conversion, stored, index);
    const float *scales = relax_scales(conversion, stored, layer, rest);
    struct box block = parameter_box(shard->parameter);
    for (int64_t e = 0; scales && e < shard->flat.count; e++)
        values[e] *= scales[block.offset[1] + (shard->flat.begin + e) % block.extent[1]];
    for (int64_t e = 0; relax_is_taken_in(conversion, stored, rest) && e < shard->flat.count; e++)
        values[e] = 1.0f;
}

/* Takes the index-th origins into the mean of those before; what has none keeps its value. */
static enum status take_values(struct conversion *conversion, int64_t index)
{
    struct trainer *trainer = conversion->trainer;
    int count;
    const struct shard *shards = replica_shards(trainer->session.replica, &count);
    find_names(conversion, index);
    for (int i = 0; i < count; i++)
        memcpy(conversion->values + shards[i].begin, shards[i].master,
               (size_t)shards[i].flat.count * sizeof *conversion->values);
    CHECK(state_read_values(trainer, conversion->path, conversion->names, conversion->values));
    for (int i = 0; i < count; i++) {
        const float *values = conversion->values + shards[i].begin;
        fold_norm(conversion, &shards[i], index);
        for (int64_t e = 0; e < shards[i].flat.count; e++)
            shards[i].master[e] = convert_mean(shards[i].master[e], values[e], index);
    }
    return STATUS_OK;
}

/* Low-rank maps have no name in the source, but values of it. */
static bool is_relaxed(const struct conversion *conversion, const struct parameter_spec *spec)
{
    return relax_applies(conversion) && spec->group == GROUP_LORA;
}

static void count_origins(const struct conversion *conversion, struct conversion_counts *counts)
{
    const struct parameter_list *target = &conversion->target;
    for (int i = 0; i < target->count; i++) {
        const struct parameter_spec *spec = &target->item[i]->spec;
        if (!parameter_counts(target->item[i]))
            continue;
        else if (find_source(conversion, spec->name, 0) || is_relaxed(conversion, spec))
            counts->taken++;
        else
            counts->fresh++;
    }
}

static enum status prepare(struct conversion *conversion)
{
    struct context *context = conversion->context;
    const struct model_config *model = target_of(conversion);
    const char *text = conversion->header.config;
    CHECK(config_parse(context, conversion->path, text, strlen(text), NULL, 0, &conversion->from));
    CHECK(check_depths(conversion));
    CHECK(model_find(&conversion->from.model)->describe(context, &conversion->from.model, &conversion->source));
    CHECK(model_find(model)->describe(context, model, &conversion->target));
    CHECK(check_shapes(conversion));
    CHECK(check_rest(conversion));
    return check_places(conversion);
}

static enum status make_room(struct conversion *conversion)
{
    const struct session *session = &conversion->trainer->session;
    conversion->names = memory_allocate(conversion->context,
                                        (size_t)session->parameters.count * sizeof *conversion->names, MEMORY_OTHER);
    conversion->values = memory_allocate(
        conversion->context, (size_t)replica_state_count(session->replica) * sizeof *conversion->values, MEMORY_OTHER);
    return conversion->names && conversion->values ? STATUS_OK : STATUS_MEMORY;
}

/* Collective; agreed status. To be closed whatever comes back. */
static enum status open_source(struct context *context, struct mesh *mesh, const struct config *config,
                               const char *path, const struct convert_way *way, struct conversion **opened)
{
    struct conversion *conversion = *opened = memory_allocate(context, sizeof *conversion, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, conversion ? STATUS_OK : STATUS_MEMORY));
    *conversion = (struct conversion){.context = context, .mesh = mesh, .config = config, .path = path, .way = way};
    parameter_list_create(context, &conversion->source);
    parameter_list_create(context, &conversion->target);
    CHECK(checkpoint_read_header(context, mesh, path, &conversion->header));
    CHECK(mesh_agree(mesh, context, prepare(conversion)));
    return relax_applies(conversion) ? relax_norms(conversion) : STATUS_OK;
}

static void close_source(struct context *context, struct conversion *conversion)
{
    if (!conversion)
        return;
    parameter_list_destroy(&conversion->source);
    parameter_list_destroy(&conversion->target);
    memory_free(context, conversion->norms);
    memory_free(context, conversion->names);
    memory_free(context, conversion->values);
    memory_free(context, conversion);
}

enum status convert_load(struct trainer *trainer, const char *path, const struct convert_way *way,
                         struct conversion_counts *counts)
{
    struct context *context = trainer->context;
    struct conversion *conversion;
    enum status status;
    *counts = (struct conversion_counts){0};
    TRY(open_source(context, trainer->mesh, trainer->config, path, way, &conversion));
    conversion->trainer = trainer;
    TRY(mesh_agree(trainer->mesh, context, make_room(conversion)));
    for (int64_t index = 0; index < origin_count(conversion); index++)
        TRY(take_values(conversion, index));
    if (way->merges)
        TRY(merge_lora(conversion));
    if (relax_applies(conversion))
        TRY(relax_residuals(conversion, &counts->ranks));
    replica_gather(trainer->session.replica);
    count_origins(conversion, counts);
done:
    close_source(context, conversion);
    return status;
}

enum status convert_find_ranks(struct context *context, struct mesh *mesh, const struct config *config,
                               const char *path, const struct convert_way *way, struct convert_ranks *ranks)
{
    struct conversion *conversion;
    enum status status;
    TRY(open_source(context, mesh, config, path, way, &conversion));
    TRY(relax_residuals(conversion, ranks));
done:
    close_source(context, conversion);
    return status;
}
