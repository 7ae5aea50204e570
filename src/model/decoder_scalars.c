/* What metrics.jsonl tells of memories and routers beside the loss; nothing for models without them.
 *
 *   gate_histogram           [10] gates, as sigmoid(gate), of all heads and stored layers: 0 to 0.1, ..., 0.9 to 1
 *   gate_mean, _min, _max    [stored layers] over the heads
 *   memory_norm, memory_z    [layers with a memory] Frobenius norm of M and mean of z, over heads and carried streams
 *   router_load              [routers] share of all tokens that was chosen: by routed layer, or by recursion
 *   router_selected          [routers] how many tokens that is
 *   router_agreement         [routers] share of the candidates of whom the causal router says the same as the choice
 *   router_precision         [routers] share of those that the causal router lets in that were chosen
 *   router_recall            [routers] share of the chosen that the causal router lets in
 *   router_mean_depth        token choice: recursions that a token takes
 *   router_max_violation     token choice: (tokens of the depth that most take - mean) / mean over the depths
 *   router_entropy           token choice: of a token's probabilities, in nats, the mean; log(recursions) is undecided
 *   router_dead_tokens       Mixture-of-Depths: share of tokens that no routed layer chose
 *
 * Of the step that was just done, over the whole mesh. */
#include "src/model/decoder_scalars.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/decoder_model.h"
#include "src/model/layers.h"
#include "src/ops/ops.h"

/* A micro-batch, and which of this rank's sequences is its first. */
struct watch_rows {
    struct watch *watch;
    int64_t first;
};

struct watch {
    struct model_scalars *shown;
    struct batch *batch;
    struct model *model;
    const struct model_state *state; /* NULL: none is carried */
    bool due;                        /* the step under way is one that is told of */
    int64_t gate_layers, memory_layers, routers;

    double *numbers;          /* all below */
    int64_t summed;           /* how many of them are sums over the mesh: those up to `tokens` */
    double *gates;            /* [gate_layers, heads] */
    double *norm, *z;         /* [memory_layers] */
    double *offered, *chosen; /* [routers], as in struct router_counts */
    double *judged, *wanted, *admitted, *hits;
    double *entropy; /* [2] its sum, and of how many tokens */
    double *tokens;  /* [2] those that no routed layer chose, and all */
    double *histogram;
    double *gate_mean, *gate_min, *gate_max;
    double *load, *selected, *agreement, *precision, *recall;

    int32_t *taken;          /* [sequences of this rank, length] whether a routed layer chose the token */
    struct watch_rows *rows; /* [micro-batches] */
};

/* -- The numbers -- */

void watch_histogram(const double *values, int64_t count, double bins[WATCH_BINS])
{
    for (int i = 0; i < WATCH_BINS; i++)
        bins[i] = 0.0;
    for (int64_t i = 0; i < count; i++)
        if (values[i] >= 0.0 && values[i] <= 1.0)
            bins[integer_min(WATCH_BINS - 1, (int64_t)(WATCH_BINS * values[i]))] += 1.0;
}

bool watch_undecided(const double *gates, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!(gates[i] >= 0.45 && gates[i] <= 0.55))
            return false;
    return count > 0;
}

double watch_max_violation(const double *taken, int64_t depths)
{
    double largest = 0.0;
    for (int64_t i = 0; i < depths; i++)
        largest = fmax(largest, taken[i] - (i + 1 < depths ? taken[i + 1] : 0.0));
    return depths > 0 && taken[0] > 0.0 ? largest * (double)depths / taken[0] - 1.0 : 0.0;
}

/* -- Creation and end -- */

static bool routes(const struct model_config *config, int64_t index)
{
    if (config->depth.kind == DEPTH_MOR)
        return recursions_are_routed(config) && index < config->depth.recursions;
    return layers_routed(config, index);
}

static bool tokens_choose(const struct model_config *config)
{
    return config->depth.kind == DEPTH_MOR && config->depth.routing == ROUTING_TOKEN;
}

static void count_parts(struct watch *watch)
{
    const struct decoder *decoder = decoder_of(watch->model);
    const struct model_config *config = &decoder->config;
    if (config->attention.kind == ATTENTION_INFINI)
        watch->gate_layers = layers_stored(config);
    for (int64_t layer = 0; layer < config->layers; layer++) {
        watch->memory_layers += watch->state && decoder_has_memory(decoder, layer);
        watch->routers += routes(config, layer);
    }
}

/* The part of the numbers behind those that have a name already; before there is memory, only counts them. */
static double *name_part(struct watch *watch, int64_t *count, int64_t part)
{
    double *begin = watch->numbers ? watch->numbers + *count : NULL;
    *count += part;
    return begin;
}

