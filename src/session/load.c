#include "src/session/load.h"

#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "src/session/state_list.h"

static enum status check_model(const struct session *session, const char *path, const struct checkpoint_header *header)
{
    struct context *context = session->context;
    struct config *stored = memory_allocate(context, sizeof *stored, MEMORY_OTHER);
    if (!stored)
        return STATUS_MEMORY;
    enum status status = config_parse(context, path, header->config, strlen(header->config), NULL, 0, stored);
    if (status == STATUS_OK)
        status = config_same_model(context, &stored->model, &session->config->model, path, "the configuration");
    memory_free(context, stored);
    return status;
}

enum status session_load(struct session *session, const char *path)
{
    struct context *context = session->context;
    struct state_list list = {.context = context};
    const struct state_visitor visitor = state_list_visitor(&list, false);
    enum status status;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    TRY(mesh_agree(session->mesh, context, header ? STATUS_OK : STATUS_MEMORY));
    TRY(checkpoint_read_header(context, session->mesh, path, header));
    status = check_model(session, path, header);
    if (status == STATUS_OK)
        status = replica_visit(session->replica, &session->parameters, &visitor);
    state_list_settle(&list);
    TRY(mesh_agree(session->mesh, context, status));
    TRY(checkpoint_read(context, session->mesh, path, list.arrays, list.count));
    replica_gather_all(session->replica);
done:
    state_list_destroy(&list);
    memory_free(context, header);
    return status;
}
