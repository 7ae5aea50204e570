/* The conformance runner (formats.md): runs cases of the float64 reference in fp32 under a mesh and compares.
 *
 *     mpirun -n W conformance [--data D] [--pipeline P] [--context C] [--tensor Q] [--tolerance X] FILE... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/text.h"
#include "src/train/generate.h"
#include "src/train/streams.h"
#include "tests/conformance/case.h"

struct runner {
    struct context context;
    struct mesh *mesh;
    struct engine engine;
    struct mesh_config wanted;
    double tolerance;
    bool speaks;
    int failed, passed, skipped;
};

struct eye;

/* One case under way. */
struct run {
    struct runner *runner;
    struct context *context;
    struct conformance_case *test;
    struct config config;
    struct trainer trainer;
    struct streams streams;
    int64_t rows, length, vocabulary;
    double *logits;   /* [rows, length, vocabulary] */
    double *selected; /* [layers, rows, length]: what each router chose, in the form of the case */
    struct eye *eyes; /* [micro-batches] */
    double worst;
    char where[CASE_NAME];
};

/* -- Between the reference's whole tensors and this rank's parts ----------------------------------------------------
 */

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

static bool same_shape(const struct case_tensor *tensor, const struct parameter_spec *spec)
{
    bool same = tensor->rank == spec->rank;
    for (int i = 0; same && i < spec->rank; i++)
        same = tensor->shape[i] == spec->shape[i];
    return same;
}

static enum status load_parameters(struct run *run, struct trainer *trainer)
{
    const struct decoder *decoder = trainer->decoder;
    int given = 0;
    for (int i = 0; i < run->test->count; i++)
        given += strncmp(run->test->tensors[i].name, "/parameters/", 12) == 0;
    if (given != decoder->spec_count)
        return context_fail(run->context, STATUS_FILE, "the case has %d parameters, the model %d", given,
                            decoder->spec_count);
    for (int i = 0; i < decoder->spec_count; i++) {
        const struct case_tensor *tensor = case_find(run->test, "/parameters/", decoder->specs[i].name);
        if (!tensor || !same_shape(tensor, &decoder->specs[i]))
            return context_fail(run->context, STATUS_FILE, "/parameters/%s is missing or has another shape",
                                decoder->specs[i].name);
    }
    int count;
    const struct shard *shards = replica_shards(decoder->replica, &count);
    for (int i = 0; i < count; i++) {
        struct case_tensor *tensor = case_find(run->test, "/parameters/", shards[i].parameter->spec.name);
        struct transfer transfer = {.local = shards[i].master, .whole = tensor->values};
        visit_range(&shards[i], shards[i].flat, take, &transfer);
    }
    replica_gather(decoder->replica);
    return STATUS_OK;
}

/* The whole of a parameter, or of its gradient, on all ranks. */
static void collect(struct run *run, const char *name, bool gradient, double *whole, int64_t size)
{
    int count;
    const struct shard *shards = replica_shards(run->trainer.decoder->replica, &count);
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
    mesh_all_reduce(run->runner->mesh, MESH_WORLD, whole, size, DTYPE_F64, MESH_SUM);
}

/* -- Comparison ------------------------------------------------------------------------------------------------------
 */

/* max |a - b| / max |b|. A tensor that is nothing but rounding beside `scale` (below 1e-6 of it) is measured against
 * scale: some gradients are exactly zero. */
static void compare(struct run *run, struct case_tensor *expected, const double *values, double scale)
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

/* Compares all parameters with what stands under `prefix`. */
static enum status compare_parameters(struct run *run, const char *prefix, bool gradient)
{
    const struct decoder *decoder = run->trainer.decoder;
    double scale = gradient ? largest_gradient(run->test) : 0.0;
    for (int i = 0; i < decoder->spec_count; i++) {
        const struct parameter_spec *spec = &decoder->specs[i];
        struct case_tensor *expected = case_find(run->test, prefix, spec->name);
        if (!expected || !same_shape(expected, spec))
            return context_fail(run->context, STATUS_FILE, "%s%s is missing or has another shape", prefix, spec->name);
        double *whole = memory_allocate(run->context, (size_t)expected->count * sizeof *whole, MEMORY_OTHER);
        if (!whole)
            return STATUS_MEMORY;
        collect(run, spec->name, gradient, whole, expected->count);
        compare(run, expected, whole, scale);
        memory_free(run->context, whole);
    }
    return STATUS_OK;
}

/* -- A case ----------------------------------------------------------------------------------------------------------
 */

