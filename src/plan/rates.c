#include "src/plan/rates.h"

#include <pthread.h>

#include "dist/parallel/schedule.h"
#include "src/core/integer.h"
#include "src/model/model.h"

/* A step of the measured model takes about as many operations at most, and no fewer tokens than these to get there. */
static const double most_flops = 2e10;
enum { LEAST_TOKENS = 128, LEAST_VOCABULARY = 4096, MICRO_BATCHES = 2 };
static const double seconds_each = 0.4;

/* -- The model that is measured -- */

/* The part of the first tensor rank. */
static void narrow(struct model_config *model, int64_t tensor)
{
    int64_t group = model->heads / model->kv_heads;
    model->heads = range_partition(model->heads, tensor, 0).count;
    model->kv_heads = integer_divide_up(model->heads, group);
    while (model->heads % model->kv_heads != 0)
        model->kv_heads++;
    model->hidden = range_partition(model->hidden, tensor, 0).count;
    model->vocabulary = integer_max(2, range_partition(model->vocabulary, tensor, 0).count);
}

/* The fewest layers with all that the model has. */
static int64_t least_layers(const struct model_config *model)
{
    bool middle = model->depth.sharing == SHARING_MIDDLE_CYCLE || model->depth.sharing == SHARING_MIDDLE_SEQUENCE;
    if (model->depth.kind == DEPTH_MOR)
        return model->depth.recursions + (middle ? 2 : 0);
    return model->depth.kind == DEPTH_MOD ? model->depth.every : 1;
}

static double step_flops(const struct config *config)
{
    const struct training_config *training = &config->training;
    return model_find(&config->model)->flops(&config->model, training->sequence_length, 0.0, NULL) *
           (double)(training->batch * training->sequence_length);
}

static void shrink(struct config *config)
{
    struct training_config *training = &config->training;
    int64_t least = least_layers(&config->model);
    while (step_flops(config) > most_flops && config->model.layers >= 2 * least && config->model.layers % 2 == 0 &&
           config->model.depth.kind != DEPTH_MOR)
        config->model.layers /= 2;
    if (step_flops(config) > most_flops)
        config->model.layers = least;
    while (step_flops(config) > most_flops && config->model.vocabulary >= 2 * LEAST_VOCABULARY)
        config->model.vocabulary /= 2;
    while (step_flops(config) > most_flops && training->micro_batch > 1) {
        training->micro_batch /= 2;
        training->batch = MICRO_BATCHES * training->micro_batch;
    }
    /* That of images follows from their size. */
    while (step_flops(config) > most_flops && training->sequence_length >= 2 * LEAST_TOKENS &&
           !family_of_images(config->model.family))
        training->sequence_length /= 2;
}

static void choose_model(const struct config *config, const struct mesh_config *mesh, struct config *probe)
{
    struct training_config *training = &probe->training;
    *probe = *config;
    if (config->model.family != FAMILY_RESNET) /* which has no parts */
        narrow(&probe->model, mesh->tensor);
    int64_t rows = range_partition(training->batch, mesh->data, 0).count;
    training->micro_batch = integer_max(1, integer_min(training->micro_batch, rows));
    training->batch = MICRO_BATCHES * training->micro_batch;
    training->sequence_length = integer_max(1, integer_divide_up(training->sequence_length, mesh->context));
    training->capacity_warmup_steps = 0;
    probe->data.sampling = SAMPLING_SHUFFLE;
    probe->optimizer.matrix_ranks = 1;
    shrink(probe);
}

/* -- Side by side -- */

struct probe {
    pthread_t thread;
    bool started;
    struct context context;
    const struct config *config;
    int threads;
    enum status status;
    struct rehearsal timed;
};

static void *run_probe(void *argument)
{
    struct probe *probe = argument;
    probe->status = rehearse_alone(&probe->context, probe->config, probe->threads, seconds_each, &probe->timed);
    return NULL;
}

