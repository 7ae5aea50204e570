#include "src/train/train_private.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "io/config/config.h"
#include "io/events/events.h"
#include "src/core/sample.h"
#include "src/core/text.h"
#include "src/prepare/run_tokenizer.h"
#include "src/train/run_folder.h"
#include "src/train/state.h"

static enum status open_data(struct train *train)
{
    struct context *context = train->context;
    enum status status = STATUS_OK;
    if (train->config->data.train.count == 0)
        status = context_fail(context, STATUS_USAGE, "data.train: name at least one file to train on");
    CHECK(mesh_agree(train->mesh, context, status));
    CHECK(source_open(context, train->mesh, train->config, train->trainer.engine->threads, &train->source));
    int64_t confusion = evaluation_confusion(train->config);
    if (confusion > 0 && train->source.validates)
        train->confusion = memory_allocate(context, (size_t)confusion * sizeof *train->confusion, MEMORY_OTHER);
    CHECK(mesh_agree(train->mesh, context, context->status));
    if (train->root)
        changes_describe_data((const char(*)[CHANGES_CONTENT])train->source.contents, train->data_lines);
    mesh_broadcast(train->mesh, MESH_TEAM, 0, train->data_lines, sizeof train->data_lines, DTYPE_BYTE);
    return STATUS_OK;
}

static enum status create_state(struct train *train)
{
    const struct model_ops *model = train->trainer.model->ops;
    struct batch *batch = &train->trainer.batch;
    if (model_carries(model, train->config))
        CHECK(model->state->create(batch, &train->carried));
    return model->scalars ? model->scalars->create(batch, train->carried, &train->scalars) : STATUS_OK;
}

/* What is known of the tokens stays known. */
static enum status review_tokenizer(struct train *train, const struct checkpoint_header *header)
{
    char hash[TOKENIZER_HASH];
    if (family_of_images(train->config->model.family))
        return STATUS_OK;
    CHECK(run_tokenizer_same(train->context, train->line.path, header->data, train->source.data_facts));
    run_tokenizer_hash(header->data, hash);
    if (hash[0] && !train->source.data_facts) {
        run_tokenizer_facts(hash, train->token_facts);
        train->trainer.data_facts = train->token_facts;
    }
    return STATUS_OK;
}

static enum status review_changes(struct train *train, const struct resume *resume)
{
    struct checkpoint_header *header = memory_allocate(train->context, sizeof *header, MEMORY_OTHER);
    CHECK(mesh_agree(train->mesh, train->context, header ? STATUS_OK : STATUS_MEMORY));
    enum status status = checkpoint_read_header(train->context, train->mesh, train->line.path, header);
    if (status == STATUS_OK)
        status = mesh_agree(train->mesh, train->context, review_tokenizer(train, header));
    if (status == STATUS_OK)
        status = mesh_agree(train->mesh, train->context,
                            changes_review(train->context, train->line.path, header->config, header->step,
                                           train->config, train->data_lines, resume->accept_changes, train->changes));
    memory_free(train->context, header);
    return status;
}

static enum status restore(struct train *train, const struct resume *resume)
{
    struct line *line = &train->line;
    CHECK(line_choose(train->context, train->mesh, train->config, resume, line));
    if (!line->found)
        return STATUS_OK;
    CHECK(review_changes(train, resume));
    CHECK(state_load(&train->trainer, train->carried, line->path));
    if (line->brought)
        train->trainer.loss_limit = 0.0; /* perhaps other data: its first loss says what is much */
    train->checkpointer.saved_step = line->own ? train->trainer.step : -1;
    context_log(train->context, "resuming after step %lld from %s", (long long)train->trainer.step, line->path);
    return STATUS_OK;
}

int64_t train_end(const struct train *train)
{
    const struct training_config *training = &train->config->training;
    return training->stop_at ? integer_min(training->stop_at, training->steps) : training->steps;
}

