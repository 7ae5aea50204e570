#include "src/train/state.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "io/config/config.h"
#include "src/core/text.h"

/* A parameter has one dataset for its values and one for each of the optimiser's slots. */
enum { KINDS = 1 + OPTIMIZER_SLOTS };

static void list_destroy(struct context *context, struct state_list *list)
{
    memory_free(context, list->datasets);
    memory_free(context, list->pieces);
    *list = (struct state_list){0};
}

static void describe_dataset(const struct parameter_spec *spec, int kind, struct checkpoint_dataset *dataset)
{
    if (kind == 0)
        snprintf(dataset->name, sizeof dataset->name, "/parameters/%s", spec->name);
    else
        snprintf(dataset->name, sizeof dataset->name, "/optimizer/%s/%s", optimizer_slot_name(kind - 1), spec->name);
    dataset->rank = spec->rank;
    memcpy(dataset->shape, spec->shape, sizeof dataset->shape);
}

static int spec_index(const struct decoder *decoder, const struct shard *shard)
{
    int index = 0;
    while (strcmp(decoder->specs[index].name, shard->parameter->spec.name) != 0)
        index++;
    return index;
}

/* Adds the boxes of a shard's elements `flat` to a dataset, whose pieces begin at `pieces`. */
static int add_pieces(const struct shard *shard, struct range flat, float *data, struct checkpoint_piece *pieces)
{
    struct box boxes[BOXES_OF_RANGE];
    struct box block = parameter_box(shard->parameter);
    int rank = shard->parameter->spec.rank;
    int count = box_from_range(&block, rank, flat, boxes);
    for (int i = 0; i < count; i++) {
        pieces[i] = (struct checkpoint_piece){.box = boxes[i], .data = data};
        data += box_count(&boxes[i], rank);
    }
    return count;
}

/* What this rank writes (only what it owns) or reads (all that it holds). Parameters are the masters, or elements of
 * `values` in the order of the shards. */
static enum status list_create(struct trainer *trainer, int kinds, bool writes, float *values, struct state_list *list)
{
    struct context *context = trainer->context;
    const struct decoder *decoder = trainer->decoder;
    int shard_count;
    const struct shard *shards = replica_shards(decoder->replica, &shard_count);
    *list = (struct state_list){.count = decoder->spec_count * kinds};
    list->datasets = memory_allocate(context, (size_t)list->count * sizeof *list->datasets, MEMORY_OTHER);
    list->pieces = memory_allocate(
        context, ((size_t)shard_count * BOXES_OF_RANGE * (size_t)kinds + 1) * sizeof *list->pieces, MEMORY_OTHER);
    if (!list->datasets || !list->pieces)
        return STATUS_MEMORY;
    for (int i = 0; i < decoder->spec_count; i++)
        for (int kind = 0; kind < kinds; kind++)
            describe_dataset(&decoder->specs[i], kind, &list->datasets[kind * decoder->spec_count + i]);
    struct checkpoint_piece *next = list->pieces;
    for (int i = 0; i < shard_count; i++) {
        const struct shard *shard = &shards[i];
        struct range flat = writes ? parameter_owned(shard->parameter, shard->flat) : shard->flat;
        int64_t skip = flat.begin - shard->flat.begin;
        int index = spec_index(decoder, shard);
        for (int kind = 0; kind < kinds; kind++) {
            struct checkpoint_dataset *dataset = &list->datasets[kind * decoder->spec_count + index];
            float *data = kind > 0 ? trainer->optimizer.slot[kind - 1] + shard->begin
                          : values ? values + shard->begin
                                   : shard->master;
            dataset->pieces = next;
            dataset->piece_count = add_pieces(shard, flat, data + skip, next);
            next += dataset->piece_count;
        }
    }
    list->spare = next;
    return STATUS_OK;
}

