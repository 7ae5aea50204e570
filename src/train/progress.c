#include "src/train/progress.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "src/core/clock.h"
#include "src/core/text.h"

/* The share of a core that each thread of this host has. */
static double core_share(const struct mesh *mesh, const struct engine *engine)
{
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    return fmin(1.0, cores / (double)(mesh_ranks_on_host(mesh) * engine->threads));
}

double progress_peak(struct context *context, struct mesh *mesh, struct engine *engine, enum dtype dtype)
{
    enum { SIZE = 512, RUNS = 20 };
    double best = 0.0;
    size_t bytes = (size_t)SIZE * SIZE * dtype_size(dtype);
    char *a = memory_allocate(context, 3 * bytes, MEMORY_OTHER);
    mesh_barrier(mesh, MESH_TEAM);
    for (int i = 0; i < RUNS && a; i++) {
        struct matmul product = {.m = SIZE,
                                 .n = SIZE,
                                 .k = SIZE,
                                 .a = a,
                                 .b = a + bytes,
                                 .c = a + 2 * bytes,
                                 .lda = SIZE,
                                 .ldb = SIZE,
                                 .ldc = SIZE,
                                 .type = dtype,
                                 .c_type = dtype};
        double start = clock_seconds();
        if (matmul_run(engine, &product) == STATUS_OK)
            best = fmax(best, 2.0 * SIZE * SIZE * SIZE / (clock_seconds() - start));
    }
    memory_free(context, a);
    double rate = best * core_share(mesh, engine);
    mesh_all_reduce(mesh, MESH_TEAM, &rate, 1, DTYPE_F64, MESH_SUM);
    return rate;
}

void progress_create(struct progress *progress, bool shown)
{
    *progress = (struct progress){.shown = shown, .terminal = shown && isatty(STDERR_FILENO)};
}

void progress_show(struct progress *progress, const struct progress_line *line)
{
    if (!progress->shown)
        return;
    double smoothed = progress->seconds_per_step;
    progress->seconds_per_step = smoothed > 0.0 ? 0.95 * smoothed + 0.05 * line->seconds : line->seconds;
    double now = clock_seconds();
    bool last = line->step == line->end;
    if (!last && now - progress->last_line < (progress->terminal ? 0.1 : 1.0))
        return;
    progress->last_line = now;
    char left[32];
    text_from_duration(progress->seconds_per_step * (double)(line->end - line->step), left, sizeof left);
    char router[32] = "";
    if (line->router_loss != 0.0 && !line->no_target)
        snprintf(router, sizeof router, " + %.4f of routers", line->router_loss);
    char loss[32] = "no targets";
    if (!line->no_target)
        snprintf(loss, sizeof loss, "loss %.4f", line->loss);
    bool images = line->images_per_second > 0.0;
    fprintf(stderr, "%sstep %lld/%lld  %s%s  rate %.2e  %.0f %s/s  MFU %.1f %%  %s left%s%s",
            progress->terminal ? "\r\x1b[K" : "", (long long)line->step, (long long)line->steps, loss, router,
            line->rate, images ? line->images_per_second : line->tokens_per_second, images ? "images" : "tokens",
            100.0 * line->mfu, left, line->skipped ? "  SKIPPED" : "", progress->terminal && !last ? "" : "\n");
    fflush(stderr);
    if (last)
        progress->last_line = 0.0;
}

void progress_evaluation(struct progress *progress, int64_t done, int64_t all)
{
    double now = clock_seconds();
    if (!progress->shown)
        return;
    if (done == 1) {
        progress_break(progress);
        progress->evaluation_began = progress->evaluation_told = now;
    }
    if (now - progress->evaluation_told < (progress->terminal ? 1.0 : 10.0) || done == all)
        return;
    char left[32];
    double spent = now - progress->evaluation_began;
    text_from_duration(spent / (double)done * (double)(all - done), left, sizeof left);
    progress->last_line = progress->evaluation_told = now;
    fprintf(stderr, "%sevaluating: %lld of %lld passes, %s left%s", progress->terminal ? "\r\x1b[K" : "",
            (long long)done, (long long)all, left, progress->terminal ? "" : "\n");
    fflush(stderr);
}

void progress_break(struct progress *progress)
{
    if (progress->shown && progress->terminal && progress->last_line > 0.0)
        fputc('\n', stderr);
    progress->last_line = 0.0;
}
