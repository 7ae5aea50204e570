#include "tests/mpi/kinds.h"

#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/random.h"
#include "src/model/layers.h"
#include "src/model/stages.h"
#include "tests/support/fields.h"

const struct kind kinds[KINDS] = {
    {"infini linear", "layers: 3, attention: {kind: infini, segment: 5}"},
    {"infini delta, learned positions",
     "layers: 3, positions: learned, max_positions: 40, norm: layer, mlp: gelu, bias: true, "
     "attention: {kind: infini, segment: 4, memory_update: delta}"},
    {"infini delta, two tokens a segment", "layers: 2, attention: {kind: infini, segment: 2, memory_update: delta}"},
    {"infini, one segment", "layers: 2, attention: {kind: infini, segment: 16}"},
    {"mod loss linear", "layers: 4, depth: {kind: mod, every: 2, capacity: 0.4}"},
    {"mod loss sigmoid, every layer", "layers: 3, depth: {kind: mod, every: 1, capacity: 0.5, gate: sigmoid}"},
    {"mod predictor, one token", "layers: 4, depth: {kind: mod, every: 2, capacity: 0.1, causal_router: predictor}"},
    {"mod predictor sigmoid, every layer",
     "layers: 3, depth: {kind: mod, every: 1, capacity: 0.7, gate: sigmoid, causal_router: predictor}"},
    {"mor expert recursion, middle cycle of 3", "layers: 8, depth: {kind: mor, recursions: 3, cache: recursion}"},
    {"mor expert shared, cycle of 2",
     "layers: 6, depth: {kind: mor, recursions: 2, sharing: cycle, cache: shared, router_loss: 0.1}"},
    {"mor token recursion, cycle of 3",
     "layers: 9, depth: {kind: mor, recursions: 3, sharing: cycle, routing: token, cache: recursion}"},
    {"mor token shared, middle cycle of 2",
     "layers: 6, depth: {kind: mor, recursions: 2, routing: token, cache: shared, router_loss: 0.1}"},
    {"recursive, sequence of 2", "layers: 6, depth: {kind: mor, recursions: 2, sharing: sequence, routing: none}"},
    {"recursive, middle cycle of 3", "layers: 8, depth: {kind: mor, recursions: 3, routing: none}"},
    {"laurel RW", "layers: 3, residual: {kind: laurel, weights: true}"},
    {"laurel LR, layer", "layers: 3, parallel_block: true, residual: {kind: laurel, scope: layer, rank: 3}"},
    {"laurel PA", "layers: 3, residual: {kind: laurel, previous: 3}"},
    {"laurel RW, LR, PA", "layers: 3, residual: {kind: laurel, weights: true, rank: 2, previous: 3}"},
    {"laurel RW, LR, PA, layer",
     "layers: 5, residual: {kind: laurel, scope: layer, weights: true, rank: 2, previous: 4}"},
    {"infini, mod", "layers: 4, attention: {kind: infini, segment: 3, memory_update: delta}, "
                    "depth: {kind: mod, every: 2, capacity: 0.4}"},
    {"infini, mor shared", "layers: 6, attention: {kind: infini, segment: 3}, "
                           "depth: {kind: mor, recursions: 2, sharing: cycle, cache: shared}"},
    {"infini delta, norm",
     "layers: 3, attention: {kind: infini, segment: 5, memory_update: delta, readout_norm: true}"},
    {"infini gated delta", "layers: 3, attention: {kind: infini, segment: 5, memory_update: gated_delta}"},
    {"infini gated delta, mod", "layers: 4, attention: {kind: infini, segment: 6, memory_update: gated_delta}, "
                                "depth: {kind: mod, every: 2, capacity: 0.5}"},
    {"infini gated delta, mor shared", "layers: 6, attention: {kind: infini, segment: 6, memory_update: gated_delta}, "
                                       "depth: {kind: mor, recursions: 2, sharing: cycle, cache: shared}"},
    {"laurel RW, PA, mor token", "layers: 8, residual: {kind: laurel, weights: true, previous: 3}, "
                                 "depth: {kind: mor, recursions: 2, routing: token, cache: shared}"},
    {"laurel PA, mod predictor", "layers: 4, residual: {kind: laurel, previous: 4}, "
                                 "depth: {kind: mod, every: 2, capacity: 0.3, causal_router: predictor}"},
    {"infini, mor recursion, laurel PA, layer",
     "layers: 8, attention: {kind: infini, segment: 4, memory_update: delta}, "
     "residual: {kind: laurel, scope: layer, previous: 3}, depth: {kind: mor, recursions: 2, cache: recursion}"},
    {"laurel RW, PA, layer, mod", "layers: 6, residual: {kind: laurel, scope: layer, weights: true, previous: 5}, "
                                  "depth: {kind: mod, every: 2, capacity: 0.4}"},
    {"lora, infini, mor expert shared, middle cycle of 2",
     "layers: 6, attention: {kind: infini, segment: 3, memory_update: delta}, "
     "depth: {kind: mor, recursions: 2, cache: shared, lora_rank: 3}"},
    {"lora, parallel block, mor token recursion, cycle of 3",
     "layers: 6, parallel_block: true, "
     "depth: {kind: mor, recursions: 3, sharing: cycle, routing: token, lora_rank: 2}"},
    {"lora, sequence of 2, biases",
     "layers: 8, bias: true, mlp: gelu, "
     "depth: {kind: mor, recursions: 2, sharing: sequence, routing: none, lora_rank: 1}"},
    {"lora of the layers, some maps",
     "layers: 3, lora: {rank: 3, alpha: 7.5, targets: [q_proj, v_proj, o_proj, down_proj]}"},
    {"lora of the layers, parallel, mor token", "layers: 6, parallel_block: true, lora: {rank: 2}, "
                                                "depth: {kind: mor, recursions: 2, sharing: cycle, routing: token}"},
    {"laurel PA, mod predictor, every layer", "layers: 3, residual: {kind: laurel, previous: 5}, "
                                              "depth: {kind: mod, every: 1, capacity: 0.5, causal_router: predictor}"},
    {"adapters, mod",
     "layers: 4, bias: true, norm: layer, adapters: 5 0 3, depth: {kind: mod, every: 2, capacity: 0.4}"},
};

