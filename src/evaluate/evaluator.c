#include "src/evaluate/evaluator.h"

#include <math.h>
#include <string.h>

static void form_packet(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    const struct evaluator *evaluator = self;
    evaluator->session->model.ops->form(evaluator->batch, micro_batch, model_chunk, form);
}

static bool run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                      struct packet *out)
{
    struct evaluator *evaluator = self;
    return evaluator->session->model.ops->forward(tape, evaluator->batch, micro_batch, chunk, in, out);
}

struct pipeline_stage evaluator_stage(struct evaluator *evaluator)
{
    return (struct pipeline_stage){.self = evaluator, .form = form_packet, .forward = run_stage};
}

enum status evaluator_pipeline(const struct evaluator *evaluator, bool forward_only, struct pipeline **pipeline)
{
    struct session *session = evaluator->session;
    const struct batch *batch = evaluator->batch;
    struct pipeline_shape shape = {.chunks = session->model.chunks,
                                   .micro_batches = batch->micro_batches,
                                   .packet_bytes = session->model.ops->packet_bytes(batch),
                                   .forward_only = forward_only};
    return pipeline_create(session->context, session->mesh, session->engine, &session->work, &session->pool, &shape,
                           pipeline);
}

static enum status create_parts(struct evaluator *evaluator)
{
    const struct training_config *training = &evaluator->session->config->training;
    if (evaluator->batch == &evaluator->own)
        CHECK(batch_create(&evaluator->session->model, training->batch, training->micro_batch, &evaluator->own));
    return evaluator_pipeline(evaluator, true, &evaluator->forward);
}

enum status evaluator_create(struct session *session, struct batch *batch, struct evaluator *evaluator)
{
    *evaluator = (struct evaluator){.session = session, .batch = batch ? batch : &evaluator->own};
    return mesh_agree(session->mesh, session->context, create_parts(evaluator));
}

void evaluator_destroy(struct evaluator *evaluator)
{
    pipeline_destroy(&evaluator->forward);
    batch_destroy(&evaluator->own);
}

/* The last stage knows the loss of its tokens; one of its tensor ranks brings it to the sum. Routers' losses belong to
 * the tokens of each rank. */
void evaluator_sum(const struct evaluator *evaluator, double loss, struct pass_result *result)
{
    struct session *session = evaluator->session;
    struct mesh *mesh = session->mesh;
    bool speaks =
        mesh_rank(mesh, MESH_TENSOR) == 0 && mesh_rank(mesh, MESH_PIPELINE) == mesh_size(mesh, MESH_PIPELINE) - 1;
    enum { OWN = 4, SUMS = OWN + VOTES };
    double sums[SUMS] = {speaks ? loss : 0.0, result->norm_squares, session->model.auxiliary_loss, result->executed};
    if (evaluator->voter.cast)
        evaluator->voter.cast(evaluator->voter.self, sums + OWN);
    mesh_all_reduce(mesh, MESH_TEAM, sums, SUMS, DTYPE_F64, MESH_SUM);
    result->loss = evaluator->batch->target_count > 0 || session->context->dry ? sums[0] : NAN;
    result->norm_squares = sums[1];
    result->router_loss = sums[2];
    result->executed = sums[3];
    memcpy(result->votes, sums + OWN, sizeof result->votes);
}

enum status evaluator_pass(struct evaluator *evaluator, struct pass_result *result)
{
    struct session *session = evaluator->session;
    const struct pipeline_stage stage = evaluator_stage(evaluator);
    double own = 0.0;
    double before = time_flops(&session->context->time);
    session->model.auxiliary_loss = 0.0;
    CHECK(pipeline_run(evaluator->forward, &stage, NULL, &own));
    *result = (struct pass_result){.executed = time_flops(&session->context->time) - before};
    evaluator_sum(evaluator, own, result);
    return STATUS_OK;
}
