/* What messages cost. */
#ifndef CAIRN_PLAN_NETWORK_H
#define CAIRN_PLAN_NETWORK_H

#include "src/plan/rehearsal.h"

struct link {
    double latency;   /* seconds */
    double bandwidth; /* bytes a second, of all ranks of a host together between hosts, of each within */
};

struct network {
    int64_t ranks_per_host; /* 0: all ranks are on one host, this one */
    struct link within, between;
    bool stated; /* by the person; otherwise assumed */
    /* Measured on the very mesh: seconds of a call and of a byte, by axis; used where measured[axis] is set. */
    bool measured[MESH_AXES];
    double call[MESH_AXES], byte[MESH_AXES];
};

/* What is taken for granted when nobody says otherwise. */
struct network network_assumed(void);

/* "latency=2e-6,bandwidth=12e9,ranks_per_host=8", in seconds and bytes a second, or the name of a file with such
 * settings, one or more a line, # before a remark; host_latency and host_bandwidth are those within a host.
 * USAGE error. */
enum status network_parse(struct context *context, const char *text, struct network *network) MUST_USE;

/* Seconds of `calls` calls with `bytes` bytes as the mesh counts them, on one axis of the mesh, if nothing else is on
 * the network but the same of the other ranks. */
double network_seconds(const struct network *network, const struct mesh_config *mesh, enum mesh_axis axis, double calls,
                       double bytes);

/* Whether the ranks of an axis are on several hosts. */
bool network_crosses(const struct network *network, const struct mesh_config *mesh, enum mesh_axis axis);

/* A word for an axis: "data", "pipeline", ... */
const char *network_axis_name(enum mesh_axis axis);

#endif
