#include "src/train/watches.h"

/* What a rank has to compute in a step, in weights times tokens. */
static double share_of_work(const struct trainer *trainer)
{
    const struct parameter_list *list = &trainer->session.parameters;
    const struct batch *batch = &trainer->batch;
    double weights = 0.0;
    for (int i = 0; i < list->count; i++)
        if (list->item[i]->here)
            weights += (double)tensor_count(&list->item[i]->value) * (list->item[i]->frozen ? 2.0 / 3.0 : 1.0);
    return weights * batch->work;
}

enum status watches_create(struct trainer *trainer, const char *folder, struct watches *watches)
{
    const struct watch_config *watch = &trainer->config->watch;
    struct context *context = trainer->context;
    struct mesh *mesh = trainer->mesh;
    double ranks = (double)mesh_size(mesh, MESH_TEAM);
    watches->context = context;
    CHECK(hosts_create(context, mesh, &watches->hosts));
    double share = share_of_work(trainer);
    double sum = share;
    mesh_all_reduce(mesh, MESH_TEAM, &sum, 1, DTYPE_F64, MESH_SUM);
    CHECK(mesh_agree(mesh, context,
                     straggler_create(context, mesh, watch->straggler_factor, watch->straggler_steps,
                                      share * ranks / sum, &watches->stragglers)));
    return watchdog_start(context, mesh, &watches->hosts, folder, watch->hang_seconds, &watches->watchdog);
}

void watches_destroy(struct watches *watches)
{
    if (!watches->context)
        return;
    watchdog_stop(&watches->watchdog);
    straggler_destroy(&watches->stragglers);
    hosts_destroy(watches->context, &watches->hosts);
    watches->context = NULL;
}

enum status watches_step(struct watches *watches, const struct trainer *trainer, double seconds,
                         struct progress *progress, struct metrics *metrics)
{
    int found = straggler_step(&watches->stragglers, seconds);
    for (int i = 0; i < found; i++) {
        const struct straggler *straggler = &watches->stragglers.found[i];
        const char *host = watches->hosts.name[straggler->rank];
        progress_break(progress);
        context_log(watches->context,
                    "rank %d on host %s is slow: %.3g s of work a step, where its peers take %.3g s (%.2f times); look "
                    "for other programs, heat or faults there",
                    straggler->rank, host, straggler->seconds, straggler->peers, straggler->seconds / straggler->peers);
        if (!metrics)
            continue;
        const struct metrics_field fields[] = {
            {"step", (double)trainer->step, true},
            {"straggler_rank", (double)straggler->rank, true},
            {"straggler_seconds", straggler->seconds, false},
            {"straggler_peers_seconds", straggler->peers, false},
        };
        CHECK(metrics_write_text(metrics, fields, (int)(sizeof fields / sizeof *fields), "straggler_host", host));
    }
    return STATUS_OK;
}