/* A record that the disk does not take does not end the run. */
static enum status put_off(struct train *train, enum status status, bool *waits, const char *name)
{
    struct context *context = train->context;
    bool waited = *waits;
    train->records_tried = clock_seconds();
    *waits = status == STATUS_FILE;
    if (status == STATUS_OK && waited)
        context_log(context, "%s/%s: written", train->config->run.folder, name);
    if (status != STATUS_FILE)
        return status;
    if (!waited)
        context_log(context, "%s; it is tried again, and training goes on", context->text);
    context_clear(context);
    return STATUS_OK;
}

enum status train_write_config(struct train *train)
{
    enum status status = changes_write_config(train->context, train->config, train->first_step, train->changes);
    return put_off(train, status, &train->config_waits, "config.yaml");
}

enum status train_write_note(struct train *train)
{
    enum status status = line_note(train->context, train->config, &train->line, train->first_step);
    return put_off(train, status, &train->note_waits, "resumed");
}

static void write_setting(void *self, const char *key, const char *value)
{
    events_setting(self, key, value);
}

/* What only shows the run does not end it. */
static void open_events(struct train *train, int64_t step)
{
    struct context *context = train->context;
    if (events_create(context, train->config->run.folder, step + 1, &train->events) != STATUS_OK) {
        context_log(context, "no events for TensorBoard: %s", context->text);
        context_clear(context);
        return;
    }
    config_visit(train->config, write_setting, train->events);
    events_settings_end(train->events);
    metrics_mirror(train->metrics, train->events);
}

static enum status open_outputs(struct train *train)
{
    struct context *context = train->context;
    int64_t step = train->first_step = train->trainer.step;
    char path[RUN_PATH];
    char aside[RUN_PATH + 16];
    CHECK(line_begin(context, train->config, &train->line, step));
    CHECK(train_write_note(train));
    snprintf(path, sizeof path, "%s/metrics.jsonl", train->config->run.folder);
    /* It says what the steps had: a start without any changes nothing. */
    if (step < train_end(train) || !train->line.found)
        CHECK(train_write_config(train));
    CHECK(lifecycle_begin(&train->lifecycle, train_end(train), train->source.validates));
    /* An instruction to go back leaves a line of history, which is set aside with its checkpoints. */
    run_folder_free_name(path, aside, sizeof aside);
    CHECK(metrics_open(context, path, step, train->line.instruction[0] ? aside : NULL, &train->metrics));
    if (train->config->run.tensorboard && step < train_end(train))
        open_events(train, step);
    return STATUS_OK;
}

static void describe_run(const struct train *train)
{
    const struct mesh_config *mesh = mesh_config(train->mesh);
    const struct parameter_list *list = &train->trainer.session.parameters;
    double learned = 0.0;
    char frozen[64] = "";
    for (int i = 0; i < list->count; i++)
        if (parameter_counts(list->item[i]) && parameter_learns(list->item[i]))
            learned += (double)parameter_elements(&list->item[i]->spec);
    if (learned < (double)parameter_list_elements(list))
        snprintf(frozen, sizeof frozen, ", of which %.2f million are trained,", 1e-6 * learned);
    context_log(train->context, "model: %.2f million parameters%s in %s; %s to train on; batch %lld x %lld token%s",
                1e-6 * (double)parameter_list_elements(list), frozen,
                train->trainer.model->dtype == DTYPE_BF16 ? "bf16" : "fp32", train->source.description,
                (long long)train->config->training.batch, (long long)train->config->training.sequence_length,
                train->config->training.sequence_length == 1 ? "" : "s");
    context_log(train->context,
                "mesh: data %lld x pipeline %lld x context %lld x tensor %lld, %d thread%s a rank, %s kernels, "
                "%.0f GFLOP/s of matrix products measured on all ranks",
                (long long)mesh->data, (long long)mesh->pipeline, (long long)mesh->context, (long long)mesh->tensor,
                train->trainer.engine->threads, train->trainer.engine->threads == 1 ? "" : "s",
                train->trainer.engine->isa, 1e-9 * train->peak);
}