/* Of what one rank took for what was counted. */
static void find_rates(const struct rehearsal *counted, const struct rehearsal *timed, struct rates *rates)
{
    for (int pass = 0; pass < 2; pass++) {
        const struct rehearsal_work *count = &counted->pass[pass][0];
        const struct rehearsal_work *time = &timed->pass[pass][0];
        if (count->flops[TIME_PRODUCTS] > 0.0)
            rates->product[pass] = time->seconds[TIME_PRODUCTS] / count->flops[TIME_PRODUCTS];
        if (count->flops[TIME_ATTENTION] > 0.0)
            rates->attention[pass] = time->seconds[TIME_ATTENTION] / count->flops[TIME_ATTENTION];
        if (count->elements[TIME_COMPUTE] > 0.0)
            rates->element[pass] = time->seconds[TIME_COMPUTE] / count->elements[TIME_COMPUTE];
    }
    rates->spread = timed->spread;
    double elements = counted->rest.elements[TIME_COMPUTE] + counted->rest.elements[TIME_OPTIMIZER];
    double seconds = timed->rest.seconds[TIME_COMPUTE] + timed->rest.seconds[TIME_OPTIMIZER];
    rates->update = elements > 0.0 ? seconds / elements : 0.0;
    double flops = counted->rest.flops[TIME_PRODUCTS];
    rates->direction = flops > 0.0 ? timed->rest.seconds[TIME_PRODUCTS] / flops : 0.0;
}

static double seconds_of(const struct rehearsal *timed)
{
    double seconds = 0.0;
    for (int kind = 0; kind < TIME_KINDS; kind++)
        seconds += timed->pass[0][0].seconds[kind] + timed->pass[1][0].seconds[kind];
    return seconds;
}

/* The others of a step wait for it. */
static const struct rehearsal *slowest_of(const struct probe *probes, int ranks)
{
    const struct rehearsal *slowest = &probes[0].timed;
    for (int i = 1; i < ranks; i++)
        if (seconds_of(&probes[i].timed) > seconds_of(slowest))
            slowest = &probes[i].timed;
    return slowest;
}

static enum status run_probes(struct context *context, const struct config *config, int ranks, int threads,
                              struct probe *probes)
{
    for (int i = 0; i < ranks; i++) {
        context_create(&probes[i].context);
        probes[i].context.quiet = true;
        probes[i].config = config;
        probes[i].threads = threads;
        probes[i].started = pthread_create(&probes[i].thread, NULL, run_probe, &probes[i]) == 0;
    }
    enum status status = STATUS_OK;
    for (int i = 0; i < ranks; i++) {
        if (probes[i].started)
            pthread_join(probes[i].thread, NULL);
        if (!probes[i].started)
            status = context_fail(context, STATUS_MEMORY, "cannot start a thread to measure with");
        else if (probes[i].status != STATUS_OK)
            status = context_fail(context, probes[i].status, "%s", probes[i].context.text);
    }
    return status;
}

enum status rates_measure(struct context *context, const struct config *config, const struct mesh_config *mesh,
                          int ranks, int threads, struct rates *rates)
{
    const struct mesh_config alone = {1, 1, 1, 1, 1};
    enum status status = STATUS_MEMORY;
    struct config *model = memory_allocate(context, sizeof *model, MEMORY_OTHER);
    struct rehearsal *counted = memory_allocate(context, sizeof *counted, MEMORY_OTHER);
    struct probe *probes = memory_allocate(context, (size_t)ranks * sizeof *probes, MEMORY_OTHER);
    *rates = (struct rates){0};
    if (!model || !counted || !probes)
        goto done;
    choose_model(config, mesh, model);
    TRY(rehearse(context, model, &alone, 0, threads, counted));
    TRY(run_probes(context, model, ranks, threads, probes));
    find_rates(counted, slowest_of(probes, ranks), rates);
done:
    memory_free(context, model);
    memory_free(context, counted);
    memory_free(context, probes);
    return status;
}

/* -- Work -- */

double rates_pass(const struct rates *rates, int pass, const struct rehearsal_work *work)
{
    return rates->product[pass] * work->flops[TIME_PRODUCTS] + rates->attention[pass] * work->flops[TIME_ATTENTION] +
           rates->element[pass] * work->elements[TIME_COMPUTE];
}

double rates_rest(const struct rates *rates, const struct rehearsal_work *work)
{
    return rates->update * (work->elements[TIME_COMPUTE] + work->elements[TIME_OPTIMIZER]) +
           rates->direction * work->flops[TIME_PRODUCTS];
}
