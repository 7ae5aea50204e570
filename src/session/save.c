#include "src/session/save.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "io/config/config.h"
#include "src/session/load.h"
#include "src/session/state_list.h"

enum status header_describe(struct context *context, const struct mesh *mesh, const struct config *config,
                            const char *lines, const char *facts, struct checkpoint_header *header)
{
    const struct mesh_config *sizes = mesh_config(mesh);
    header->seed = (int64_t)config->data.seed;
    snprintf(header->mesh, sizeof header->mesh, "data %lld x pipeline %lld x context %lld x tensor %lld",
             (long long)sizes->data, (long long)sizes->pipeline, (long long)sizes->context, (long long)sizes->tensor);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(header->created, sizeof header->created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(header->data, sizeof header->data, "%s", facts ? facts : "");
    size_t length = config_format(config, header->config, sizeof header->config);
    if (lines && length + strlen(lines) < sizeof header->config)
        length += (size_t)sprintf(header->config + length, "%s", lines);
    if (length >= sizeof header->config)
        return context_fail(context, STATUS_USAGE, "the configuration is longer than a checkpoint can hold");
    return STATUS_OK;
}

enum status session_save(const struct session *session, const char *facts, const char *folder)
{
    struct context *context = session->context;
    struct state_list list = {.context = context};
    const struct state_visitor visitor = state_list_visitor(&list, true);
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    enum status status = header ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK)
        status = header_describe(context, session->mesh, session->config, NULL, facts, header);
    if (status == STATUS_OK)
        status = session_visit(session, &visitor);
    state_list_settle(&list);
    TRY(mesh_agree(session->mesh, context, status));
    status = checkpoint_write(context, session->mesh, folder, header, list.arrays, list.count);
done:
    state_list_destroy(&list);
    memory_free(context, header);
    return status;
}
