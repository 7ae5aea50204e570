#include "src/train/trainer.h"

#include <math.h>
#include <string.h>

#include "src/ops/ops.h"

/* -- Creation and end -- */

static enum status create_optimizer(struct trainer *trainer, const struct optimizer_ops *ops)
{
    const struct replica *replica = trainer->session.replica;
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    return optimizer_create(trainer->context, trainer->mesh, &trainer->config->optimizer, ops, shards, count,
                            &trainer->optimizer);
}

static enum status create_parts(struct trainer *trainer, const struct optimizer_ops *ops)
{
    const struct config *config = trainer->config;
    struct session *session = &trainer->session;
    CHECK(create_optimizer(trainer, ops));
    if (config->training.average > 0.0) {
        int count;
        const struct shard *shards = replica_shards(session->replica, &count);
        CHECK(average_create(trainer->context, shards, count, replica_state_count(session->replica),
                             config->training.average, &trainer->average));
    }
    if (config->watch.compare_every)
        CHECK(comparison_create(trainer->context, trainer->mesh, trainer->engine, &session->parameters,
                                session->replica, &trainer->comparison));
    if (config->watch.spike_factor > 0.0)
        CHECK(spike_create(trainer->context, &config->watch, &trainer->spikes));
    return batch_create(trainer->model, config->training.batch, config->training.micro_batch, &trainer->batch);
}

enum status trainer_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, struct trainer *trainer)
{
    return trainer_create_with(context, mesh, engine, config, NULL, NULL, trainer);
}

enum status trainer_create_with(struct context *context, struct mesh *mesh, struct engine *engine,
                                const struct config *config, const struct model_ops *model,
                                const struct optimizer_ops *optimizer, struct trainer *trainer)
{
    *trainer = (struct trainer){.context = context, .mesh = mesh, .engine = engine, .config = config, .sound = true};
    trainer->optimizer.context = context;
    CHECK(session_create(context, mesh, engine, config, model, optimizer, true, &trainer->session));
    trainer->model = &trainer->session.model;
    trainer->listener = replica_listener(trainer->session.replica);
    CHECK(mesh_agree(mesh, context, create_parts(trainer, optimizer)));
    CHECK(evaluator_create(&trainer->session, &trainer->batch, &trainer->evaluator));
    return mesh_agree(mesh, context, evaluator_pipeline(&trainer->evaluator, false, &trainer->forward_backward));
}

void trainer_destroy(struct trainer *trainer)
{
    pipeline_destroy(&trainer->forward_backward);
    evaluator_destroy(&trainer->evaluator);
    comparison_destroy(&trainer->comparison);
    spike_destroy(&trainer->spikes);
    average_destroy(&trainer->average);
    optimizer_destroy(&trainer->optimizer);
    batch_destroy(&trainer->batch);
    session_destroy(&trainer->session);
}

/* -- Steps -- */

static void take_pass(const struct pass_result *pass, struct step_result *result)
{
    result->loss = pass->loss;
    result->router_loss = pass->router_loss;
    result->gradient_norm = sqrt(pass->norm_squares);
    result->executed = pass->executed;
    memcpy(result->votes, pass->votes, sizeof result->votes);
}

/* The warm-up of the routers' capacity after so many steps: half a cosine from all tokens down to the model's own. */
static double capacity_surplus(const struct training_config *training, int64_t steps)
{
    double progress = (double)steps / (double)integer_max(1, training->capacity_warmup_steps);
    if (steps >= training->capacity_warmup_steps)
        return 0.0;
    return 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
}

enum status trainer_gradients(struct trainer *trainer, struct step_result *result)
{
    struct replica *replica = trainer->session.replica;
    struct pipeline_stage stage = evaluator_stage(&trainer->evaluator);
    double loss = 0.0;
    double executed = time_flops(&trainer->context->time);
    stage.acted = trainer->acted;
    stage.acted_self = trainer->acted_self;
    trainer->model->auxiliary_loss = 0.0;
    trainer->model->surplus = result->surplus = capacity_surplus(&trainer->config->training, trainer->step);
    replica_begin(replica);
    trainer->batch.training = true;
    enum status status = pipeline_run(trainer->forward_backward, &stage, &trainer->listener, &loss);
    trainer->batch.training = false;
    CHECK(status);
    trainer->model->surplus = 0.0;
    replica_finish(replica);
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    struct pass_result pass = {.executed = time_flops(&trainer->context->time) - executed};
    pass.norm_squares = optimizer_norm_squares(trainer->engine, shards, count);
    evaluator_sum(&trainer->evaluator, loss, &pass);
    take_pass(&pass, result);
    return STATUS_OK;
}

