#include "src/train/state.h"

#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/text.h"
#include "src/session/load.h"
#include "src/session/save.h"

static enum status fill_header(const struct trainer *trainer, struct checkpoint_header *header)
{
    header->step = trainer->step;
    header->tokens = trainer->tokens;
    header->sequences = trainer->sequences;
    header->skipped = trainer->skipped;
    header->skipped_in_row = trainer->skipped_in_row;
    header->updates = trainer->updates;
    header->loss_limit = trainer->loss_limit;
    return header_describe(trainer->context, trainer->mesh, trainer->config, trainer->data_lines, trainer->data_facts,
                           header);
}

static bool keeps_losses(const struct trainer *trainer)
{
    return trainer->spikes.factor > 0.0;
}

/* The losses that spikes are measured by: all ranks have them, the first one writes them. */
static enum status visit_losses(const struct trainer *trainer, const struct state_visitor *visitor)
{
    int64_t count = SPIKE_IMAGE_HEAD + trainer->spikes.window;
    struct state_piece piece = {.box = {.extent = {count}}, .data = trainer->spikes.image};
    struct state_array array = {
        .name = "/watch/losses", .rank = 1, .shape = {count}, .pieces = &piece, .piece_count = 1};
    if (visitor->writes && mesh_rank(trainer->mesh, MESH_TEAM) != 0)
        array.piece_count = 0;
    return visitor->array(visitor->self, &array);
}

/* All that a checkpoint holds. */
static enum status list_all(struct trainer *trainer, const struct model_state *state, bool losses, bool writes,
                            struct state_list *list, void **carried)
{
    const struct session *session = &trainer->session;
    *list = (struct state_list){.context = trainer->context};
    struct state_visitor visitor = state_list_visitor(list, writes);
    CHECK(session_visit(session, &visitor));
    CHECK(optimizer_visit(&trainer->optimizer, &session->parameters, &visitor));
    if (trainer->average)
        CHECK(average_visit(trainer->average, &session->parameters, &visitor));
    if (losses)
        CHECK(visit_losses(trainer, &visitor));
    if (state) {
        CHECK(trainer->model->ops->state->image_create(state, writes, carried));
        CHECK(trainer->model->ops->state->image_visit(*carried, &visitor));
    }
    state_list_settle(list);
    return STATUS_OK;
}

enum status state_image_create(struct trainer *trainer, const struct model_state *state, struct state_image *image)
{
    *image = (struct state_image){.model = trainer->model, .list.context = trainer->context};
    image->header = memory_allocate(trainer->context, sizeof *image->header, MEMORY_OTHER);
    if (!image->header)
        return STATUS_MEMORY;
    return list_all(trainer, state, keeps_losses(trainer), true, &image->list, &image->carried);
}

void state_image_destroy(struct context *context, struct state_image *image)
{
    if (image->list.context)
        state_list_destroy(&image->list);
    if (image->carried)
        image->model->ops->state->image_destroy(context, &image->carried);
    memory_free(context, image->header);
    *image = (struct state_image){0};
}

enum status state_image_fill(const struct trainer *trainer, const struct model_state *state, struct state_image *image)
{
    if (state)
        trainer->model->ops->state->image_fill(state, image->carried);
    if (keeps_losses(trainer))
        spike_save(&trainer->spikes);
    return fill_header(trainer, image->header);
}

enum status state_save(struct trainer *trainer, const struct model_state *state, const char *folder)
{
    struct context *context = trainer->context;
    struct state_image image;
    enum status status = state_image_create(trainer, state, &image);
    if (status == STATUS_OK)
        status = state_image_fill(trainer, state, &image);
    TRY(mesh_agree(trainer->mesh, context, status));
    TRY(checkpoint_write(context, trainer->mesh, folder, image.header, image.list.arrays, image.list.count));
done:
    state_image_destroy(context, &image);
    return status;
}

/* Settings that say where streams stand in the text, which memories belong to. */
static const char *const stream_settings[] = {"data.train",     "data.validation",         "data.validation_fraction",
                                              "data.format",    "data.sampling",           "data.seed",
                                              "training.batch", "training.sequence_length"};

/* Whether the streams of a file can go on; tells of what is in their way. */
static bool streams_go_on(struct context *context, const char *path, const struct config *stored,
                          const struct config *config)
{
    bool goes_on = true;
    for (size_t i = 0; i < sizeof stream_settings / sizeof *stream_settings; i++) {
        char before[8 * TEXT_LENGTH];
        char now[8 * TEXT_LENGTH];
        const char *key = stream_settings[i];
        config_value(stored, key, before, sizeof before);
        config_value(config, key, now, sizeof now);
        if (strcmp(before, now) == 0)
            continue;
        goes_on = false;
        context_log(context,
                    "%s: written with %s %.64s, now it is %.64s: streams go on in another place of the text, and their "
                    "memories begin empty; --set %s=%.64s goes on where they were",
                    path, key, before, now, key, before);
    }
    return goes_on;
}