void train_measure_peak(struct train *train)
{
    struct trainer *trainer = &train->trainer;
    train->peak = fmax(train->peak, progress_peak(train->context, train->mesh, trainer->engine, trainer->model->dtype));
}

static void cast_votes(void *self, double votes[VOTES])
{
    struct train *train = self;
    checkpointer_cast(&train->checkpointer, votes);
    lifecycle_cast(&train->lifecycle, checkpointer_active(&train->checkpointer), votes);
    if (lock_lost(train->lock))
        votes[VOTE_LOST] += 1.0;
}

static enum status take_folder(struct train *train)
{
    CHECK(run_folder_make(train->context, train->config->run.folder));
    CHECK(lock_take(train->context, train->config->run.folder, &train->lock));
    requests_drop_old(train->lifecycle.requests);
    if (train->config->data.tokenizer[0])
        return run_tokenizer_keep(train->context, train->config->data.tokenizer, train->config->run.folder);
    return STATUS_OK;
}

/* In a folder that is another on each host a checkpoint would be torn into pieces. Its lock tells: a network file
 * system may show it late, and looks for what is new when the folder is opened. */
static enum status share_folder(struct train *train)
{
    const double patience = 5.0;
    const struct timespec pause = {.tv_nsec = 100000000};
    char path[RUN_PATH];
    char first[96];
    char words[96];
    snprintf(path, sizeof path, "%s/lock", train->config->run.folder);
    memset(words, 0, sizeof words);
    sample_describe(path, words, sizeof words);
    memcpy(first, words, sizeof first);
    mesh_broadcast(train->mesh, MESH_TEAM, 0, first, sizeof first, DTYPE_BYTE);
    double begin = clock_seconds();
    while (strcmp(words, first) != 0 && clock_seconds() - begin < patience) {
        DIR *folder = opendir(train->config->run.folder);
        if (folder)
            closedir(folder);
        nanosleep(&pause, NULL);
        sample_describe(path, words, sizeof words);
    }
    return team_same_file(mesh_team(train->mesh), train->context, "run.folder, by its file", path);
}

/* So that whatever comes next finds this line, and no other. Where the disk is full a later save does it. */
static enum status save_brought(struct train *train)
{
    struct context *context = train->context;
    enum status status = state_save(&train->trainer, train->carried, train->checkpoints);
    if (status == STATUS_OK)
        train->checkpointer.saved_step = train->trainer.step;
    if (status != STATUS_FILE)
        return status;
    context_log(context, "checkpoint of step %lld failed: %s; training goes on", (long long)train->trainer.step,
                context->text);
    context_clear(context);
    return STATUS_OK;
}

enum status train_start(struct train *train, const struct resume *resume)
{
    struct context *context = train->context;
    CHECK(open_data(train));
    CHECK(mesh_agree(train->mesh, context, train->root ? take_folder(train) : STATUS_OK));
    CHECK(share_folder(train));
    CHECK(trainer_create(context, train->mesh, train->trainer.engine, train->config, &train->trainer));
    CHECK(mesh_agree(train->mesh, context, create_state(train)));
    CHECK(checkpointer_create(&train->trainer, train->carried, train->checkpoints, &train->checkpointer));
    train->trainer.data_lines = train->data_lines;
    train->trainer.data_facts = train->source.data_facts;
    train->trainer.evaluator.voter = (struct voter){.self = train, .cast = cast_votes};
    CHECK(restore(train, resume));
    train->size_limit = 10.0 * fmax(1.0, trainer_parameter_size(&train->trainer));
    CHECK(mesh_agree(train->mesh, context, train->root ? open_outputs(train) : STATUS_OK));
    if (train->line.brought && train->trainer.step < train_end(train))
        CHECK(save_brought(train));
    train_measure_peak(train);
    describe_run(train);
    return watches_create(&train->trainer, train->config->run.folder, &train->watches);
}
