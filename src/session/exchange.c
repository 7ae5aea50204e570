#include "src/session/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "io/config/config.h"
#include "src/core/text.h"
#include "src/session/state_list.h"

/* The arrays that stand somewhere in the folder, and where. */
struct exchanged {
    struct state_list list;
    struct exchange_place *places; /* [list.count] */
    int count;
};

/* LoRA maps, which a model of another program is given here; those of recursions are its own. */
static bool is_added(const struct session *session, const char *name)
{
    return session->config->model.lora.rank > 0 && strstr(name, ".lora_") != NULL;
}

/* Arrays are named by group and name: /parameters/NAME, /buffers/NAME. */
static const char *name_of(const struct state_array *array)
{
    return strchr(array->name + 1, '/') + 1;
}

static enum status list_places(struct session *session, enum exchange_family family, bool writes,
                               struct exchanged *exchanged)
{
    struct state_list *list = &exchanged->list;
    const struct state_visitor visitor = state_list_visitor(list, writes);
    CHECK(replica_visit(session->replica, &session->parameters, &visitor));
    state_list_settle(list);
    exchanged->places =
        memory_allocate(session->context, (size_t)list->count * sizeof *exchanged->places, MEMORY_OTHER);
    if (!exchanged->places)
        return STATUS_MEMORY;
    for (int i = 0; i < list->count; i++) {
        const struct state_array *array = &list->arrays[i];
        struct exchange_place *place = &exchanged->places[exchanged->count];
        if (!writes && is_added(session, name_of(array)))
            continue;
        if (!exchange_place_of(family, &session->config->model, name_of(array), array->rank, array->shape, place))
            continue;
        if (place->name[0] == '\0')
            return context_fail(session->context, STATUS_INTERNAL, "%s: has no name in other programs", array->name);
        list->arrays[exchanged->count++] = *array;
    }
    return STATUS_OK;
}

static void destroy(struct session *session, struct exchanged *exchanged)
{
    state_list_destroy(&exchanged->list);
    memory_free(session->context, exchanged->places);
}

/* -- In -- */

