#include "src/evolve/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "src/train/run_folder.h"

bool store_part(const char *parameter, enum part *part, int *layer)
{
    static const struct {
        const char *prefix;
        enum part part;
    } prefixes[] = {{"model.embed_patches.", PART_PATCHES},
                    {"model.class_token.", PART_PATCHES},
                    {"model.embed_tokens.", PART_PATCHES},
                    {"model.embed_positions.", PART_POSITIONS},
                    {"model.norm.", PART_NORM},
                    {"lm_head.", PART_HEAD},
                    {"classifier.", PART_HEAD}};
    static const struct {
        const char *prefix;
        enum part part;
    } layers[] = {{"model.layers.", PART_LAYER}, {"model.adapters.", PART_ADAPTER}};
    *layer = 0;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(parameter, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0) {
            *part = prefixes[i].part;
            return true;
        }
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (strncmp(parameter, layers[i].prefix, strlen(layers[i].prefix)) == 0) {
            *part = layers[i].part;
            *layer = atoi(parameter + strlen(layers[i].prefix));
            return true;
        }
    return false;
}

/* A visit that passes on what belongs to a component. */
struct filter {
    const struct component *component;
    struct context *context;
    struct state_visitor list;
};

static enum status pass_on(void *self, const struct state_array *array)
{
    struct filter *filter = self;
    enum part part;
    int layer;
    if (!store_part(strrchr(array->name, '/') + 1, &part, &layer))
        return context_fail(filter->context, STATUS_INTERNAL, "%s belongs to no component", array->name);
    if (part != filter->component->part || layer != filter->component->layer)
        return STATUS_OK;
    return filter->list.array(filter->list.self, array);
}

enum status store_list(const struct session *session, const struct optimizer *momentum,
                       const struct component *component, bool writes, struct state_list *list)
{
    struct filter filter = {component, session->context, state_list_visitor(list, writes)};
    const struct state_visitor visitor = {.self = &filter, .writes = writes, .array = pass_on};
    CHECK(replica_visit(session->replica, &session->parameters, &visitor));
    return momentum ? optimizer_visit(momentum, &session->parameters, &visitor) : STATUS_OK;
}

void store_path(const char *folder, int64_t id, char path[CHECKPOINT_PATH])
{
    snprintf(path, CHECKPOINT_PATH, "%s/components/%lld.h5", folder, (long long)id);
}

enum status store_read(struct session *session, const struct optimizer *momentum, const char *folder, int64_t id,
                       const struct component *component)
{
    char path[CHECKPOINT_PATH];
    struct state_list list = {.context = session->context};
    enum status status = store_list(session, momentum, component, false, &list);
    state_list_settle(&list);
    store_path(folder, id, path);
    TRY(mesh_agree(session->mesh, session->context, status));
    status = checkpoint_read(session->context, session->mesh, path, list.arrays, list.count);
done:
    state_list_destroy(&list);
    return status;
}

static enum status move(struct context *context, const char *staging, const char *folder, int64_t id)
{
    char from[CHECKPOINT_PATH];
    char to[CHECKPOINT_PATH];
    snprintf(from, sizeof from, "%.700s/step-%08lld.h5", staging, (long long)id);
    store_path(folder, id, to);
    if (rename(from, to) != 0)
        return context_fail(context, STATUS_FILE, "%s: %s", to, strerror(errno));
    return STATUS_OK;
}

/* Nothing in the header depends on time or mesh, so that the same values are the same bytes. */
enum status store_write(const struct session *session, const struct optimizer *momentum, const char *folder, int group,
                        const struct component *component)
{
    struct context *context = session->context;
    bool first = mesh_rank(session->mesh, MESH_TEAM) == 0;
    char staging[CHECKPOINT_PATH];
    struct state_list list = {.context = context};
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    enum status status = header ? store_list(session, momentum, component, true, &list) : STATUS_MEMORY;
    state_list_settle(&list);
    snprintf(staging, sizeof staging, "%.700s/children/group-%d", folder, group);
    if (status == STATUS_OK && first)
        status = run_folder_make(context, staging);
    TRY(mesh_agree(session->mesh, context, status));
    header->step = component->id;
    header->loss_limit = 1.0;
    strcpy(header->created, "1970-01-01T00:00:00Z");
    TRY(checkpoint_write(context, session->mesh, staging, header, list.arrays, list.count));
    status = mesh_agree(session->mesh, context, first ? move(context, staging, folder, component->id) : STATUS_OK);
done:
    state_list_destroy(&list);
    memory_free(context, header);
    return status;
}
