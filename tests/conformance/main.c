/* The conformance runner (tests/conformance/README.md): runs cases of the float64 reference in fp32 under a mesh and
 * compares.
 *
 *     mpirun -n W conformance [--data D] [--pipeline P] [--context C] [--tensor Q] [--tolerance X] FILE... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/text.h"
#include "tests/conformance/run.h"
#include "tests/support/fields.h"

/* -- A case -- */

static enum status set_up_tokens(struct run *run)
{
    const struct case_tensor *tokens = case_find(run->test, "/tokens", "");
    if (!tokens || tokens->rank != 2 || tokens->shape[1] < 2)
        return context_fail(run->context, STATUS_FILE, "/tokens is missing or has another shape");
    run->rows = tokens->shape[0];
    run->length = run->targets = tokens->shape[1] - 1;
    run->vocabulary = run->config.model.vocabulary;
    return STATUS_OK;
}

static enum status set_up(struct run *run)
{
    struct conformance_case *test = run->test;
    struct config *config = &run->config;
    CHECK(config_parse_model(run->context, "model", test->model, strlen(test->model), &config->model));
    run->of_images = case_find(test, "/images", "") != NULL;
    CHECK(run->of_images ? run_set_up_images(run) : set_up_tokens(run));
    config->compute.bucket_bytes = 16384; /* several buckets, small as the model is */
    config->training.batch = run->rows;
    config->training.micro_batch = mesh_size(run->runner->mesh, MESH_PIPELINE) > 1 ? 1 : run->rows;
    config->training.sequence_length = run->length;
    config->training.steps = 1;
    config->optimizer = test->optimizer;
    return STATUS_OK;
}

static void fill_tokens(struct run *run)
{
    const struct case_tensor *tokens = case_find(run->test, "/tokens", "");
    struct batch *batch = &run->trainer.batch;
    for (int64_t row = 0; row < batch->mine.count; row++)
        for (int64_t t = 0; t < run->length; t++) {
            const double *from = tokens->values + (batch->mine.begin + row) * (run->length + 1) + t;
            batch_tokens(batch)[row * run->length + t] = (int32_t)from[0];
            batch_targets(batch)[row * run->length + t] = (int32_t)from[1];
        }
    if (run->streams->size > 0)
        batch->state = run->streams;
    batch_ready(&run->trainer.batch, run->rows * run->length, run->rows * run->length);
}

/* A decoder shows what goes on inside, of every micro-batch; or no longer. */
static void open_eyes(struct run *run, bool open)
{
    struct batch *batch = &run->trainer.batch;
    batch->see_classes = open ? run_see_classes : NULL;
    batch->see_self = run;
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        run->eyes[i].run = run;
        run->eyes[i].row = batch->mine.begin + batch_micro(batch, i).begin;
        if (!decoder_of(run->trainer.model))
            continue;
        struct decoder_input *input = &decoder_batch_of(batch)->micro[i];
        input->see_logits = open ? run_see_logits : NULL;
        input->see_selection = open ? run_see_selection : NULL;
        input->see_self = &run->eyes[i];
    }
}

/* Logits without training, where they are others. */
static enum status check_evaluation(struct run *run, int64_t size)
{
    struct case_tensor *logits = case_find(run->test, "/expect/logits_eval", "");
    struct step_result result;
    if (!logits)
        return STATUS_OK;
    if (logits->count != size)
        return context_fail(run->context, STATUS_FILE, "/expect/logits_eval has another shape");
    CHECK(trainer_loss(&run->trainer, &result));
    mesh_all_reduce(run->runner->mesh, MESH_TEAM, run->logits, size, DTYPE_F64, MESH_SUM);
    run_compare(run, logits, run->logits, 0.0);
    memset(run->logits, 0, (size_t)size * sizeof *run->logits);
    return STATUS_OK;
}

