/* The hosts of all ranks by name, so that a rank can be named that no longer answers. */
#ifndef CAIRN_WATCH_HOSTS_H
#define CAIRN_WATCH_HOSTS_H

#include "dist/mesh/mesh.h"

enum { HOST_NAME = 64 };

struct hosts {
    int ranks;
    char (*name)[HOST_NAME]; /* [ranks] */
};

/* Collective over the team; agreed status. */
enum status hosts_create(struct context *context, struct mesh *mesh, struct hosts *hosts) MUST_USE;
void hosts_destroy(struct context *context, struct hosts *hosts);

#endif