static enum status fill_header(const struct trainer *trainer, struct checkpoint_header *header)
{
    const struct mesh_config *mesh = mesh_config(trainer->mesh);
    header->step = trainer->step;
    header->tokens = trainer->tokens;
    header->sequences = trainer->sequences;
    header->skipped = trainer->skipped;
    header->skipped_in_row = trainer->skipped_in_row;
    header->updates = trainer->updates;
    header->loss_limit = trainer->loss_limit;
    header->seed = (int64_t)trainer->config->data.seed;
    snprintf(header->mesh, sizeof header->mesh, "data %lld x pipeline %lld x context %lld x tensor %lld",
             (long long)mesh->data, (long long)mesh->pipeline, (long long)mesh->context, (long long)mesh->tensor);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(header->created, sizeof header->created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    size_t length = config_format(trainer->config, header->config, sizeof header->config);
    if (trainer->data_lines && length + strlen(trainer->data_lines) < sizeof header->config)
        length += (size_t)sprintf(header->config + length, "%s", trainer->data_lines);
    if (length >= sizeof header->config)
        return context_fail(trainer->context, STATUS_USAGE, "the configuration is longer than a checkpoint can hold");
    return STATUS_OK;
}

static enum status list_append(struct context *context, struct state_list *list,
                               const struct checkpoint_dataset *datasets, int added)
{
    int count = list->count + added;
    struct checkpoint_dataset *both = memory_allocate(context, (size_t)count * sizeof *both, MEMORY_OTHER);
    if (!both)
        return STATUS_MEMORY;
    memcpy(both, list->datasets, (size_t)list->count * sizeof *both);
    memcpy(both + list->count, datasets, (size_t)added * sizeof *both);
    memory_free(context, list->datasets);
    list->datasets = both;
    list->count = count;
    return STATUS_OK;
}

/* The losses that spikes are measured by: all ranks have them, the first one writes them. */
static enum status list_append_losses(const struct trainer *trainer, bool writes, struct state_list *list)
{
    int64_t count = SPIKE_IMAGE_HEAD + trainer->spikes.window;
    struct checkpoint_dataset dataset = {
        .name = "/watch/losses", .rank = 1, .shape = {count}, .pieces = list->spare, .piece_count = 1};
    *list->spare = (struct checkpoint_piece){.box = {.extent = {count}}, .data = trainer->spikes.image};
    if (writes && mesh_rank(trainer->mesh, MESH_TEAM) != 0)
        dataset.piece_count = 0;
    return list_append(trainer->context, list, &dataset, 1);
}

static bool keeps_losses(const struct trainer *trainer)
{
    return trainer->spikes.factor > 0.0;
}

/* All that a checkpoint holds. */
static enum status list_all(struct trainer *trainer, const struct streams *streams, bool losses, int kinds, bool writes,
                            struct state_list *list, struct streams_image *image)
{
    CHECK(list_create(trainer, kinds, writes, NULL, list));
    if (losses)
        CHECK(list_append_losses(trainer, writes, list));
    if (!streams)
        return STATUS_OK;
    CHECK(streams_image_create(streams, writes, image));
    return list_append(trainer->context, list, image->datasets, image->count);
}

enum status state_image_create(struct trainer *trainer, const struct streams *streams, struct state_image *image)
{
    *image = (struct state_image){0};
    image->header = memory_allocate(trainer->context, sizeof *image->header, MEMORY_OTHER);
    if (!image->header)
        return STATUS_MEMORY;
    return list_all(trainer, streams, keeps_losses(trainer), KINDS, true, &image->list, &image->memories);
}

void state_image_destroy(struct context *context, struct state_image *image)
{
    list_destroy(context, &image->list);
    streams_image_destroy(context, &image->memories);
    memory_free(context, image->header);
    *image = (struct state_image){0};
}

enum status state_image_fill(const struct trainer *trainer, const struct streams *streams, struct state_image *image)
{
    if (streams)
        streams_image_fill(streams, &image->memories);
    if (keeps_losses(trainer))
        spike_save(&trainer->spikes);
    return fill_header(trainer, image->header);
}

enum status state_save(struct trainer *trainer, const struct streams *streams, const char *folder)
{
    struct context *context = trainer->context;
    struct state_image image;
    enum status status = state_image_create(trainer, streams, &image);
    if (status == STATUS_OK)
        status = state_image_fill(trainer, streams, &image);
    TRY(mesh_agree(trainer->mesh, context, status));
    TRY(checkpoint_write(context, trainer->mesh, folder, image.header, image.list.datasets, image.list.count));
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

/* Whether the file holds this model; *streams becomes NULL where it has no memories that they can go on from; *losses:
 * it has the losses that spikes are measured by. */
static enum status check_settings(struct trainer *trainer, const char *path, const struct checkpoint_header *header,
                                  struct streams **streams, bool *losses)
{
    struct config *stored = memory_allocate(trainer->context, sizeof *stored, MEMORY_OTHER);
    if (!stored)
        return STATUS_MEMORY;
    enum status status = config_parse(trainer->context, path, header->config, strlen(header->config), NULL, 0, stored);
    if (status == STATUS_OK)
        status =
            config_same_model(trainer->context, &stored->model, &trainer->config->model, path, "the configuration");
    if (status == STATUS_OK && *streams && !streams_go_on(trainer->context, path, stored, trainer->config))
        *streams = NULL;
    *losses = status == STATUS_OK && keeps_losses(trainer) && stored->watch.spike_factor > 0.0 &&
              stored->watch.spike_window == trainer->spikes.window;
    memory_free(trainer->context, stored);
    return status;
}

enum status state_load(struct trainer *trainer, struct streams *streams, const char *path)
{
    struct context *context = trainer->context;
    struct state_list list = {0};
    struct streams_image image = {0};
    enum status status = STATUS_MEMORY;
    int kinds = trainer->trains ? KINDS : 1;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    TRY(mesh_agree(trainer->mesh, context, header ? STATUS_OK : STATUS_MEMORY));
    TRY(checkpoint_read_header(context, trainer->mesh, path, header));
    bool losses = false;
    status = check_settings(trainer, path, header, &streams, &losses);
    if (status == STATUS_OK)
        status = list_all(trainer, streams, losses, kinds, false, &list, &image);
    TRY(mesh_agree(trainer->mesh, context, status));
    TRY(checkpoint_read(context, trainer->mesh, path, list.datasets, list.count));
    replica_gather(trainer->decoder->replica);
    comparison_forget(trainer->comparison);
    if (losses)
        spike_restore(&trainer->spikes);
    if (streams)
        streams_restore(streams, &image);
    trainer->step = header->step;
    trainer->tokens = header->tokens;
    trainer->sequences = header->sequences;
    trainer->skipped = header->skipped;
    trainer->skipped_in_row = header->skipped_in_row;
    trainer->updates = header->updates;
    trainer->loss_limit = header->loss_limit;
    trainer->sound = true;
done:
    list_destroy(context, &list);
    streams_image_destroy(context, &image);
    memory_free(context, header);
    return status;
}

/* Leaves only what has a name, under that name. */
static void list_rename(struct state_list *list, char (*names)[PARAMETER_NAME])
{
    int kept = 0;
    for (int i = 0; i < list->count; i++) {
        if (names[i][0] == '\0')
            continue;
        list->datasets[kept] = list->datasets[i];
        snprintf(list->datasets[kept].name, sizeof list->datasets[kept].name, "/parameters/%s", names[i]);
        kept++;
    }
    list->count = kept;
}

enum status state_read_values(struct trainer *trainer, const char *path, char (*names)[PARAMETER_NAME], float *values)
{
    struct context *context = trainer->context;
    struct state_list list = {0};
    enum status status = list_create(trainer, 1, false, values, &list);
    TRY(mesh_agree(trainer->mesh, context, status));
    list_rename(&list, names);
    TRY(checkpoint_read(context, trainer->mesh, path, list.datasets, list.count));
done:
    list_destroy(context, &list);
    return status;
}
