#include "src/plan/network.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/core/integer.h"
#include "src/core/text.h"

struct network network_assumed(void)
{
    return (struct network){.within = {.latency = 1e-6, .bandwidth = 4e9},
                            .between = {.latency = 5e-6, .bandwidth = 10e9}};
}

/* -- What a person states -- */

static enum status take_setting(struct context *context, const char *word, struct network *network)
{
    char key[32];
    double value;
    const char *equals = strchr(word, '=');
    const struct {
        const char *key;
        double *value;
    } rows[] = {{"latency", &network->between.latency},
                {"bandwidth", &network->between.bandwidth},
                {"host_latency", &network->within.latency},
                {"host_bandwidth", &network->within.bandwidth}};
    if (!equals || equals == word || (size_t)(equals - word) >= sizeof key || !text_to_real(equals + 1, &value) ||
        !(value > 0.0))
        return context_fail(context, STATUS_USAGE,
                            "--network: \"%s\": expected KEY=NUMBER with a number above 0, as in latency=2e-6", word);
    snprintf(key, sizeof key, "%.*s", (int)(equals - word), word);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].key, key) == 0) {
            *rows[i].value = value;
            return STATUS_OK;
        }
    if (strcmp(key, "ranks_per_host") != 0 || value != floor(value) || value > 1e6)
        return context_fail(context, STATUS_USAGE,
                            "--network: \"%s\": expected latency, bandwidth, host_latency, host_bandwidth or "
                            "ranks_per_host (a whole number)",
                            word);
    network->ranks_per_host = (int64_t)value;
    return STATUS_OK;
}

static enum status take_settings(struct context *context, char *text, struct network *network)
{
    char *rest = NULL;
    for (char *word = strtok_r(text, ", \t\r\n", &rest); word; word = strtok_r(NULL, ", \t\r\n", &rest))
        CHECK(take_setting(context, word, network));
    return STATUS_OK;
}

enum status network_parse(struct context *context, const char *text, struct network *network)
{
    char line[512];
    network->stated = true;
    if (strchr(text, '=')) {
        if (!text_copy(line, sizeof line, text))
            return context_fail(context, STATUS_USAGE, "--network: more than %zu characters", sizeof line - 1);
        return take_settings(context, line, network);
    }
    FILE *file = fopen(text, "r");
    if (!file)
        return context_fail(context, STATUS_USAGE,
                            "--network %s: no such file; settings look like latency=2e-6,bandwidth=12e9", text);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#")] = '\0';
        status = take_settings(context, line, network);
    }
    fclose(file);
    return status;
}

/* -- Costs -- */

const char *network_axis_name(enum mesh_axis axis)
{
    static const char *const names[MESH_AXES] = {
        [MESH_DATA] = "data",     [MESH_PIPELINE] = "pipeline", [MESH_CONTEXT] = "context",
        [MESH_TENSOR] = "tensor", [MESH_REPLICA] = "replica",   [MESH_STAGE] = "stage",
        [MESH_ENDS] = "ends",     [MESH_HOST] = "host",         [MESH_TEAM] = "team"};
    return names[axis];
}

static int64_t axis_size(const struct mesh_config *mesh, enum mesh_axis axis)
{
    switch (axis) {
    case MESH_DATA:
        return mesh->data;
    case MESH_PIPELINE:
        return mesh->pipeline;
    case MESH_CONTEXT:
        return mesh->context;
    case MESH_TENSOR:
        return mesh->tensor;
    case MESH_REPLICA:
        return mesh->data * mesh->context;
    case MESH_STAGE:
        return mesh->data * mesh->context * mesh->tensor;
    case MESH_ENDS:
        return integer_min(2, mesh->pipeline);
    default:
        return mesh->data * mesh->pipeline * mesh->context * mesh->tensor;
    }
}

/* Places in the order of ranks from the first to the last rank of an axis. */
static int64_t axis_reach(const struct mesh_config *mesh, enum mesh_axis axis)
{
    int64_t stage = mesh->context * mesh->tensor;
    int64_t model = stage * mesh->pipeline;
    switch (axis) {
    case MESH_TENSOR:
        return mesh->tensor;
    case MESH_CONTEXT:
        return (mesh->context - 1) * mesh->tensor + 1;
    case MESH_PIPELINE:
        return stage + 1; /* neighbours talk */
    case MESH_ENDS:
        return (mesh->pipeline - 1) * stage + 1;
    case MESH_DATA:
        return (mesh->data - 1) * model + 1;
    case MESH_REPLICA:
        return (mesh->data - 1) * model + (mesh->context - 1) * mesh->tensor + 1;
    case MESH_STAGE:
        return (mesh->data - 1) * model + stage;
    default:
        return mesh->data * model;
    }
}

bool network_crosses(const struct network *network, const struct mesh_config *mesh, enum mesh_axis axis)
{
    return network->ranks_per_host > 0 && axis_reach(mesh, axis) > network->ranks_per_host;
}

/* Bytes that pass a rank's link for a byte that the mesh counts. Gathers count a rank's own part e, reductions the
 * whole, n e, and a ring moves (n - 1) e for either; here there are as many of the one as of the other. The reductions
 * of gradients count the (n - 1) e that they send. Sums go both ways. */
static double moved_for_counted(enum mesh_axis axis, double n)
{
    switch (axis) {
    case MESH_TENSOR:
    case MESH_CONTEXT:
        return 2.0 * (n - 1.0) / (n + 1.0);
    case MESH_REPLICA:
    case MESH_DATA:
        return 2.0 * (n - 1.0) / n;
    case MESH_PIPELINE:
        return 1.0;
    default:
        return 2.0 * (n - 1.0) / n;
    }
}

double network_seconds(const struct network *network, const struct mesh_config *mesh, enum mesh_axis axis, double calls,
                       double bytes)
{
    int64_t size = axis_size(mesh, axis);
    if (size < 2 || calls == 0.0)
        return 0.0;
    if (network->measured[axis])
        return calls * network->call[axis] + bytes * network->byte[axis];
    bool crosses = network_crosses(network, mesh, axis);
    const struct link *link = crosses ? &network->between : &network->within;
    double share = crosses ? link->bandwidth / (double)network->ranks_per_host : link->bandwidth;
    double steps = axis == MESH_PIPELINE ? 1.0 : ceil(log2((double)size));
    return calls * link->latency * steps + bytes * moved_for_counted(axis, (double)size) / share;
}