static enum status check_gradients(struct run *run)
{
    int64_t size = run->rows * run->targets * run->vocabulary;
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
    CHECK(check_evaluation(run, size));
    CHECK(trainer_gradients(&run->trainer, &result));
    CHECK(run_compare_buffers(run, "/expect/buffers_after/"));
    mesh_all_reduce(run->runner->mesh, MESH_TEAM, run->logits, size, DTYPE_F64, MESH_SUM);
    run_compare(run, logits, run->logits, 0.0);
    run_compare(run, loss, &result.loss, 0.0);
    struct case_tensor *router_loss = case_find(run->test, "/expect/loss_router", "");
    if (router_loss)
        run_compare(run, router_loss, &result.router_loss, 0.0);
    if (decoder_of(run->trainer.model)) {
        run_compare_selections(run);
        if (run->streams)
            CHECK(run_each_memory(run, false));
    }
    return run_compare_parameters(run, "/expect/gradients/", true);
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
    run_compare(run, losses, values, 0.0);
    memory_free(run->context, values);
    return run_compare_parameters(run, "/expect/parameters_after/", false);
}

static enum status continue_prompt(struct run *run, struct session *session, const struct case_tensor *prompt,
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
        CHECK(generate(session, &greedy, &continuation, 1, 1, NULL, NULL));
        for (int64_t i = 0; i < whole; i++)
            values[row * whole + i] = tokens[i];
    }
    run_compare(run, generated, values, 0.0);
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
    struct session session;
    run->config.training.sequence_length = generated->shape[1];
    enum status status = session_create(run->context, run->runner->mesh, &run->runner->engine, &run->config, NULL, NULL,
                                        false, &session);
    TRY(status);
    TRY(run_load_parameters(run, &session));
    TRY(continue_prompt(run, &session, prompt, generated));
done:
    session_destroy(&session);
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
        trainer_create(run->context, run->runner->mesh, &run->runner->engine, &run->config, &run->trainer);
    *unsupported = status == STATUS_USAGE;
    CHECK(status);
    CHECK(run_load_parameters(run, &run->trainer.session));
    run->eyes =
        memory_allocate(run->context, (size_t)run->trainer.batch.micro_batches * sizeof *run->eyes, MEMORY_OTHER);
    if (!run->eyes)
        return STATUS_MEMORY;
    if (run->trainer.model->ops->state) {
        CHECK(decoder_state_ops.create(&run->trainer.batch, &run->streams));
        CHECK(run_each_memory(run, true));
    }
    open_eyes(run, true);
    if (run->of_images)
        run_fill_images(run);
    else
        fill_tokens(run);
    CHECK(check_gradients(run));
    open_eyes(run, false);
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
        team_abort(1);
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
    if (run->streams) /* knows the trainer's decoder */
        decoder_state_ops.destroy(&run->streams);
    trainer_destroy(&run->trainer);
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
        if (!known && i + 1 < argc && strcmp(argv[i], "--recursions") == 0) {
            runner->wanted.recursions = strcmp(argv[i + 1], "stage") == 0 ? RECURSIONS_STAGE : RECURSIONS_RING;
            known = true;
        }
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
    struct team *team = NULL;
    int first = 0;
    context_create(&runner.context);
    enum status status = team_start(&runner.context, &argc, &argv, &team);
    runner.speaks = team && team_rank(team) == 0;
    runner.context.quiet = !runner.speaks;
    int code = parse(&runner, argc, argv, &first);
    if (code != 0 && runner.speaks)
        fprintf(stderr, "usage: conformance [--data D] [--pipeline P] [--context C] [--tensor Q] [--virtual-stages V]\n"
                        "                   [--recursions ring|stage] [--tolerance X] FILE...\n");
    if (code == 0 && status == STATUS_OK)
        status = mesh_resolve(&runner.context, &runner.wanted, team_size(team), &resolved);
    if (code == 0 && status == STATUS_OK)
        status = mesh_create(&runner.context, team, &resolved, &runner.mesh);
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
    team_destroy(&team);
    return code;
}