/* A micro-batch of a run, whose first row is `row` of the case. */
struct eye {
    struct run *run;
    int64_t row;
};

static void see_logits(void *self, int64_t first, const struct tensor *logits)
{
    const struct eye *eye = self;
    struct run *run = eye->run;
    const struct batch *batch = &run->trainer.batch;
    const struct decoder *decoder = run->trainer.decoder;
    const float *values = logits->data;
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        int64_t row = eye->row + (first + n) / batch->own_count;
        int64_t token = row * run->length + batch->own[(first + n) % batch->own_count];
        for (int64_t v = 0; v < decoder->vocabulary.count; v++)
            run->logits[token * run->vocabulary + decoder->vocabulary.begin + v] =
                (double)values[n * decoder->vocabulary.count + v];
    }
}

/* -- What routers chose ----------------------------------------------------------------------------------------------
 */

/* All tensor and context ranks see the same. */
static bool speaks_for_selections(const struct run *run)
{
    return mesh_rank(run->runner->mesh, MESH_TENSOR) == 0 && mesh_rank(run->runner->mesh, MESH_CONTEXT) == 0;
}

/* Positions in ascending order, or how many recursions each token takes. */
static void see_selection(void *self, const struct decoder_selection *selection)
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

static void compare_selections(struct run *run)
{
    int64_t layers = run->config.model.layers;
    mesh_all_reduce(run->runner->mesh, MESH_WORLD, run->selected, layers * run->rows * run->length, DTYPE_F64,
                    MESH_SUM);
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
        compare(run, expected, rows, 0.0);
    }
}

/* -- Memories --------------------------------------------------------------------------------------------------------
 */

/* A part of the memories of a layer: a kv head's M or z in a row of this rank. */
static float *memory_part(const struct run *run, float *layer, int64_t row, int64_t head, bool norm)
{
    int64_t width = run->config.model.head_width;
    int64_t size = width * width + width;
    return layer + row * run->streams.size + head * size + (norm ? width * width : 0);
}

/* The first of the ranks that hold a kv head. */
static bool owns_head(const struct run *run, int64_t head)
{
    const struct decoder *decoder = run->trainer.decoder;
    int64_t group = decoder->config.heads / decoder->config.kv_heads;
    bool shared = head == 0 && decoder->heads.begin % group != 0;
    return !shared && mesh_rank(run->runner->mesh, MESH_CONTEXT) == 0;
}

static void load_memory(struct run *run, const char *name, int64_t layer, bool norm)
{
    const struct case_tensor *given = case_find(run->test, "/memory_before/", name);
    const struct decoder *decoder = run->trainer.decoder;
    float *memory = run->streams.memory.before[layer];
    int64_t width = decoder->config.head_width;
    int64_t each = norm ? width : width * width;
    for (int64_t row = 0; given && memory && row < run->streams.mine.count; row++)
        for (int64_t head = 0; head < decoder->kv_heads.count; head++) {
            int64_t from = (run->trainer.batch.mine.begin + row) * decoder->config.kv_heads + decoder->kv_heads.begin;
            for (int64_t i = 0; i < each; i++)
                memory_part(run, memory, row, head, norm)[i] = (float)given->values[(from + head) * each + i];
        }
}

static enum status compare_memory(struct run *run, const char *name, int64_t layer, bool norm)
{
    struct case_tensor *expected = case_find(run->test, "/expect/memory_after/", name);
    const struct decoder *decoder = run->trainer.decoder;
    float *memory = run->streams.memory.after[layer];
    int64_t width = decoder->config.head_width;
    int64_t each = norm ? width : width * width;
    if (!expected)
        return STATUS_OK;
    if (expected->count != run->rows * decoder->config.kv_heads * each || !decoder_has_memory(decoder, layer))
        return context_fail(run->context, STATUS_FILE, "%s: has another shape, or the layer no memory", expected->name);
    double *whole = memory_allocate(run->context, (size_t)expected->count * sizeof *whole, MEMORY_OTHER);
    if (!whole)
        return STATUS_MEMORY;
    for (int64_t row = 0; memory && row < run->streams.mine.count; row++)
        for (int64_t head = 0; head < decoder->kv_heads.count; head++) {
            int64_t to = (run->trainer.batch.mine.begin + row) * decoder->config.kv_heads + decoder->kv_heads.begin;
            for (int64_t i = 0; owns_head(run, head) && i < each; i++)
                whole[(to + head) * each + i] = (double)memory_part(run, memory, row, head, norm)[i];
        }
    mesh_all_reduce(run->runner->mesh, MESH_WORLD, whole, expected->count, DTYPE_F64, MESH_SUM);
    compare(run, expected, whole, 0.0);
    memory_free(run->context, whole);
    return STATUS_OK;
}

