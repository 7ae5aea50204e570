/* The root: a path of random values, or of a checkpoint of any run, whose lowest layers it takes. */
#include <string.h>

#include "io/config/config.h"
#include "src/evolve/store.h"
#include "src/evolve/trial.h"

/* Whether the stored model is like the run's, but for its head and the layers above. */
static enum status compare(const struct trial *trial, const char *path, const struct config *stored)
{
    struct context *context = trial->context;
    struct model_config model = stored->model;
    const struct model_config *wanted = &trial->config->model;
    if (model.family != wanted->family)
        return context_fail(context, STATUS_USAGE, "evolve.root: %s holds a model of family %s, but model.family is %s",
                            path, model_find(&model)->name, model_find(wanted)->name);
    if (model.layers < wanted->layers)
        return context_fail(context, STATUS_USAGE,
                            "evolve.root: %s has %lld layers, but model.layers is %lld; a root takes its lowest layers",
                            path, (long long)model.layers, (long long)wanted->layers);
    model.layers = wanted->layers;
    model.image.classes = wanted->image.classes;
    model.classes = wanted->classes;
    if (model.family != FAMILY_DECODER)
        model.vocabulary = wanted->vocabulary;
    return config_same_model(context, &model, wanted, path, "the configuration, which evolve.root has to fit");
}

static enum status check_stored(const struct trial *trial, const char *path, const struct checkpoint_header *header)
{
    struct context *context = trial->context;
    struct config *stored = memory_allocate(context, sizeof *stored, MEMORY_OTHER);
    enum status status = stored ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK)
        status = config_parse(context, path, header->config, strlen(header->config), NULL, 0, stored);
    if (status == STATUS_OK)
        status = compare(trial, path, stored);
    memory_free(context, stored);
    return status;
}

/* All but the head, which tasks have of their own. */
static enum status list_components(const struct trial *trial, struct session *session, struct state_list *list)
{
    const struct path *root = &trial->system->paths[0];
    for (int i = 0; i < root->count; i++)
        CHECK(store_list(session, NULL, system_component(trial->system, root->component[i]), false, list));
    state_list_settle(list);
    return STATUS_OK;
}

static enum status load(const struct trial *trial, struct session *session)
{
    struct context *context = trial->context;
    struct state_list list = {.context = context};
    char path[CHECKPOINT_PATH];
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    enum status status = header ? checkpoint_newest(context, trial->config->evolve.root, path) : STATUS_MEMORY;
    TRY(mesh_agree(trial->mesh, context, status));
    TRY(checkpoint_verify(context, trial->mesh, path));
    TRY(checkpoint_read_header(context, trial->mesh, path, header));
    status = check_stored(trial, path, header);
    if (status == STATUS_OK)
        status = list_components(trial, session, &list);
    TRY(mesh_agree(trial->mesh, context, status));
    TRY(checkpoint_read(context, trial->mesh, path, list.arrays, list.count));
    replica_gather_all(session->replica);
done:
    state_list_destroy(&list);
    memory_free(context, header);
    return status;
}

static enum status write(const struct trial *trial, struct session *session)
{
    const struct path *root = &trial->system->paths[0];
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
    if (trial->config->evolve.root[0])
        TRY(load(trial, &session));
    status = write(trial, &session);
done:
    session_destroy(&session);
    return status;
}