static bool comparison_due(const struct trainer *trainer, int64_t step)
{
    return trainer->comparison && !trainer->context->dry && step % trainer->config->watch.compare_every == 0;
}

/* Of what learns: nothing happens to the rest. */
double trainer_parameter_size(struct trainer *trainer)
{
    int count;
    const struct shard *shards = replica_shards(trainer->session.replica, &count);
    double sums[2] = {0.0, 0.0};
    for (int i = 0; i < count; i++) {
        struct range owned = parameter_owned(shards[i].parameter, shards[i].flat);
        sums[0] += sum_of_squares(trainer->engine, shards[i].master + owned.begin - shards[i].flat.begin, owned.count);
        sums[1] += (double)owned.count;
    }
    mesh_all_reduce(trainer->mesh, MESH_TEAM, sums, 2, DTYPE_F64, MESH_SUM);
    return sqrt(sums[0] / sums[1]);
}

void trainer_swap_average(struct trainer *trainer)
{
    if (!trainer->average)
        return;
    if (trainer->update_listener.before)
        trainer->update_listener.before(trainer->update_listener.self);
    average_swap(trainer->average);
    replica_gather(trainer->session.replica);
}

enum status trainer_compare(struct trainer *trainer)
{
    return trainer->comparison ? comparison_run(trainer->comparison) : STATUS_OK;
}

enum status trainer_loss(struct trainer *trainer, struct step_result *result)
{
    struct pass_result pass;
    CHECK(evaluator_pass(&trainer->evaluator, &pass));
    take_pass(&pass, result);
    return STATUS_OK;
}

static bool is_sound(struct trainer *trainer, double loss)
{
    double even = log((double)trainer->config->model.vocabulary);
    if (trainer->loss_limit == 0.0)
        trainer->loss_limit = 2.0 * fmax(loss, even);
    return loss <= trainer->loss_limit;
}

/* As in training, where trainer_loss evaluates; what routers would learn is nothing, either. */
static enum status pass_forward(struct trainer *trainer, struct step_result *result)
{
    trainer->model->surplus = result->surplus = capacity_surplus(&trainer->config->training, trainer->step);
    CHECK(trainer_loss(trainer, result));
    trainer->model->surplus = 0.0;
    result->router_loss = result->gradient_norm = NAN;
    return STATUS_OK;
}

enum status trainer_step(struct trainer *trainer, struct step_result *result)
{
    struct replica *replica = trainer->session.replica;
    struct location_mark *location = &trainer->context->location;
    location_step(location, trainer->step + 1);
    result->no_target = trainer->batch.target_count == 0;
    CHECK(result->no_target ? pass_forward(trainer, result) : trainer_gradients(trainer, result));
    location_work(location, LOCATION_OPTIMIZER);
    trainer->step++;
    trainer->sequences += trainer->batch.rows;
    trainer->tokens += trainer->batch.token_count;
    result->rate = schedule_rate(&trainer->config->optimizer, trainer->config->training.steps, trainer->step);
    result->skipped = false;
    if (result->no_target)
        return comparison_due(trainer, trainer->step) ? trainer_compare(trainer) : STATUS_OK;
    /* What a dry run computes has no meaning. */
    result->skipped = !trainer->context->dry &&
                      (!isfinite(result->loss) || !isfinite(result->router_loss) || !isfinite(result->gradient_norm));
    /* The values that passes have used, before new ones cover up what was wrong with them. */
    if (comparison_due(trainer, trainer->step))
        CHECK(trainer_compare(trainer));
    trainer->sound = !result->skipped && is_sound(trainer, result->loss);
    if (result->skipped) {
        trainer->skipped++;
        trainer->skipped_in_row++;
        return STATUS_OK;
    }
    trainer->skipped_in_row = 0;
    double scale = optimizer_clip_scale(&trainer->config->optimizer, result->gradient_norm);
    comparison_forget(trainer->comparison);
    if (trainer->update_listener.before)
        trainer->update_listener.before(trainer->update_listener.self);
    trainer->updates++;
    CHECK(optimizer_update(&trainer->optimizer, trainer->engine, trainer->mesh, trainer->updates, result->rate, scale));
    if (trainer->average)
        average_update(trainer->average, trainer->updates);
    replica_gather(replica);
    replica_average_buffers(replica);
    if (comparison_due(trainer, trainer->step + 1))
        comparison_note(trainer->comparison);
    return STATUS_OK;
}