static int64_t name_parts(struct watch *watch)
{
    int64_t count = 0;
    watch->gates = name_part(watch, &count, watch->gate_layers * decoder_of(watch->model)->config.heads);
    watch->norm = name_part(watch, &count, watch->memory_layers);
    watch->z = name_part(watch, &count, watch->memory_layers);
    watch->offered = name_part(watch, &count, watch->routers);
    watch->chosen = name_part(watch, &count, watch->routers);
    watch->judged = name_part(watch, &count, watch->routers);
    watch->wanted = name_part(watch, &count, watch->routers);
    watch->admitted = name_part(watch, &count, watch->routers);
    watch->hits = name_part(watch, &count, watch->routers);
    watch->entropy = name_part(watch, &count, 2);
    watch->tokens = name_part(watch, &count, 2);
    watch->summed = count;
    watch->histogram = name_part(watch, &count, WATCH_BINS);
    watch->gate_mean = name_part(watch, &count, watch->gate_layers);
    watch->gate_min = name_part(watch, &count, watch->gate_layers);
    watch->gate_max = name_part(watch, &count, watch->gate_layers);
    watch->load = name_part(watch, &count, watch->routers);
    watch->selected = name_part(watch, &count, watch->routers);
    watch->agreement = name_part(watch, &count, watch->routers);
    watch->precision = name_part(watch, &count, watch->routers);
    watch->recall = name_part(watch, &count, watch->routers);
    return count;
}

static void add_list(struct watch *watch, const char *name, const double *values, int64_t count)
{
    struct model_scalars *shown = watch->shown;
    if (count == 0)
        return;
    shown->list[shown->list_count].name = name;
    shown->list[shown->list_count].values = values;
    shown->list[shown->list_count++].count = count;
}

static void name_lists(struct watch *watch)
{
    bool judged = !tokens_choose(&decoder_of(watch->model)->config);
    add_list(watch, "gate_histogram", watch->histogram, watch->gate_layers ? WATCH_BINS : 0);
    add_list(watch, "gate_mean", watch->gate_mean, watch->gate_layers);
    add_list(watch, "gate_min", watch->gate_min, watch->gate_layers);
    add_list(watch, "gate_max", watch->gate_max, watch->gate_layers);
    add_list(watch, "memory_norm", watch->norm, watch->memory_layers);
    add_list(watch, "memory_z", watch->z, watch->memory_layers);
    add_list(watch, "router_load", watch->load, watch->routers);
    add_list(watch, "router_selected", watch->selected, watch->routers);
    add_list(watch, "router_agreement", watch->agreement, judged ? watch->routers : 0);
    add_list(watch, "router_precision", watch->precision, judged ? watch->routers : 0);
    add_list(watch, "router_recall", watch->recall, judged ? watch->routers : 0);
}

static enum status fill(struct watch *watch)
{
    const struct batch *batch = watch->batch;
    struct context *context = watch->model->context;
    count_parts(watch);
    watch->numbers = memory_allocate(context, (size_t)name_parts(watch) * sizeof *watch->numbers, MEMORY_OTHER);
    if (!watch->numbers)
        return STATUS_MEMORY;
    name_parts(watch);
    name_lists(watch);
    if (watch->routers == 0 || decoder_of(watch->model)->config.depth.kind != DEPTH_MOD)
        return STATUS_OK;
    size_t tokens = (size_t)(batch->mine.count * batch->length);
    watch->taken = memory_allocate(context, tokens * sizeof *watch->taken, MEMORY_OTHER);
    watch->rows = memory_allocate(context, (size_t)batch->micro_batches * sizeof *watch->rows, MEMORY_OTHER);
    if (!watch->taken || !watch->rows)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < batch->micro_batches; i++)
        watch->rows[i] = (struct watch_rows){.watch = watch, .first = batch_micro(batch, i).begin};
    return STATUS_OK;
}

static enum status create(struct batch *batch, const struct model_state *state, struct model_scalars *scalars)
{
    struct watch *watch = memory_allocate(batch->model->context, sizeof *watch, MEMORY_OTHER);
    *scalars = (struct model_scalars){.self = watch};
    if (!watch)
        return STATUS_MEMORY;
    *watch = (struct watch){.shown = scalars, .batch = batch, .model = batch->model, .state = state};
    return fill(watch);
}

static void destroy(struct context *context, struct model_scalars *scalars)
{
    struct watch *watch = scalars->self;
    if (!watch)
        return;
    memory_free(context, watch->numbers);
    memory_free(context, watch->taken);
    memory_free(context, watch->rows);
    memory_free(context, watch);
    *scalars = (struct model_scalars){0};
}

/* -- A step -- */