/* The optimiser's epsilon lies between the rounding of these gradients and their size: same_answer.sh says why. */
static void make_config(struct context *context, const struct kind *kind, const struct kind_options *options,
                        struct config *config)
{
    char text[512];
    int length = snprintf(text, sizeof text,
                          "model: {vocabulary: %d, width: 24, heads: 6, kv_heads: 3, head_width: 4, hidden: 37, %s}",
                          KIND_VOCABULARY, kind->model);
    memset(config, 0, sizeof *config);
    assert_ok(context, config_parse_model(context, kind->name, text, (size_t)length, &config->model));
    config->compute.bucket_bytes = 4096;
    config->compute.type = options->type;
    config->watch.compare_every = options->compare_every;
    config->compute.recompute = options->recompute;
    config->optimizer = (struct optimizer_config){.learning_rate = 1e-2,
                                                  .beta1 = 0.9,
                                                  .beta2 = 0.95,
                                                  .epsilon = 1e-6,
                                                  .weight_decay = 0.1,
                                                  .clip = 1.0,
                                                  .gate_lr_factor = 3.0};
    config->training.steps = 100;
    config->training.batch = options->rows ? options->rows : KIND_ROWS;
    config->training.micro_batch = options->micro_batch ? options->micro_batch : 2;
    config->training.sequence_length = options->length ? options->length : KIND_LENGTH;
    config->training.seed = 11;
    config->training.skip_limit = 3;
}

int64_t kind_selection(int64_t step, int64_t index, int64_t row, int64_t position)
{
    uint64_t key = random_key((uint64_t)(step * 64 + index), "selection");
    return (int64_t)(random_bits(key, (uint64_t)(row * 1000 + position)) >> 40);
}