static enum status each_memory(struct run *run, bool load)
{
    for (int64_t layer = 0; layer < run->config.model.layers; layer++)
        for (int norm = 0; norm < 2; norm++) {
            char name[CASE_NAME];
            snprintf(name, sizeof name, "layers.%lld/%s", (long long)layer, norm ? "norm" : "state");
            if (load)
                load_memory(run, name, layer, norm);
            else
                CHECK(compare_memory(run, name, layer, norm));
        }
    return STATUS_OK;
}

/* -- A case ----------------------------------------------------------------------------------------------------------
 */

static enum status set_up(struct run *run)
{
    struct conformance_case *test = run->test;
    struct config *config = &run->config;
    CHECK(config_parse_model(run->context, "model", test->model, strlen(test->model), &config->model));
    const struct case_tensor *tokens = case_find(test, "/tokens", "");
    if (!tokens || tokens->rank != 2 || tokens->shape[1] < 2)
        return context_fail(run->context, STATUS_FILE, "/tokens is missing or has another shape");
    run->rows = tokens->shape[0];
    run->length = tokens->shape[1] - 1;
    run->vocabulary = config->model.vocabulary;
    config->compute.bucket_bytes = 16384; /* several buckets, small as the model is */
    config->training.batch = run->rows;
    config->training.micro_batch = mesh_size(run->runner->mesh, MESH_PIPELINE) > 1 ? 1 : run->rows;
    config->training.sequence_length = run->length;
    config->training.steps = 1;
    config->optimizer = (struct optimizer_config){.learning_rate = test->learning_rate,
                                                  .beta1 = test->beta1,
                                                  .beta2 = test->beta2,
                                                  .epsilon = test->epsilon,
                                                  .weight_decay = test->weight_decay,
                                                  .clip = test->clip,
                                                  .gate_lr_factor = test->gate_lr_factor,
                                                  .schedule = SCHEDULE_CONSTANT};
    return STATUS_OK;
}

static void fill_tokens(struct run *run)
{
    const struct case_tensor *tokens = case_find(run->test, "/tokens", "");
    struct batch *batch = &run->trainer.batch;
    for (int64_t row = 0; row < batch->mine.count; row++)
        for (int64_t t = 0; t < run->length; t++) {
            const double *from = tokens->values + (batch->mine.begin + row) * (run->length + 1) + t;
            batch->inputs[row * run->length + t] = (int32_t)from[0];
            batch->targets[row * run->length + t] = (int32_t)from[1];
        }
    if (run->streams.size > 0)
        batch->memory = &run->streams.memory;
    trainer_scale_batch(&run->trainer, run->rows * run->length);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        run->eyes[i].run = run;
        run->eyes[i].row = batch->mine.begin + range_partition(batch->mine.count, batch->micro_batches, i).begin;
        batch->micro[i].see_logits = see_logits;
        batch->micro[i].see_selection = see_selection;
        batch->micro[i].see_self = &run->eyes[i];
    }
}

static enum status check_gradients(struct run *run)
{
    int64_t size = run->rows * run->length * run->vocabulary;
    struct case_tensor *logits = case_find(run->test, "/expect/logits", "");
    struct case_tensor *loss = case_find(run->test, "/expect/loss_lm", "");
    if (!logits || logits->count != size || !loss || loss->count != 1)
        return context_fail(run->context, STATUS_FILE, "/expect/logits or loss_lm is missing or has another shape");
    size_t choices = (size_t)(run->config.model.layers * run->rows * run->length);
    run->logits = memory_allocate(run->context, (size_t)size * sizeof *run->logits, MEMORY_OTHER);
    run->selected = memory_allocate(run->context, choices * sizeof *run->selected, MEMORY_OTHER);
    if (!run->logits || !run->selected)
        return STATUS_MEMORY;
    struct step_result result;
    CHECK(trainer_gradients(&run->trainer, &result));
    mesh_all_reduce(run->runner->mesh, MESH_WORLD, run->logits, size, DTYPE_F64, MESH_SUM);
    compare(run, logits, run->logits, 0.0);
    compare(run, loss, &result.loss, 0.0);
    struct case_tensor *router_loss = case_find(run->test, "/expect/loss_router", "");
    if (router_loss)
        compare(run, router_loss, &result.router_loss, 0.0);
    compare_selections(run);
    CHECK(each_memory(run, false));
    return compare_parameters(run, "/expect/gradients/", true);
}