static void see_selection(void *self, const struct decoder_selection *selection)
{
    const struct watch_rows *rows = self;
    int64_t length = rows->watch->batch->length;
    for (int64_t row = 0; row < selection->rows; row++) {
        int32_t *taken = rows->watch->taken + (rows->first + row) * length;
        for (int64_t i = selection->begin[row]; i < selection->begin[row + 1]; i++)
            taken[selection->position[selection->slot[i]]] = 1;
    }
}

static void look_at_selections(struct watch *watch, bool look)
{
    struct batch *batch = watch->batch;
    struct decoder_input *micro = decoder_batch_of(batch)->micro;
    for (int64_t i = 0; watch->taken && i < batch->micro_batches; i++) {
        micro[i].see_selection = look ? see_selection : NULL;
        micro[i].see_self = look ? &watch->rows[i] : NULL;
    }
    if (watch->taken && look)
        memset(watch->taken, 0, (size_t)(batch->mine.count * batch->length) * sizeof *watch->taken);
}

static void begin(struct model_scalars *scalars, bool due)
{
    struct watch *watch = scalars->self;
    struct decoder *decoder = decoder_of(watch->model);
    watch->due = due && scalars->list_count > 0;
    memset(decoder->router_counts, 0, (size_t)decoder->config.layers * sizeof *decoder->router_counts);
    if (watch->due)
        look_at_selections(watch, true);
}

static void add_gates(struct watch *watch)
{
    const struct decoder *decoder = decoder_of(watch->model);
    if (mesh_rank(decoder->mesh, MESH_REPLICA) != 0)
        return;
    for (int i = 0; i < decoder->block_count; i++) {
        const struct parameter *gate = decoder->blocks[i].memory_gate;
        double *layer = watch->gates + decoder->blocks[i].layer * decoder->config.heads;
        const float *value = gate ? gate->value.data : NULL;
        for (int64_t j = 0; gate && j < gate->division.owned.count; j++) {
            int64_t head = gate->division.owned.begin + j;
            layer[head] = 1.0 / (1.0 + exp(-(double)value[head - gate->division.slice.begin]));
        }
    }
}

static void add_memory(const struct watch *watch, const float *memory, double *norm, double *z)
{
    const struct model_state *carried = watch->state;
    int64_t width = carried->decoder->config.head_width;
    struct range heads = decoder_state_heads(carried);
    for (int64_t row = 0; row < carried->mine.count; row++)
        for (int64_t head = heads.begin; head < heads.begin + heads.count; head++) {
            const float *state = memory + row * carried->size + head * (width * width + width);
            double sum = 0.0;
            for (int64_t i = 0; i < width; i++)
                sum += state[width * width + i];
            *z += sum / (double)width;
            *norm += sqrt(sum_of_squares(watch->model->engine, state, width * width));
        }
}

static void add_memories(struct watch *watch)
{
    const struct decoder *decoder = decoder_of(watch->model);
    int64_t index = 0;
    for (int64_t layer = 0; watch->memory_layers > 0 && layer < decoder->config.layers; layer++) {
        if (!decoder_has_memory(decoder, layer))
            continue;
        const float *memory = watch->state->memory.before[layer];
        if (memory)
            add_memory(watch, memory, &watch->norm[index], &watch->z[index]);
        index++;
    }
}

/* Tensor and context ranks count offers and choices alike, which the shares do not see. */
static void add_router_counts(struct watch *watch)
{
    const struct decoder *decoder = decoder_of(watch->model);
    int64_t index = 0;
    for (int64_t i = 0; i < decoder->config.layers; i++) {
        const struct router_counts *counts = &decoder->router_counts[i];
        if (!routes(&decoder->config, i))
            continue;
        watch->offered[index] = (double)counts->offered;
        watch->chosen[index] = (double)counts->chosen;
        watch->judged[index] = (double)counts->judged;
        watch->wanted[index] = (double)counts->wanted;
        watch->admitted[index] = (double)counts->admitted;
        watch->hits[index] = (double)counts->hits;
        watch->entropy[0] += counts->entropy;
        watch->entropy[1] += (double)counts->decided;
        index++;
    }
}

static void add_tokens(struct watch *watch)
{
    struct mesh *mesh = watch->model->mesh;
    const struct batch *batch = watch->batch;
    const int64_t *valid = batch_field(batch, "valid");
    if (!watch->taken)
        return;
    /* Each stage has seen its own layers' routers. */
    if (mesh_size(mesh, MESH_PIPELINE) > 1)
        mesh_all_reduce(mesh, MESH_PIPELINE, watch->taken, batch->mine.count * batch->length, DTYPE_I32, MESH_MAX);
    for (int64_t row = 0; row < batch->mine.count; row++) {
        for (int64_t i = 0; i < valid[row]; i++)
            watch->tokens[0] += watch->taken[row * batch->length + i] == 0;
        watch->tokens[1] += (double)valid[row];
    }
}

