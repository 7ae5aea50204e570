#include "src/evolve/trial_model.h"

#include "src/evolve/store.h"

struct optimizer *trial_model_momentum(struct trial_model *model)
{
    return model->session == &model->own ? NULL : &model->trainer.optimizer;
}

void trial_model_close(struct trial_model *model)
{
    trainer_destroy(&model->trainer);
    evaluator_destroy(&model->evaluator);
    session_destroy(&model->own);
    if (model->has_source)
        source_close(&model->source);
    if (model->trial)
        memory_free(model->trial->context, model->config);
}

/* A new head begins with random numbers, where a classifier's would be zeros. */
static void initialize(struct trial_model *model)
{
    struct parameter *head = parameter_find(&model->session->parameters, "classifier.weight");
    if (head) {
        head->spec.initial = INITIAL_NORMAL;
        head->spec.deviation = 0.02;
    }
    replica_initialize(model->session->replica, model->config->training.seed);
}

/* Each component from its file: its own if it is kept, its origin's if it is to be trained. */
static enum status load(struct trial_model *model, bool trains)
{
    const struct system *system = model->trial->system;
    for (int i = 0; i < model->path->count; i++) {
        const struct component *component = system_component(system, model->path->component[i]);
        bool own = !trains || component_locked(system, component->id, model->path->task);
        int64_t id = own ? component->id : component->origin;
        /* The root has none. */
        bool momentum = id >= 0 && system_component(system, id)->task >= 0;
        if (id >= 0)
            CHECK(store_read(model->session, momentum ? trial_model_momentum(model) : NULL,
                             model->trial->config->run.folder, id, component));
    }
    replica_gather_all(model->session->replica);
    return STATUS_OK;
}

/* What is trained is what nobody else holds, to the last parameter. */
static enum status check_frozen(const struct trial_model *model)
{
    const struct system *system = model->trial->system;
    const struct parameter_list *list = &model->session->parameters;
    for (int i = 0; i < list->count; i++) {
        enum part part;
        int layer;
        const char *name = list->item[i]->spec.name;
        const struct component *component =
            store_part(name, &part, &layer) ? path_component(system, model->path, part, layer) : NULL;
        if (!component || component_locked(system, component->id, model->path->task) != list->item[i]->frozen)
            return context_fail(system->context, STATUS_INTERNAL, "%s: %s, unlike its component", name,
                                list->item[i]->frozen ? "frozen" : "trained");
    }
    return STATUS_OK;
}

static enum status open_trainer(struct trial_model *model)
{
    const struct trial *trial = model->trial;
    model->session = &model->trainer.session;
    return trainer_create(trial->context, trial->mesh, trial->engine, model->config, &model->trainer);
}

static enum status open_session(struct trial_model *model)
{
    const struct trial *trial = model->trial;
    model->session = &model->own;
    return session_create(trial->context, trial->mesh, trial->engine, model->config, NULL, NULL, false, &model->own);
}

enum status trial_model_open(const struct trial *trial, const struct path *path, const struct trial_wishes *wishes,
                             struct trial_model *model)
{
    struct context *context = trial->context;
    *model = (struct trial_model){.trial = trial, .path = path};
    struct config *config = model->config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    CHECK(mesh_agree(trial->mesh, context, config ? trial_settings(trial, path, wishes, config) : STATUS_MEMORY));
    model->has_source = true;
    CHECK(source_open(context, trial->mesh, config, trial->engine->threads, &model->source));
    CHECK(wishes->trains ? open_trainer(model) : open_session(model));
    CHECK(mesh_agree(trial->mesh, context, wishes->trains ? check_frozen(model) : STATUS_OK));
    initialize(model);
    return load(model, wishes->trains);
}
