/* Whole training steps on generated batches. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/bench/measure.h"
#include "src/bench/step_private.h"
#include "src/core/clock.h"
#include "src/core/notice.h"
#include "src/core/random.h"
#include "src/ops/peak.h"
#include "src/train/trainer.h"

static enum status run_step(struct trainer *trainer, struct step_sample *sample)
{
    struct time_account *account = &trainer->context->time;
    mesh_barrier(trainer->mesh, MESH_TEAM);
    (void)time_enter(account, TIME_OTHER);
    struct time_account start = *account;
    double processor = clock_process_seconds();
    struct step_result result;
    batch_fill_random(&trainer->batch, (uint64_t)trainer->step);
    /* What no operation claims for itself is the work of the others. */
    (void)time_enter(account, TIME_COMPUTE);
    enum status status = trainer_step(trainer, &result);
    (void)time_enter(account, TIME_OTHER);
    *sample = (struct step_sample){.seconds = account->since - start.since,
                                   .processor = clock_process_seconds() - processor,
                                   .waiting = account->waiting - start.waiting,
                                   .loss = result.loss};
    for (int kind = 0; kind < TIME_KINDS; kind++) {
        sample->part[kind] = account->seconds[kind] - start.seconds[kind];
        sample->executed += account->flops[kind] - start.flops[kind];
    }
    return status;
}

static void keep_memory(const struct trainer *trainer, struct step_report *report)
{
    const struct memory_account *memory = &trainer->context->memory;
    for (int kind = 0; kind < MEMORY_KINDS; kind++)
        report->memory[kind] = (double)memory->bytes[kind];
    report->memory_peak = (double)memory->bytes_peak;
    report->resident_peak = (double)memory_resident_peak();
    report->resident_most = report->resident_peak;
    mesh_all_reduce(trainer->mesh, MESH_TEAM, &report->resident_most, 1, DTYPE_F64, MESH_MAX);
}

static double measure_peak(struct mesh *mesh, struct engine *engine, enum dtype dtype, bool quick, const char **name)
{
    mesh_barrier(mesh, MESH_TEAM);
    double peak = peak_flops(engine, dtype, engine->threads, quick ? 0.001 : 0.03, name);
    mesh_all_reduce(mesh, MESH_TEAM, &peak, 1, DTYPE_F64, MESH_SUM);
    return peak;
}

/* The first rank's step of median time, the same step on all ranks. */
static int choose_median(struct mesh *mesh, const struct step_sample *samples, int count)
{
    int32_t chosen = 0;
    for (int i = 0; i < count; i++) {
        int faster = 0;
        for (int j = 0; j < count; j++)
            faster += samples[j].seconds < samples[i].seconds || (samples[j].seconds == samples[i].seconds && j < i);
        if (faster == (count - 1) / 2)
            chosen = i;
    }
    mesh_broadcast(mesh, MESH_TEAM, 0, &chosen, 1, DTYPE_I32);
    return chosen;
}

/* Splits of the first rank, and of the one that is busy longest: the others wait for it. */
static enum status gather_splits(struct context *context, struct mesh *mesh, const struct step_sample *sample,
                                 struct step_report *report)
{
    int ranks = mesh_size(mesh, MESH_TEAM);
    double *all = memory_allocate(context, (size_t)(ranks * TIME_KINDS) * sizeof *all, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, all ? STATUS_OK : STATUS_MEMORY));
    mesh_all_gather(mesh, MESH_TEAM, sample->part, all, ranks, TIME_KINDS, DTYPE_F64);
    double most = -1.0;
    for (int rank = 0; rank < ranks; rank++) {
        const double *part = all + (ptrdiff_t)rank * TIME_KINDS;
        double busy = 0.0;
        for (int kind = 0; kind < TIME_KINDS; kind++)
            busy += kind == TIME_COMMUNICATION ? 0.0 : part[kind];
        if (busy > most) {
            most = busy;
            report->slowest = rank;
            memcpy(report->slowest_part, part, sizeof report->slowest_part);
        }
    }
    memcpy(report->part, all, sizeof report->part);
    report->waiting = sample->waiting / ranks;
    for (int kind = 0; kind < TIME_KINDS; kind++)
        report->mean[kind] = sample->part[kind] / ranks;
    mesh_all_reduce(mesh, MESH_TEAM, report->mean, TIME_KINDS, DTYPE_F64, MESH_SUM);
    mesh_all_reduce(mesh, MESH_TEAM, &report->waiting, 1, DTYPE_F64, MESH_SUM);
    memory_free(context, all);
    return STATUS_OK;
}