/* Whether the file holds this model; *state becomes NULL where it has no memories that they can go on from; *losses:
 * it has the losses that spikes are measured by. */
static enum status check_settings(struct trainer *trainer, const char *path, const struct checkpoint_header *header,
                                  struct model_state **state, bool *losses)
{
    struct config *stored = memory_allocate(trainer->context, sizeof *stored, MEMORY_OTHER);
    if (!stored)
        return STATUS_MEMORY;
    enum status status = config_parse(trainer->context, path, header->config, strlen(header->config), NULL, 0, stored);
    if (status == STATUS_OK)
        status =
            config_same_model(trainer->context, &stored->model, &trainer->config->model, path, "the configuration");
    if (status == STATUS_OK && *state && !streams_go_on(trainer->context, path, stored, trainer->config))
        *state = NULL;
    *losses = status == STATUS_OK && keeps_losses(trainer) && stored->watch.spike_factor > 0.0 &&
              stored->watch.spike_window == trainer->spikes.window;
    memory_free(trainer->context, stored);
    return status;
}

enum status state_load(struct trainer *trainer, struct model_state *state, const char *path)
{
    struct context *context = trainer->context;
    struct state_list list = {.context = context};
    void *carried = NULL;
    enum status status = STATUS_MEMORY;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    TRY(mesh_agree(trainer->mesh, context, header ? STATUS_OK : STATUS_MEMORY));
    TRY(checkpoint_read_header(context, trainer->mesh, path, header));
    bool losses = false;
    status = check_settings(trainer, path, header, &state, &losses);
    if (status == STATUS_OK)
        status = list_all(trainer, state, losses, false, &list, &carried);
    TRY(mesh_agree(trainer->mesh, context, status));
    if (trainer->average)
        average_forget(trainer->average);
    TRY(checkpoint_read(context, trainer->mesh, path, list.arrays, list.count));
    if (trainer->average)
        average_settle(trainer->average);
    replica_gather_all(trainer->session.replica);
    comparison_forget(trainer->comparison);
    if (losses)
        spike_restore(&trainer->spikes);
    if (state)
        trainer->model->ops->state->image_take(state, carried);
    trainer->step = header->step;
    trainer->tokens = header->tokens;
    trainer->sequences = header->sequences;
    trainer->skipped = header->skipped;
    trainer->skipped_in_row = header->skipped_in_row;
    trainer->updates = header->updates;
    trainer->loss_limit = header->loss_limit;
    trainer->sound = true;
done:
    state_list_destroy(&list);
    if (carried)
        trainer->model->ops->state->image_destroy(context, &carried);
    memory_free(context, header);
    return status;
}

/* A visit that reads other datasets, into other memory. */
struct reading {
    const struct replica *replica;
    char (*names)[PARAMETER_NAME];
    float *values;
    int index;
    struct state_visitor list;
};

static enum status rename_array(void *self, const struct state_array *array)
{
    struct reading *reading = self;
    const char *name = reading->names[reading->index++];
    struct state_piece pieces[BOXES_OF_RANGE];
    struct state_array renamed = *array;
    if (name[0] == '\0')
        return STATUS_OK;
    int count;
    const struct shard *shards = replica_shards(reading->replica, &count);
    const struct shard *shard = shard_named(shards, count, array->name + strlen("/parameters/"));
    renamed.pieces = pieces;
    renamed.piece_count = shard ? shard_pieces(shard, reading->values + shard->begin, false, pieces) : 0;
    snprintf(renamed.name, sizeof renamed.name, "/parameters/%s", name);
    return reading->list.array(reading->list.self, &renamed);
}

enum status state_read_values(struct trainer *trainer, const char *path, char (*names)[PARAMETER_NAME], float *values)
{
    struct context *context = trainer->context;
    struct session *session = &trainer->session;
    struct state_list list = {.context = context};
    struct reading reading = {
        .replica = session->replica, .names = names, .values = values, .list = state_list_visitor(&list, false)};
    const struct state_visitor visitor = {.self = &reading, .array = rename_array};
    enum status status = replica_visit(session->replica, &session->parameters, &visitor);
    state_list_settle(&list);
    TRY(mesh_agree(trainer->mesh, context, status));
    TRY(checkpoint_read(context, trainer->mesh, path, list.arrays, list.count));
done:
    state_list_destroy(&list);
    return status;
}