/* GPT-2 stands in some folders without the name of the whole in front. */
static void shorten(const struct exchange_folder *folder, struct exchanged *exchanged)
{
    static const char prefix[] = "transformer.";
    for (int i = 0; i < exchanged->count; i++) {
        char *name = exchanged->places[i].name;
        size_t length = sizeof prefix - 1;
        if (strncmp(name, prefix, length) == 0 && !exchange_find(folder, name) && exchange_find(folder, name + length))
            memmove(name, name + length, strlen(name + length) + 1);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct exchange_place *x = a;
    const struct exchange_place *y = b;
    return strcmp(x->name, y->name);
}

static const struct exchange_place *find_place(const struct exchange_place *sorted, int count, const char *name)
{
    struct exchange_place wanted = {0};
    text_copy(wanted.name, sizeof wanted.name, name);
    return bsearch(&wanted, sorted, (size_t)count, sizeof wanted, by_name);
}

/* Some write the output layer of a model that uses the embedding for it; it must then be the same. */
static enum status check_head(struct session *session, struct exchange_folder *folder,
                              const struct exchange_tensor *head, const char *table)
{
    const struct exchange_tensor *embedding = exchange_find(folder, table);
    bool same = false;
    if (embedding)
        CHECK(exchange_same(folder, head, embedding, &same));
    return same ? STATUS_OK
                : context_fail(session->context, STATUS_FILE,
                               "%s: tensor %s: differs from %s, but config.json says tie_word_embeddings", folder->path,
                               head->name, table);
}

/* Nothing that was learned may be left out. */
static enum status check_rest(struct session *session, struct exchange_folder *folder, struct exchange_place *sorted,
                              int count)
{
    const struct model_config *model = &session->config->model;
    const char *table = exchange_find(folder, "model.embed_tokens.weight") ? "model.embed_tokens.weight"
                        : exchange_find(folder, "transformer.wte.weight")  ? "transformer.wte.weight"
                                                                           : "wte.weight";
    qsort(sorted, (size_t)count, sizeof *sorted, by_name);
    for (int64_t i = 0; i < folder->count; i++) {
        const struct exchange_tensor *tensor = &folder->tensors[i];
        if (find_place(sorted, count, tensor->name) || exchange_needless(tensor->name))
            continue;
        if (model->tied_embeddings && strcmp(tensor->name, "lm_head.weight") == 0)
            CHECK(check_head(session, folder, tensor, table));
        else
            return context_fail(session->context, STATUS_FILE,
                                "%s/%s: tensor %s: a model of this config.json has no place for it", folder->path,
                                folder->files[tensor->file], tensor->name);
    }
    return STATUS_OK;
}

static enum status read_all(struct session *session, struct exchange_folder *folder, struct exchanged *exchanged)
{
    enum exchange_family family;
    struct model_config plain = session->config->model;
    plain.lora.rank = 0;
    CHECK(exchange_family_of(session->context, folder->path, &plain, &family));
    CHECK(list_places(session, family, false, exchanged));
    shorten(folder, exchanged);
    CHECK(exchange_read(folder, exchanged->list.arrays, exchanged->places, exchanged->count));
    return check_rest(session, folder, exchanged->places, exchanged->count);
}

enum status session_import(struct session *session, const char *path)
{
    struct context *context = session->context;
    struct exchange_folder folder;
    struct exchanged exchanged = {.list.context = context};
    enum status status;
    TRY(exchange_open(context, session->mesh, path, &folder));
    TRY(mesh_agree(session->mesh, context, read_all(session, &folder, &exchanged)));
    replica_gather_all(session->replica);
done:
    destroy(session, &exchanged);
    exchange_close(&folder);
    return status;
}

/* -- Out -- */

/* model.a.b: into the object a of the model's. Nothing of model.lora, which models that go out do not have. */
static void add_setting(void *self, const char *key, const char *value)
{
    json_t *object = self;
    if (strncmp(key, "model.", 6) != 0 || strncmp(key, "model.lora.", 11) == 0)
        return;
    key += 6;
    for (const char *point = strchr(key, '.'); point; point = strchr(key, '.')) {
        char section[64];
        snprintf(section, sizeof section, "%.*s", (int)(point - key), key);
        if (!json_object_get(object, section))
            json_object_set_new(object, section, json_object());
        object = json_object_get(object, section);
        key = point + 1;
    }
    json_t *number = json_loads(value, JSON_DECODE_ANY, NULL); /* or true, false, or a quoted text; words are none */
    json_object_set_new(object, key, number ? number : json_string(value));
}

/* Free with free; NULL when memory is out. */
static char *settings_of(const struct config *config)
{
    json_t *object = json_object();
    config_visit(config, add_setting, object);
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    return text;
}

enum status session_export(struct session *session, const char *path, int64_t shard_bytes, struct exchange_card *card)
{
    struct context *context = session->context;
    struct mesh *mesh = session->mesh;
    struct exchanged exchanged = {.list.context = context};
    enum status status;
    char *settings = settings_of(session->config);
    card->model = &session->config->model;
    card->settings = settings;
    status = exchange_family_of(context, card->source, card->model, &card->family);
    if (status == STATUS_OK)
        status = settings ? list_places(session, card->family, true, &exchanged) : STATUS_MEMORY;
    TRY(mesh_agree(mesh, context, status));
    TRY(exchange_write(context, mesh, path, card->type, shard_bytes, exchanged.list.arrays, exchanged.places,
                       exchanged.count));
    TRY(mesh_agree(mesh, context,
                   mesh_rank(mesh, MESH_TEAM) == 0 ? exchange_write_config(context, path, card) : STATUS_OK));
done:
    destroy(session, &exchanged);
    card->settings = NULL;
    free(settings);
    return status;
}
