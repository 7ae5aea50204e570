#include "tests/mpi/checkpoint_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct model_dataset MODEL[DATASETS] = {
    {"/parameters/model.matrix", 2, {7, 10}},   {"/parameters/model.wide", 2, {2, 33}},
    {"/parameters/model.vector", 1, {13}},      {"/parameters/model.single", 1, {1}},
    {"/parameters/model.nothing", 2, {0, 4}},   {"/optimizer/m/model.matrix", 2, {7, 10}},
    {"/optimizer/v/model.cube", 3, {3, 4, 5}},  {"/memory/layers.0/state", 4, {2, 3, 4, 5}},
    {"/memory/layers.0/norm", 4, {1, 2, 1, 3}},
};

int64_t shape_count(int rank, const int64_t *shape)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= shape[i];
    return count;
}

/* Copies between the whole dataset and a piece. */
static void piece_copy(const struct state_array *dataset, struct state_piece *piece, float *whole, bool out)
{
    int64_t count = box_count(&piece->box, dataset->rank);
    for (int64_t i = 0; i < count; i++) {
        int64_t left = i;
        int64_t index = 0;
        int64_t scale = 1;
        for (int d = dataset->rank - 1; d >= 0; d--) {
            index += (piece->box.offset[d] + left % piece->box.extent[d]) * scale;
            left /= piece->box.extent[d];
            scale *= dataset->shape[d];
        }
        if (out)
            piece->data[i] = whole[index];
        else
            whole[index] = piece->data[i];
    }
}

struct model *model_create(const struct world *world, int shift, bool fill)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    for (int i = 0; i < DATASETS; i++) {
        struct state_array *dataset = &model->datasets[i];
        struct box boxes[PIECES];
        snprintf(dataset->name, sizeof dataset->name, "%s", MODEL[i].name);
        dataset->rank = MODEL[i].rank;
        memcpy(dataset->shape, MODEL[i].shape, sizeof dataset->shape);
        dataset->pieces = model->pieces[i];
        enum division division = (enum division)((i + shift) % DIVISIONS);
        dataset->piece_count = divide(dataset, division, i + shift, world->size, world->rank, boxes);
        fill_random(model->whole[i], shape_count(dataset->rank, dataset->shape), dataset->name);
        int64_t used = 0;
        for (int p = 0; p < dataset->piece_count; p++) {
            dataset->pieces[p] = (struct state_piece){.box = boxes[p], .data = model->memory[i] + used};
            /* Parts of a flat range follow each other in memory, stripes have a gap. */
            used += box_count(&boxes[p], dataset->rank) + (division == BY_STRIPES ? 3 : 0);
            if (fill)
                piece_copy(dataset, &dataset->pieces[p], model->whole[i], true);
        }
    }
    return model;
}

void model_assert(const struct model *model)
{
    for (int i = 0; i < DATASETS; i++) {
        const struct state_array *dataset = &model->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            float expected[LARGEST];
            struct state_piece piece = {.box = dataset->pieces[p].box, .data = expected};
            float *whole = (float *)(uintptr_t)model->whole[i];
            piece_copy(dataset, &piece, whole, true);
            int64_t count = box_count(&piece.box, dataset->rank);
            assert_memory_equal(dataset->pieces[p].data, expected, (size_t)count * sizeof expected[0]);
        }
    }
}

struct checkpoint_header *header_create(int64_t step)
{
    struct checkpoint_header *header = calloc(1, sizeof *header);
    assert_non_null(header);
    header->step = step;
    header->tokens = step * 4096 + 1;
    header->sequences = (int64_t)1 << 40;
    header->skipped = 3;
    header->skipped_in_row = -1;
    header->updates = 6;
    header->loss_limit = 11.5;
    header->seed = INT64_MIN;
    strcpy(header->created, "2024-02-29T12:00:00Z");
    strcpy(header->mesh, "data=2 pipeline=1 context=1 tensor=3");
    strcpy(header->config, "model:\n  layers: 2 # \xc3\xa9\n");
    return header;
}

void write_step(struct world *world, const char *folder, int64_t step, int shift)
{
    struct model *model = model_create(world, shift, true);
    struct checkpoint_header *header = header_create(step);
    assert_ok(&world->context,
              checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS));
    free(header);
    free(model);
}

void path_of(const char *folder, int64_t step, char path[CHECKPOINT_PATH])
{
    snprintf(path, CHECKPOINT_PATH, "%.700s/step-%08lld.h5", folder, (long long)step);
}

void folder_of(const struct world *world, const char *name, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "%.500s/%s/checkpoints", world->folder, name);
}

void file_change(const char *path, int64_t offset, unsigned char mask)
{
    unsigned char byte;
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(descriptor, &byte, 1, offset), 1);
    close(descriptor);
}

int64_t file_size(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

void file_change_first(struct world *world, const char *path, int64_t offset)
{
    mesh_barrier(world->mesh, MESH_TEAM);
    if (world->rank == 0)
        file_change(path, offset, 0x10);
    mesh_barrier(world->mesh, MESH_TEAM);
}

/* -- Main -- */

static int world_create(struct world *world)
{
    char place[256];
    const char *temporary = getenv("TMPDIR");
    snprintf(place, sizeof place, "%.200s/cairn-checkpoint-XXXXXX", temporary ? temporary : "/tmp");
    struct mesh_config config = {.data = world->size, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
    if (mesh_create(&world->context, world->team, &config, &world->mesh) != STATUS_OK)
        return -1;
    if (world->rank == 0 && !mkdtemp(place))
        return -1;
    strcpy(world->folder, place);
    mesh_broadcast(world->mesh, MESH_TEAM, 0, world->folder, sizeof world->folder, DTYPE_BYTE);
    return 0;
}

static int world_destroy(struct world *world)
{
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(world->mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    int failed = world->rank == 0 ? system(command) : 0;
    mesh_destroy(&world->mesh);
    return failed;
}

int world_run(int argc, char **argv, int (*run)(struct world *world))
{
    struct world world = {0};
    context_create(&world.context);
    if (team_start(&world.context, &argc, &argv, &world.team) != STATUS_OK)
        return 1;
    world.rank = team_rank(world.team);
    world.size = team_size(world.team);
    world.context.quiet = world.rank != 0;
    if (world_create(&world) != 0)
        team_abort(1);
    int failed = run(&world);
    if (world_destroy(&world) != 0)
        failed++;
    team_destroy(&world.team);
    return failed;
}
