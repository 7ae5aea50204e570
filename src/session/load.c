#include "src/session/load.h"

#include <stdio.h>
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

/* Names an array of /parameters once more, as its average. */
static enum status visit_average(void *self, const struct state_array *array)
{
    static const char parameters[] = "/parameters/";
    const struct state_visitor *visitor = self;
    struct state_array average = *array;
    if (strncmp(array->name, parameters, sizeof parameters - 1) != 0)
        return STATUS_OK;
    average.optional = true;
    snprintf(average.name, sizeof average.name, "/optimizer/average/%s", array->name + sizeof parameters - 1);
    return visitor->array(visitor->self, &average);
}

enum status session_visit(const struct session *session, const struct state_visitor *visitor)
{
    struct state_visitor given = *visitor;
    const struct state_visitor averages = {.self = &given, .writes = visitor->writes, .array = visit_average};
    CHECK(replica_visit(session->replica, &session->parameters, visitor));
    if (session->trains || session->config->training.average == 0.0)
        return STATUS_OK;
    /* Into the same memory: what is there is read last. */
    return replica_visit(session->replica, &session->parameters, &averages);
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
        status = session_visit(session, &visitor);
    state_list_settle(&list);
    TRY(mesh_agree(session->mesh, context, status));
    TRY(checkpoint_read(context, session->mesh, path, list.arrays, list.count));
    replica_gather_all(session->replica);
done:
    state_list_destroy(&list);
    memory_free(context, header);
    return status;
}