static enum status measure_steps(struct trainer *trainer, const struct bench_options *options,
                                 struct step_sample *samples)
{
    struct step_sample ignored;
    struct notice notice;
    int64_t all = options->warmup + options->steps;
    notice_begin(&notice, trainer->context, "measuring", "steps");
    for (int64_t i = 0; i < all; i++) {
        CHECK(run_step(trainer, i < options->warmup ? &ignored : &samples[i - options->warmup]));
        notice_show(&notice, (double)(i + 1), (double)all);
    }
    notice_end(&notice);
    return STATUS_OK;
}

static enum status summarize_tail(const struct trainer *trainer, const struct step_sample *samples, int count,
                                  struct step_report *report)
{
    double *seconds = memory_allocate(trainer->context, (size_t)count * sizeof *seconds, MEMORY_OTHER);
    CHECK(mesh_agree(trainer->mesh, trainer->context, seconds ? STATUS_OK : STATUS_MEMORY));
    for (int i = 0; i < count; i++)
        seconds[i] = samples[i].seconds;
    report->high = measure_quantile(seconds, count, 0.95);
    memory_free(trainer->context, seconds);
    return STATUS_OK;
}

static enum status summarize(struct trainer *trainer, const struct step_sample *samples, int count,
                             struct step_report *report)
{
    const struct config *config = trainer->config;
    const struct step_sample *median = &samples[choose_median(trainer->mesh, samples, count)];
    report->tokens = trainer->batch.rows * trainer->batch.length;
    report->parameters = parameter_list_elements(&trainer->session.parameters);
    report->useful_per_token =
        trainer->model->ops->flops(&config->model, trainer->batch.length, 0.0, &trainer->session.parameters);
    report->seconds = median->seconds;
    report->loss = median->loss;
    report->executed = median->executed;
    mesh_all_reduce(trainer->mesh, MESH_TEAM, &report->executed, 1, DTYPE_F64, MESH_SUM);
    report->least = report->most = median->seconds;
    report->processor = median->processor;
    for (int i = 0; i < count; i++) {
        report->least = fmin(report->least, samples[i].seconds);
        report->most = fmax(report->most, samples[i].seconds);
        report->processor = fmin(report->processor, samples[i].processor);
    }
    report->bubble = pipeline_bubble(trainer->forward_backward) / mesh_size(trainer->mesh, MESH_TEAM);
    mesh_all_reduce(trainer->mesh, MESH_TEAM, &report->bubble, 1, DTYPE_F64, MESH_SUM);
    CHECK(summarize_tail(trainer, samples, count, report));
    CHECK(gather_hosts(trainer->context, trainer->mesh, report));
    return gather_splits(trainer->context, trainer->mesh, median, report);
}

enum status bench_step(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                       const struct bench_options *options)
{
    struct trainer trainer = {.context = context};
    struct step_report report = {.config = config, .mesh = mesh, .engine = engine, .options = options};
    enum dtype dtype = config->compute.type == COMPUTE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    int count = (int)options->steps;
    struct step_sample *samples = memory_allocate(context, (size_t)count * sizeof *samples, MEMORY_OTHER);
    enum status status;
    TRY(mesh_agree(mesh, context, context->status));
    TRY(trainer_create(context, mesh, engine, config, &trainer));
    trainer.model->balanced = options->balanced;
    report.peak_before = measure_peak(mesh, engine, dtype, options->quick, &report.instruction);
    TRY(measure_steps(&trainer, options, samples));
    keep_memory(&trainer, &report);
    report.peak_after = measure_peak(mesh, engine, dtype, options->quick, &report.instruction);
    TRY(summarize(&trainer, samples, count, &report));
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        status = options->json ? step_print_json(context, &report) : (step_print(&report), STATUS_OK);
done:
    trainer_destroy(&trainer);
    memory_free(context, report.hosts);
    memory_free(context, samples);
    return status;
}
