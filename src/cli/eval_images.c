#include "src/cli/eval_images.h"

#include <stdio.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/core/text.h"
#include "src/evaluate/evaluate_images.h"
#include "src/session/load.h"
#include "src/train/image_facts.h"
#include "src/train/image_source.h"

struct eval {
    struct command *command;
    struct config *config;
    struct image_facts facts;
    struct image_set *set;
    struct session session;
    struct evaluator evaluator;
};

static enum status read_facts(struct eval *eval, const char *path)
{
    struct command *command = eval->command;
    struct context *context = &command->context;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    CHECK(mesh_agree(command->mesh, context, header ? STATUS_OK : STATUS_MEMORY));
    enum status status = checkpoint_read_header(context, command->mesh, path, header);
    if (status == STATUS_OK)
        status = mesh_agree(command->mesh, context, image_facts_read(context, path, header->data, &eval->facts));
    memory_free(context, header);
    return status;
}

static enum status choose_names(struct eval *eval, const char *data, struct text_list *names)
{
    struct context *context = &eval->command->context;
    if (!names)
        return STATUS_MEMORY;
    *names = eval->config->data.validation;
    if (data) {
        names->count = 1;
        if (!text_copy(names->item[0], TEXT_LENGTH, data))
            return context_fail(context, STATUS_USAGE, "--data: the name is too long");
    }
    if (names->count == 0)
        return context_fail(context, STATUS_USAGE,
                            "eval: the configuration has no validation data; name some with --data");
    return STATUS_OK;
}

static enum status open_set(struct eval *eval, const char *data)
{
    struct context *context = &eval->command->context;
    struct mesh *mesh = eval->command->mesh;
    struct config *config = eval->config;
    struct text_list *names = memory_allocate(context, sizeof *names, MEMORY_OTHER);
    enum status status = mesh_agree(mesh, context, choose_names(eval, data, names));
    if (status == STATUS_OK)
        status = images_open_shared(mesh, context, config, names, &eval->set);
    memory_free(context, names);
    CHECK(status);
    if (eval->facts.name)
        status = image_set_match_names(eval->set, (const char *const *)eval->facts.name, eval->facts.classes);
    CHECK(mesh_agree(mesh, context, status));
    config->training.batch = integer_min(config->training.batch, image_set_facts(eval->set)->count);
    config->training.micro_batch = integer_min(config->training.micro_batch, config->training.batch);
    return STATUS_OK;
}

static enum status print(const struct eval *eval, const struct evaluation *evaluation, bool json)
{
    double rate = (double)evaluation->targets / evaluation->seconds;
    if (json)
        return print_json(&eval->command->context,
                          json_form("{s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:I}", "loss", evaluation->loss, "accuracy",
                                    evaluation->accuracy, "accuracy5", evaluation->accuracy5, "images",
                                    (json_int_t)evaluation->targets, "bad", (json_int_t)evaluation->bad, "seconds",
                                    evaluation->seconds, "images_per_second", rate, "memory_resident_bytes",
                                    (json_int_t)memory_resident_peak()));
    printf("loss %.6f nats an image, %.3f %% right, %.3f %% among the first five, over %lld images; %.1f images/s, "
           "%.1f MB resident\n",
           evaluation->loss, 100.0 * evaluation->accuracy, 100.0 * evaluation->accuracy5,
           (long long)evaluation->targets, rate, 1e-6 * (double)memory_resident_peak());
    return STATUS_OK;
}

static enum status run(struct eval *eval, const char *path, const char *data, bool json)
{
    struct command *command = eval->command;
    struct context *context = &command->context;
    struct evaluation_plan plan = {0};
    struct evaluation evaluation;
    CHECK(read_facts(eval, path));
    CHECK(open_set(eval, data));
    CHECK(session_create(context, command->mesh, &command->engine, eval->config, NULL, NULL, false, &eval->session));
    CHECK(session_load(&eval->session, path));
    CHECK(evaluator_create(&eval->session, NULL, &eval->evaluator));
    struct image_augmentation augmentation = image_augmentation_of(eval->config, &eval->facts.moments);
    struct image_evaluation images = {.set = eval->set,
                                      .augmentation = &augmentation,
                                      .skip_bad = eval->config->data.skip_bad,
                                      .labels_only = images_labels_only(eval->config, command->mesh),
                                      .threads = images_threads(eval->config, eval->set, command->engine.threads)};
    CHECK(evaluate_images(&eval->evaluator, &images, &plan, &evaluation));
    return command->rank == 0 ? print(eval, &evaluation, json) : STATUS_OK;
}

enum status eval_images(struct command *command, struct config *config, const char *path, const char *data, bool json)
{
    struct eval eval = {.command = command, .config = config};
    enum status status = run(&eval, path, data, json);
    evaluator_destroy(&eval.evaluator);
    session_destroy(&eval.session);
    image_set_close(&eval.set);
    image_facts_destroy(&command->context, &eval.facts);
    return status;
}