/* -- What is shown -- */

static void show_gates(struct watch *watch)
{
    int64_t heads = decoder_of(watch->model)->config.heads;
    watch_histogram(watch->gates, watch->gate_layers * heads, watch->histogram);
    for (int64_t layer = 0; layer < watch->gate_layers; layer++) {
        const double *gates = watch->gates + layer * heads;
        double sum = 0.0;
        watch->gate_min[layer] = watch->gate_max[layer] = gates[0];
        for (int64_t head = 0; head < heads; head++) {
            sum += gates[head];
            watch->gate_min[layer] = fmin(watch->gate_min[layer], gates[head]);
            watch->gate_max[layer] = fmax(watch->gate_max[layer], gates[head]);
        }
        watch->gate_mean[layer] = sum / (double)heads;
    }
}

static void show_memories(struct watch *watch)
{
    double count = (double)(watch->batch->rows * decoder_of(watch->model)->config.kv_heads);
    for (int64_t i = 0; i < watch->memory_layers; i++) {
        watch->norm[i] /= count;
        watch->z[i] /= count;
    }
}

static void add_field(struct watch *watch, const char *name, double value)
{
    struct model_scalars *shown = watch->shown;
    shown->number[shown->number_count].name = name;
    shown->number[shown->number_count++].value = value;
}

static double share_of(double part, double whole)
{
    return whole > 0.0 ? part / whole : 0.0;
}

static void show_router_counts(struct watch *watch)
{
    const struct mesh *mesh = watch->model->mesh;
    double alike =
        (double)(mesh_size(mesh, MESH_TENSOR) * mesh_size(mesh, MESH_CONTEXT)); /* ranks: add_router_counts */
    double depth = 0.0;
    for (int64_t i = 0; i < watch->routers; i++) {
        double misses = watch->wanted[i] + watch->admitted[i] - 2.0 * watch->hits[i];
        watch->load[i] = watch->chosen[i] / watch->offered[i];
        watch->selected[i] = watch->chosen[i] / alike;
        watch->agreement[i] = 1.0 - share_of(misses, watch->judged[i]);
        watch->precision[i] = share_of(watch->hits[i], watch->admitted[i]);
        watch->recall[i] = share_of(watch->hits[i], watch->wanted[i]);
        depth += watch->load[i];
    }
    watch->shown->number_count = 0;
    if (tokens_choose(&decoder_of(watch->model)->config)) {
        add_field(watch, "router_mean_depth", depth);
        add_field(watch, "router_max_violation", watch_max_violation(watch->chosen, watch->routers));
        add_field(watch, "router_entropy", share_of(watch->entropy[0], watch->entropy[1]));
    }
    if (watch->taken)
        add_field(watch, "router_dead_tokens", watch->tokens[0] / watch->tokens[1]);
}

static void end(struct model_scalars *scalars)
{
    struct watch *watch = scalars->self;
    if (!watch->due)
        return;
    look_at_selections(watch, false);
    memset(watch->numbers, 0, (size_t)watch->summed * sizeof *watch->numbers);
    add_gates(watch);
    add_memories(watch);
    add_router_counts(watch);
    add_tokens(watch);
    mesh_all_reduce(watch->model->mesh, MESH_TEAM, watch->numbers, watch->summed, DTYPE_F64, MESH_SUM);
    show_gates(watch);
    show_memories(watch);
    show_router_counts(watch);
}

static bool warning(const struct model_scalars *scalars, int64_t step, char *text, size_t size)
{
    const struct watch *watch = scalars->self;
    const struct config *config = watch->model->config;
    int64_t gates = watch->gate_layers * config->model.heads;
    if (step != config->training.gate_warning_steps || !watch_undecided(watch->gates, gates))
        return false;
    snprintf(text, size,
             "after %lld steps all %lld memory gates are still between 0.45 and 0.55, so no head has learned when to "
             "use its memory: raise optimizer.gate_lr_factor (%g; 10 to 100 is usual), and give a sequence at least "
             "16 segments (training.sequence_length / model.attention.segment is %.3g); "
             "training.gate_warning_steps=0 silences this",
             (long long)step, (long long)gates, config->optimizer.gate_lr_factor,
             (double)config->training.sequence_length / (double)config->model.attention.segment);
    return true;
}

const struct model_scalars_ops decoder_scalars_ops = {
    .create = create, .destroy = destroy, .begin = begin, .end = end, .warning = warning};
