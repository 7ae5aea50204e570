#include "src/evolve/trial.h"

#include <math.h>
#include <string.h>

#include "src/evolve/store.h"
#include "src/evolve/trial_settings.h"
#include "src/session/load.h"
#include "src/session/save.h"
#include "src/train/source.h"
#include "src/train/trainer.h"

/* -- Sizes -- */

static enum status sum_part(const struct trial *trial, enum part part, int64_t classes, int64_t *sum)
{
    struct model_config model = trial->config->model;
    struct parameter_list list;
    enum part of;
    int layer;
    *sum = 0;
    model.image.classes = model.vocabulary = integer_max(1, classes);
    parameter_list_create(trial->context, &list);
    enum status status = model_find(&model)->describe(trial->context, &model, &list);
    for (int i = 0; status == STATUS_OK && i < list.count; i++)
        if (parameter_counts(list.item[i]) && store_part(list.item[i]->spec.name, &of, &layer) && of == part &&
            layer == 0)
            *sum += parameter_elements(&list.item[i]->spec);
    parameter_list_destroy(&list);
    return status;
}

int64_t trial_elements(void *self, enum part part, int64_t classes)
{
    const struct trial *trial = self;
    int64_t sum;
    context_keep(trial->context, sum_part(trial, part, classes, &sum));
    return sum;
}

double trial_flops(void *self, int64_t layers, int64_t classes)
{
    const struct trial *trial = self;
    struct model_config model = trial->config->model;
    int64_t length = trial->config->training.sequence_length;
    model.layers = layers;
    model.image.classes = model.vocabulary = classes;
    /* Of a step: forward, and backward with two products for each of it. */
    return model_find(&model)->flops(&model, length, 0.0, NULL) * (double)length / 3.0;
}

/* -- Models -- */

struct opened {
    const struct trial *trial;
    const struct path *path;
    struct config *config;
    bool has_source;
    struct source source;
    struct session *session; /* `own`, or of the trainer if it trains */
    struct session own;
    struct evaluator evaluator; /* of `own` */
    struct trainer trainer;
};

static struct optimizer *momentum_of(struct opened *opened)
{
    return opened->session == &opened->own ? NULL : &opened->trainer.optimizer;
}

static void close_model(struct opened *opened)
{
    trainer_destroy(&opened->trainer);
    evaluator_destroy(&opened->evaluator);
    session_destroy(&opened->own);
    if (opened->has_source)
        source_close(&opened->source);
    memory_free(opened->trial->context, opened->config);
}

/* A new head begins with random numbers, where a classifier's would be zeros. */
static void initialize(struct opened *opened)
{
    struct parameter *head = parameter_find(&opened->session->parameters, "classifier.weight");
    if (head) {
        head->spec.initial = INITIAL_NORMAL;
        head->spec.deviation = 0.02;
    }
    replica_initialize(opened->session->replica, opened->config->training.seed);
}

/* Each component from its file: its own if it is kept, its origin's if it is to be trained. */
static enum status load(struct opened *opened, bool trains)
{
    const struct system *system = opened->trial->system;
    for (int i = 0; i < opened->path->count; i++) {
        const struct component *component = system_component(system, opened->path->component[i]);
        bool own = !trains || component_locked(system, component->id, opened->path->task);
        int64_t id = own ? component->id : component->origin;
        /* The root has none. */
        bool momentum = id >= 0 && system_component(system, id)->task >= 0;
        if (id >= 0)
            CHECK(store_read(opened->session, momentum ? momentum_of(opened) : NULL, opened->trial->config->run.folder,
                             id, component));
    }
    replica_gather_all(opened->session->replica);
    return STATUS_OK;
}

static enum status open_trainer(struct opened *opened)
{
    const struct trial *trial = opened->trial;
    opened->session = &opened->trainer.session;
    return trainer_create(trial->context, trial->mesh, trial->engine, opened->config, &opened->trainer);
}

static enum status open_session(struct opened *opened)
{
    const struct trial *trial = opened->trial;
    opened->session = &opened->own;
    return session_create(trial->context, trial->mesh, trial->engine, opened->config, NULL, NULL, false, &opened->own);
}

static enum status open_model(const struct trial *trial, const struct path *path, const struct trial_wishes *wishes,
                              struct opened *opened)
{
    struct context *context = trial->context;
    *opened = (struct opened){.trial = trial, .path = path};
    struct config *config = opened->config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    CHECK(mesh_agree(trial->mesh, context, config ? trial_settings(trial, path, wishes, config) : STATUS_MEMORY));
    opened->has_source = true;
    CHECK(source_open(context, trial->mesh, config, trial->engine->threads, &opened->source));
    CHECK(wishes->trains ? open_trainer(opened) : open_session(opened));
    initialize(opened);
    return load(opened, wishes->trains);
}

static enum status evaluate_model(struct opened *opened, struct evaluator *evaluator, int64_t most, double *accuracy)
{
    struct evaluation evaluation;
    struct evaluation_plan plan = {.batches = most ? integer_divide_up(most, opened->config->training.batch) : 0};
    CHECK(opened->source.ops->evaluate(&opened->source, evaluator, &plan, &evaluation));
    *accuracy = evaluation.accuracy;
    return STATUS_OK;
}

/* -- Training -- */

/* The best values so far of what is trained. */
struct copy {
    struct state_list list;
    float *values;
};

static int64_t copy_elements(const struct copy *copy)
{
    int64_t count = 0;
    for (int a = 0; a < copy->list.count; a++)
        for (int p = 0; p < copy->list.arrays[a].piece_count; p++)
            count += box_count(&copy->list.arrays[a].pieces[p].box, copy->list.arrays[a].rank);
    return count;
}