/* Tensor and context ranks all see the same. */
static void see_selection(void *self, const struct decoder_selection *selection)
{
    const struct bench_eye *eye = self;
    struct bench *bench = eye->bench;
    if (mesh_rank(bench->mesh, MESH_TENSOR) != 0 || mesh_rank(bench->mesh, MESH_CONTEXT) != 0)
        return;
    for (int64_t row = 0; row < selection->rows; row++)
        for (int64_t i = selection->begin[row]; i < selection->begin[row + 1]; i++) {
            int64_t position = selection->position[selection->slot[i]];
            bench->selections += kind_selection(bench->step, selection->index, eye->row + row, position);
            bench->selected++;
        }
}

static void see_logits(void *self, int64_t first, const struct tensor *logits)
{
    const struct bench_eye *eye = self;
    const struct bench *bench = eye->bench;
    const struct batch *batch = &bench->trainer.batch;
    struct range columns = decoder_of(bench->trainer.model)->vocabulary;
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        int64_t row = eye->row - batch->mine.begin + (first + n) / decoder_batch_of(batch)->own_count;
        int64_t token =
            row * batch->length + decoder_batch_of(batch)->own[(first + n) % decoder_batch_of(batch)->own_count];
        memcpy(bench->logits + token * KIND_VOCABULARY + columns.begin, (float *)logits->data + n * columns.count,
               (size_t)columns.count * sizeof(float));
    }
}

/* The first 53 tokens of a row differ: where one of two equal ones sees nothing but itself, the other would be the same
 * to a router, which then chooses by rounding. */
int32_t kind_token(int64_t row, int64_t position)
{
    return (int32_t)random_permute(random_key((uint64_t)row, "tokens"), position % KIND_VOCABULARY, KIND_VOCABULARY);
}

static void fill_tokens(struct bench *bench)
{
    struct batch *batch = &bench->trainer.batch;
    for (int64_t row = 0; row < batch->mine.count; row++)
        for (int64_t t = 0; t < batch->length; t++) {
            batch_tokens(batch)[row * batch->length + t] = kind_token(batch->mine.begin + row, t);
            batch_targets(batch)[row * batch->length + t] = kind_token(batch->mine.begin + row, t + 1);
        }
}

void bench_prepare(struct bench *bench)
{
    struct batch *batch = &bench->trainer.batch;
    batch->state = bench->streams->size > 0 ? bench->streams : NULL;
    batch_ready(&bench->trainer.batch, batch->rows * batch->length, batch->rows * batch->length);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = range_partition(batch->mine.count, batch->micro_batches, i);
        bench->eyes[i] = (struct bench_eye){.bench = bench, .row = batch->mine.begin + rows.begin};
        decoder_batch_of(batch)->micro[i].see_selection = see_selection;
        decoder_batch_of(batch)->micro[i].see_logits = see_logits;
        decoder_batch_of(batch)->micro[i].see_self = &bench->eyes[i];
    }
}

bool bench_create(struct bench *bench, void **state, const struct kind *kind, const struct kind_options *options)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    memset(bench, 0, sizeof *bench);
    bench->context = context;
    bench->bytes_before = context->memory.bytes_total;
    make_config(context, kind, options, &bench->config);
    struct mesh_config ring = options->mesh;
    ring.recursions = RECURSIONS_RING;
    if (options->mesh.recursions != RECURSIONS_RING && !stages_circular(&bench->config.model, &ring))
        return false; /* the same mesh as without */
    bench->mesh = mpi_mesh(fixture, options->mesh);
    assert_ok(context, engine_create(context, 1, &bench->engine));
    struct trainer *trainer = &bench->trainer;
    if (trainer_create(context, bench->mesh, &bench->engine, &bench->config, trainer) == STATUS_USAGE) {
        assert_memory_equal(context->text, "mesh.", 5);
        context_clear(context);
        bench_destroy(bench);
        return false;
    }
    assert_ok(context, context->status);
    struct batch *batch = &trainer->batch;
    assert_ok(context, decoder_state_ops.create(&bench->trainer.batch, &bench->streams));
    bench->eyes = memory_allocate(context, (size_t)batch->micro_batches * sizeof *bench->eyes, MEMORY_OTHER);
    size_t logits = (size_t)(batch->mine.count * batch->length * KIND_VOCABULARY);
    bench->logits = memory_allocate(context, logits * sizeof *bench->logits, MEMORY_OTHER);
    batch->causal = options->causal;
    fill_tokens(bench);
    bench_prepare(bench);
    return true;
}

