/* A program that hangs on purpose, on 4 ranks, data 2 x tensor 2, in the way that a training step goes through its
 * collectives, with the watchdog of a training run beside it.
 *
 *   hang_program FOLDER SECONDS nothing          runs to its end
 *   hang_program FOLDER SECONDS skip RANK AXIS   the rank leaves out one all-reduce on tensor, replica or team
 *   hang_program FOLDER SECONDS stay RANK        the rank stays outside of MPI
 *   hang_program FOLDER SECONDS slow RANK        the rank takes four times SECONDS for a layer, at work all the time
 *   hang_program FOLDER SECONDS grid RANK        the rank is stopped inside of a call of ScaLAPACK by all ranks
 *   hang_program FOLDER SECONDS disk RANK        the rank waits as long for a file, and gives no sign of life
 *   hang_program FOLDER SECONDS disks            all ranks do */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/matrix/grid.h"
#include "dist/mesh/events.h"
#include "dist/mesh/mesh_mpi.h"
#include "src/watch/watchdog.h"

enum { STEPS = 6, LAYERS = 5, BAD_STEP = 4, BAD_LAYER = 3 };

struct play {
    struct context context;
    struct mesh *mesh;
    const char *what;
    int rank; /* the one that misbehaves; -1: none */
    enum mesh_axis axis;
    double seconds;
    struct grid *grid; /* of all ranks, if they share a matrix */
    struct grid_matrix matrix;
};

static void wait_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static void misbehave(struct play *play)
{
    double end = clock_seconds() + 4.0 * play->seconds;
    bool disk = strncmp(play->what, "disk", 4) == 0;
    if (disk)
        location_enter_files(&play->context.location);
    while (disk && clock_seconds() < end)
        wait_a_moment();
    if (disk)
        location_leave_files(&play->context.location);
    while (strcmp(play->what, "stay") == 0)
        wait_a_moment();
    while (strcmp(play->what, "slow") == 0 && clock_seconds() < end) {
        wait_a_moment();
        location_touch(&play->context.location);
    }
}

static void reduce(struct play *play, enum mesh_axis axis, bool bad)
{
    float values[8] = {0.0f};
    bool skips = bad && strcmp(play->what, "skip") == 0 && axis == play->axis;
    if (!skips)
        mesh_all_reduce(play->mesh, axis, values, 8, DTYPE_F32, MESH_SUM);
}

static void multiply(struct play *play, bool bad)
{
    struct grid_part all = {&play->matrix, 0};
    if (!play->grid)
        return;
    if (bad) {
        (void)mesh_library_enter(play->mesh, MESH_TEAM);
        (void)raise(SIGSTOP);
    }
    grid_multiply(1.0, all, false, all, false, 0.0, all, 16, 16, 16);
}

static void run(struct play *play)
{
    struct location_mark *place = &play->context.location;
    for (int step = 1; step <= STEPS; step++) {
        bool guilty = mesh_rank(play->mesh, MESH_TEAM) == play->rank || strcmp(play->what, "disks") == 0;
        bool bad = step == BAD_STEP && guilty;
        location_step(place, step);
        location_pass(place, LOCATION_BACKWARD, 1);
        for (int layer = 0; layer < LAYERS; layer++) {
            location_enter_layer(place, layer);
            if (bad && layer == BAD_LAYER)
                misbehave(play);
            reduce(play, MESH_TENSOR, bad && layer == BAD_LAYER);
            wait_a_moment();
        }
        location_work(place, LOCATION_OPTIMIZER);
        multiply(play, bad);
        reduce(play, MESH_REPLICA, bad);
        reduce(play, MESH_TEAM, bad);
    }
}

static enum mesh_axis axis_named(const char *name)
{
    int axis = 0;
    while (axis < MESH_AXES && strcmp(mesh_axis_name((enum mesh_axis)axis), name) != 0)
        axis++;
    return (enum mesh_axis)axis;
}

int main(int argc, char **argv)
{
    struct play play = {.rank = -1};
    struct hosts hosts = {0};
    struct watchdog *watchdog = NULL;
    struct team *team = NULL;
    context_create(&play.context);
    enum status status = team_start(&play.context, &argc, &argv, &team);
    if (status != STATUS_OK || argc < 4)
        return 2;
    play.seconds = atof(argv[2]);
    play.what = argv[3];
    play.rank = argc > 4 ? atoi(argv[4]) : -1;
    play.axis = argc > 5 ? axis_named(argv[5]) : MESH_TENSOR;
    TRY(mesh_create(&play.context, team, &(struct mesh_config){2, 1, 1, 2, 1}, &play.mesh));
    if (strcmp(play.what, "grid") == 0) {
        TRY(grid_create(&play.context, play.mesh, MESH_TEAM, 2, 2, &play.grid));
        TRY(grid_matrix_allocate(&play.context, "matrix", play.grid, DTYPE_F64, 16, 16, 8, &play.matrix));
    }
    TRY(hosts_create(&play.context, play.mesh, &hosts));
    TRY(watchdog_start(&play.context, play.mesh, &hosts, argv[1], play.seconds, &watchdog));
    run(&play);
done:
    watchdog_stop(&watchdog);
    hosts_destroy(&play.context, &hosts);
    memory_free(&play.context, play.matrix.data);
    grid_destroy(&play.grid);
    mesh_destroy(&play.mesh);
    team_destroy(&team);
    return status == STATUS_OK ? 0 : 1;
}