static enum status copy_create(struct opened *opened, struct copy *copy)
{
    const struct system *system = opened->trial->system;
    *copy = (struct copy){.list.context = opened->trial->context};
    for (int i = 0; i < opened->path->count; i++) {
        const struct component *component = system_component(system, opened->path->component[i]);
        if (!component_locked(system, component->id, opened->path->task))
            CHECK(store_list(opened->session, momentum_of(opened), component, true, &copy->list));
    }
    state_list_settle(&copy->list);
    copy->values = memory_allocate(copy->list.context, (size_t)copy_elements(copy) * sizeof(float), MEMORY_OTHER);
    return copy->values ? STATUS_OK : STATUS_MEMORY;
}

static void copy_move(struct copy *copy, bool back)
{
    float *values = copy->values;
    for (int a = 0; a < copy->list.count; a++)
        for (int p = 0; p < copy->list.arrays[a].piece_count; p++) {
            const struct state_piece *piece = &copy->list.arrays[a].pieces[p];
            int64_t count = box_count(&piece->box, copy->list.arrays[a].rank);
            memcpy(back ? piece->data : values, back ? values : piece->data, (size_t)count * sizeof(float));
            values += count;
        }
}

static void copy_destroy(struct copy *copy)
{
    if (!copy->list.context)
        return;
    memory_free(copy->list.context, copy->values);
    state_list_destroy(&copy->list);
}

static enum status train_interval(struct opened *opened, struct trial_result *result)
{
    int64_t steps = trial_interval(opened->trial, opened->path);
    for (int64_t i = 0; i < steps && result->finite; i++) {
        struct step_result step;
        CHECK(opened->source.ops->fill(&opened->source, &opened->trainer.batch, opened->trainer.sequences, NULL));
        CHECK(trainer_step(&opened->trainer, &step));
        result->finite = !step.skipped;
        result->steps++;
    }
    return STATUS_OK;
}

/* Keeps values whenever the score is at least the best before it. */
static enum status train(struct opened *opened, const struct child *child, struct copy *copy,
                         struct trial_result *result)
{
    const struct evolve_config *evolve = &opened->trial->config->evolve;
    double factor = path_factor(opened->trial->system, &child->path);
    double best = child->bar;
    result->finite = true;
    for (int64_t i = 0; i < evolve->intervals; i++) {
        double quality;
        CHECK(train_interval(opened, result));
        if (!result->finite)
            break;
        CHECK(evaluate_model(opened, &opened->trainer.evaluator, evolve->validation_samples, &quality));
        if (quality * factor >= best) {
            best = quality * factor;
            copy_move(copy, false);
            result->kept = true;
            result->quality = quality;
        } else if (!result->kept) {
            result->quality = fmax(result->quality, quality);
        }
    }
    result->kept = result->kept && result->finite;
    return STATUS_OK;
}

static enum status write_components(struct opened *opened, struct copy *copy)
{
    const struct trial *trial = opened->trial;
    copy_move(copy, true);
    for (int i = 0; i < opened->path->count; i++) {
        const struct component *component = system_component(trial->system, opened->path->component[i]);
        if (!component_locked(trial->system, component->id, opened->path->task))
            CHECK(
                store_write(opened->session, momentum_of(opened), trial->config->run.folder, trial->group, component));
    }
    return STATUS_OK;
}

enum status trial_run(const struct trial *trial, const struct visit *visit, int index, const struct child *child,
                      struct trial_result *result)
{
    const struct trial_wishes wishes = {.validation = trial->system->tasks[child->path.task].validation,
                                        .trains = true,
                                        .seed = visit_key(visit, index, "new components"),
                                        .data_seed = visit_key(visit, 0, "samples")};
    struct opened opened;
    struct copy copy = {0};
    double begin = clock_seconds();
    enum status status;
    *result = (struct trial_result){0};
    TRY(open_model(trial, &child->path, &wishes, &opened));
    TRY(mesh_agree(trial->mesh, trial->context, copy_create(&opened, &copy)));
    TRY(train(&opened, child, &copy, result));
    if (result->kept)
        TRY(write_components(&opened, &copy));
    result->seconds = clock_seconds() - begin;
done:
    copy_destroy(&copy);
    close_model(&opened);
    return status;
}

/* -- What is done with paths beside -- */

enum status trial_measure(const struct trial *trial, const struct path *path, const char *images, double *accuracy)
{
    const struct trial_wishes wishes = {.validation = images};
    struct opened opened;
    enum status status;
    TRY(open_model(trial, path, &wishes, &opened));
    TRY(evaluator_create(&opened.own, NULL, &opened.evaluator));
    status = evaluate_model(&opened, &opened.evaluator, 0, accuracy);
done:
    close_model(&opened);
    return status;
}

enum status trial_export(const struct trial *trial, const struct path *path, const char *folder)
{
    const struct trial_wishes wishes = {.seed = 2 * trial->config->training.seed};
    struct opened opened;
    enum status status;
    TRY(open_model(trial, path, &wishes, &opened));
    status = session_save(&opened.own, opened.source.data_facts, folder);
done:
    close_model(&opened);
    return status;
}

static enum status write_root(const struct trial *trial, struct session *session)
{
    const struct path *root = &trial->system->paths[0];
    if (trial->config->evolve.root[0])
        CHECK(session_load(session, trial->config->evolve.root));
    for (int i = 0; i < root->count; i++)
        CHECK(store_write(session, NULL, trial->config->run.folder, trial->group,
                          system_component(trial->system, root->component[i])));
    return STATUS_OK;
}

enum status trial_root(const struct trial *trial)
{
    struct session session;
    enum status status;
    TRY(session_create(trial->context, trial->mesh, trial->engine, trial->config, NULL, NULL, false, &session));
    status = write_root(trial, &session);
done:
    session_destroy(&session);
    return status;
}
