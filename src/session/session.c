#include "src/session/session.h"

#include "src/session/freeze.h"

static enum status create_parts(struct session *session, const struct model_ops *ops,
                                const struct optimizer_ops *optimizer)
{
    const struct config *config = session->config;
    struct context *context = session->context;
    CHECK(model_create(context, session->mesh, session->engine, config, ops, &session->parameters, &session->model));
    CHECK(context->status); /* declaring does not stop when memory is out */
    if (session->trains)
        CHECK(freeze_parameters(context, config, &session->parameters));
    CHECK(optimizer_prepare(context, session->trains ? session->mesh : NULL, &config->optimizer, optimizer,
                            &session->parameters));
    return replica_create(context, session->mesh, session->engine, &session->parameters, session->model.dtype,
                          config->compute.bucket_bytes, session->trains, &session->replica);
}

enum status session_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, const struct model_ops *ops,
                           const struct optimizer_ops *optimizer, bool trains, struct session *session)
{
    *session = (struct session){.context = context, .mesh = mesh, .engine = engine, .config = config, .trains = trains};
    parameter_list_create(context, &session->parameters);
    arena_create(&session->work, context, MEMORY_ACTIVATIONS);
    pool_create(&session->pool, context, MEMORY_ACTIVATIONS);
    CHECK(mesh_agree(mesh, context, create_parts(session, ops, optimizer)));
    if (!context->dry)
        replica_initialize(session->replica, config->training.seed);
    return STATUS_OK;
}

void session_destroy(struct session *session)
{
    if (!session->context)
        return;
    replica_destroy(&session->replica);
    model_destroy(&session->model);
    parameter_list_destroy(&session->parameters);
    arena_destroy(&session->work);
    pool_destroy(&session->pool);
}