void bench_destroy(struct bench *bench)
{
    decoder_state_ops.destroy(&bench->streams);
    trainer_destroy(&bench->trainer);
    engine_destroy(&bench->engine);
    mesh_destroy(&bench->mesh);
    memory_free(bench->context, bench->eyes);
    memory_free(bench->context, bench->logits);
    if (bench->bytes_before == 0)
        assert_int_equal(bench->context->memory.bytes_total, 0);
}

struct step_result bench_step(struct bench *bench)
{
    struct step_result result;
    assert_ok(bench->context, trainer_step(&bench->trainer, &result));
    assert_false(result.skipped);
    decoder_state_ops.advance(bench->streams);
    bench->step++;
    bench_prepare(bench);
    return result;
}

void bench_look(struct bench *bench)
{
    struct step_result result;
    assert_ok(bench->context, trainer_loss(&bench->trainer, &result));
}

double bench_projection(struct bench *bench, int number)
{
    int count;
    const struct shard *shards = replica_shards(bench->trainer.session.replica, &count);
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
        const struct parameter *parameter = shards[i].parameter;
        struct range owned = parameter_owned(parameter, shards[i].flat);
        struct box block = parameter_box(parameter);
        struct box boxes[BOXES_OF_RANGE];
        int parts = box_from_range(&block, parameter->spec.rank, owned, boxes);
        const float *master = shards[i].master + (owned.begin - shards[i].flat.begin);
        uint64_t key = random_key((uint64_t)number, parameter->spec.name);
        for (int b = 0; b < parts; b++)
            for (int64_t e = 0; e < box_count(&boxes[b], parameter->spec.rank); e++) {
                int64_t rest = e;
                int64_t index = 0;
                int64_t stride = 1;
                for (int axis = parameter->spec.rank - 1; axis >= 0; axis--) {
                    index += (boxes[b].offset[axis] + rest % boxes[b].extent[axis]) * stride;
                    rest /= boxes[b].extent[axis];
                    stride *= parameter->spec.shape[axis];
                }
                double value = (double)*master++;
                sum += random_bits(key, (uint64_t)index) % 2 ? value : -value;
            }
    }
    mesh_all_reduce(bench->mesh, MESH_TEAM, &sum, 1, DTYPE_F64, MESH_SUM);
    return sum;
}

int kind_meshes(int ranks, struct mesh_config meshes[KIND_MESHES])
{
    static const struct mesh_config all[] = {
        {1, 1, 1, 1, 1}, /* one rank */
        {2, 1, 1, 1, 1},
        {1, 2, 1, 1, 1},
        {1, 1, 2, 1, 1},
        {1, 1, 1, 2, 1},
        {1, 2, 1, 1, 2}, /* two */
        {3, 1, 1, 1, 1},
        {1, 3, 1, 1, 1},
        {1, 1, 3, 1, 1},
        {1, 1, 1, 3, 1}, /* three */
        {1, 1, 4, 1, 1},
        {1, 2, 2, 1, 1},
        {1, 1, 2, 2, 1},
        {1, 2, 1, 2, 1},
        {2, 1, 2, 1, 1}, /* four */
        {1, 2, 2, 2, 1},
        {2, 2, 2, 1, 1}, /* eight */
        {1, 2, 1, 1, 1, RECURSIONS_STAGE},
        {1, 3, 1, 1, 1, RECURSIONS_STAGE},
        {1, 2, 2, 1, 1, RECURSIONS_STAGE},
        {1, 2, 1, 2, 1, RECURSIONS_STAGE},
        {1, 2, 2, 2, 1, RECURSIONS_STAGE},
    };
    int count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].data * all[i].pipeline * all[i].context * all[i].tensor == ranks)
            meshes[count++] = all[i];
    return count;
}