static enum status check_updates(struct run *run)
{
    if (!run->test->has_optimizer)
        return STATUS_OK;
    struct case_tensor *losses = case_find(run->test, "/expect/losses", "");
    if (!losses || losses->count != run->test->steps)
        return context_fail(run->context, STATUS_FILE, "/expect/losses is missing or has another shape");
    double *values = memory_allocate(run->context, (size_t)losses->count * sizeof *values, MEMORY_OTHER);
    if (!values)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < losses->count; i++) {
        struct step_result result;
        CHECK(trainer_step(&run->trainer, &result));
        values[i] = result.loss + result.router_loss;
    }
    compare(run, losses, values, 0.0);
    memory_free(run->context, values);
    return compare_parameters(run, "/expect/parameters_after/", false);
}

static enum status continue_prompt(struct run *run, struct trainer *trainer, const struct case_tensor *prompt,
                                   struct case_tensor *generated)
{
    int64_t given = prompt->shape[1];
    int64_t whole = generated->shape[1];
    struct sampling greedy = {.temperature = 0.0, .top_p = 1.0};
    int32_t *tokens = memory_allocate(run->context, (size_t)whole * sizeof *tokens, MEMORY_OTHER);
    double *values = memory_allocate(run->context, (size_t)generated->count * sizeof *values, MEMORY_OTHER);
    if (!tokens || !values)
        return STATUS_MEMORY;
    for (int64_t row = 0; row < generated->shape[0]; row++) {
        for (int64_t i = 0; i < given; i++)
            tokens[i] = (int32_t)prompt->values[row * given + i];
        struct continuation continuation = {
            .prompt = tokens, .prompt_count = given, .count = whole - given, .tokens = tokens + given};
        CHECK(generate(trainer, &greedy, &continuation, 1, 1, NULL, NULL));
        for (int64_t i = 0; i < whole; i++)
            values[row * whole + i] = tokens[i];
    }
    compare(run, generated, values, 0.0);
    memory_free(run->context, tokens);
    memory_free(run->context, values);
    return STATUS_OK;
}

static enum status check_generation(struct run *run)
{
    const struct case_tensor *prompt = case_find(run->test, "/prompt", "");
    struct case_tensor *generated = case_find(run->test, "/expect/generated", "");
    if (!generated)
        return STATUS_OK;
    if (!prompt || prompt->rank != 2 || generated->rank != 2 || prompt->shape[0] != generated->shape[0])
        return context_fail(run->context, STATUS_FILE, "/prompt is missing or has another shape");
    struct trainer trainer;
    run->config.training.sequence_length = generated->shape[1];
    enum status status =
        trainer_create(run->context, run->runner->mesh, &run->runner->engine, &run->config, false, &trainer);
    TRY(status);
    TRY(load_parameters(run, &trainer));
    TRY(continue_prompt(run, &trainer, prompt, generated));
done:
    trainer_destroy(&trainer);
    return status;
}

/* Everything the reference expects must have been looked at. */
static enum status check_complete(struct run *run)
{
    for (int i = 0; i < run->test->count; i++) {
        const struct case_tensor *tensor = &run->test->tensors[i];
        if (strncmp(tensor->name, "/expect/", 8) == 0 && !tensor->checked)
            return context_fail(run->context, STATUS_FILE, "%s is expected, but nothing was compared with it",
                                tensor->name);
    }
    return STATUS_OK;
}

static enum status run_case(struct run *run, bool *unsupported)
{
    CHECK(mesh_agree(run->runner->mesh, run->context, set_up(run)));
    enum status status =
        trainer_create(run->context, run->runner->mesh, &run->runner->engine, &run->config, true, &run->trainer);
    *unsupported = status == STATUS_USAGE;
    CHECK(status);
    CHECK(load_parameters(run, &run->trainer));
    run->eyes =
        memory_allocate(run->context, (size_t)run->trainer.batch.micro_batches * sizeof *run->eyes, MEMORY_OTHER);
    if (!run->eyes)
        return STATUS_MEMORY;
    CHECK(streams_create(run->context, run->trainer.decoder, run->trainer.batch.mine, run->rows, &run->streams));
    CHECK(each_memory(run, true));
    fill_tokens(run);
    CHECK(check_gradients(run));
    for (int64_t i = 0; i < run->trainer.batch.micro_batches; i++) {
        run->trainer.batch.micro[i].see_logits = NULL;
        run->trainer.batch.micro[i].see_selection = NULL;
    }
    CHECK(check_generation(run));
    CHECK(check_updates(run));
    return check_complete(run);
}

