#include "src/train/guard.h"

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

enum status guard_create(struct trainer *trainer, const char *folder, struct guard *guard)
{
    const struct watch_config *watch = &trainer->config->watch;
    struct context *context = trainer->context;
    struct mesh *mesh = trainer->mesh;
    double ranks = (double)mesh_size(mesh, MESH_TEAM);
    guard->context = context;
    CHECK(hosts_create(context, mesh, &guard->hosts));
    double share = share_of_work(trainer);
    double sum = share;
    mesh_all_reduce(mesh, MESH_TEAM, &sum, 1, DTYPE_F64, MESH_SUM);
    CHECK(mesh_agree(mesh, context,
                     straggler_create(context, mesh, watch->straggler_factor, watch->straggler_steps,
                                      share * ranks / sum, &guard->stragglers)));
    return watchdog_start(context, mesh, &guard->hosts, folder, watch->hang_seconds, &guard->watchdog);
}

void guard_destroy(struct guard *guard)
{
    if (!guard->context)
        return;
    watchdog_stop(&guard->watchdog);
    straggler_destroy(&guard->stragglers);
    hosts_destroy(guard->context, &guard->hosts);
    guard->context = NULL;
}

enum status guard_step(struct guard *guard, const struct trainer *trainer, double seconds, struct progress *progress,
                       struct metrics *metrics)
{
    int found = straggler_step(&guard->stragglers, seconds);
    for (int i = 0; i < found; i++) {
        const struct straggler *straggler = &guard->stragglers.found[i];
        const char *host = guard->hosts.name[straggler->rank];
        progress_break(progress);
        context_log(guard->context,
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