static void report(struct runner *runner, const char *path, const char *word, const char *text)
{
    const char *name = strrchr(path, '/');
    if (runner->speaks)
        printf("%-8s %-32s %s\n", word, name ? name + 1 : path, text);
}

static void run_file(struct runner *runner, const char *path)
{
    struct context *context = &runner->context;
    struct conformance_case test;
    struct run *run = calloc(1, sizeof *run);
    char text[3 * CASE_NAME];
    bool unsupported = false;
    if (!run)
        mesh_abort(1);
    *run = (struct run){.runner = runner, .context = context, .test = &test};
    run->trainer.context = context;
    enum status status = mesh_agree(runner->mesh, context, case_read(context, path, &test));
    if (status == STATUS_OK)
        status = run_case(run, &unsupported);
    if (unsupported) {
        runner->skipped++;
        report(runner, path, "skipped", context->text);
    } else if (status != STATUS_OK) {
        runner->failed++;
        report(runner, path, "FAILED", context->text);
    } else {
        bool good = run->worst <= runner->tolerance;
        runner->passed += good;
        runner->failed += !good;
        snprintf(text, sizeof text, "%.2e at %s", run->worst, run->where);
        report(runner, path, good ? "ok" : "FAILED", text);
    }
    context_clear(context);
    trainer_destroy(&run->trainer);
    streams_destroy(&run->streams);
    memory_free(context, run->logits);
    memory_free(context, run->selected);
    memory_free(context, run->eyes);
    case_destroy(context, &test);
    free(run);
}

static int parse(struct runner *runner, int argc, char **argv, int *first)
{
    struct {
        const char *name;
        int64_t *value;
    } const sizes[] = {{"--data", &runner->wanted.data},
                       {"--pipeline", &runner->wanted.pipeline},
                       {"--context", &runner->wanted.context},
                       {"--tensor", &runner->wanted.tensor},
                       {"--virtual-stages", &runner->wanted.virtual_stages}};
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        bool known =
            i + 1 < argc && strcmp(argv[i], "--tolerance") == 0 && text_to_real(argv[i + 1], &runner->tolerance);
        for (size_t s = 0; !known && i + 1 < argc && s < sizeof sizes / sizeof *sizes; s++)
            known = strcmp(argv[i], sizes[s].name) == 0 && text_to_integer(argv[i + 1], sizes[s].value);
        if (!known)
            return 2;
    }
    *first = i;
    return i < argc ? 0 : 2;
}

int main(int argc, char **argv)
{
    struct runner runner = {.wanted = {1, 1, 1, 1, 1}, .tolerance = 2e-4};
    struct mesh_config resolved;
    int rank;
    int ranks;
    int first = 0;
    context_create(&runner.context);
    enum status status = mesh_start(&runner.context, &argc, &argv, &rank, &ranks);
    runner.speaks = rank == 0;
    runner.context.quiet = rank != 0;
    int code = parse(&runner, argc, argv, &first);
    if (code != 0 && runner.speaks)
        fprintf(stderr, "usage: conformance [--data D] [--pipeline P] [--context C] [--tensor Q] [--virtual-stages V]\n"
                        "                   [--tolerance X] FILE...\n");
    if (code == 0 && status == STATUS_OK)
        status = mesh_resolve(&runner.context, &runner.wanted, ranks, &resolved);
    if (code == 0 && status == STATUS_OK)
        status = mesh_create(&runner.context, &resolved, &runner.mesh);
    if (code == 0 && status == STATUS_OK)
        status = engine_create(&runner.context, 1, &runner.engine);
    if (code == 0 && status == STATUS_OK) {
        for (int i = first; i < argc; i++)
            run_file(&runner, argv[i]);
        if (runner.speaks)
            printf("%d passed, %d failed, %d skipped\n", runner.passed, runner.failed, runner.skipped);
        code = runner.failed ? 1 : 0;
        engine_destroy(&runner.engine);
    } else if (code == 0) {
        if (runner.speaks)
            fprintf(stderr, "conformance: %s\n", runner.context.text);
        code = 2;
    }
    mesh_destroy(&runner.mesh);
    mesh_stop();
    return code;
}
