/* What metrics.jsonl tells of memories and routers beside the loss; nothing for models without them.
 *
 *   gate_histogram           [10] gates, as sigmoid(gate), of all heads and stored layers: 0 to 0.1, ..., 0.9 to 1
 *   gate_mean, _min, _max    [stored layers] over the heads
 *   memory_norm, memory_z    [layers with a memory] Frobenius norm of M and mean of z, over heads and carried streams
 *   router_load              [routers] share of all tokens that was chosen: by routed layer, or by recursion
 *   router_selected          [routers] how many tokens that is
 *   router_agreement         [routers] share of the candidates of whom the causal router says the same as the choice
 *   router_precision         [routers] share of those that the causal router lets in that were chosen
 *   router_recall            [routers] share of the chosen that the causal router lets in
 *   router_mean_depth        token choice: recursions that a token takes
 *   router_max_violation     token choice: (tokens of the depth that most take - mean) / mean over the depths
 *   router_entropy           token choice: of a token's probabilities, in nats, the mean; log(recursions) is undecided
 *   router_dead_tokens       Mixture-of-Depths: share of tokens that no routed layer chose
 *
 * Of the step that was just done, over the whole mesh. */
#ifndef CAIRN_TRAIN_WATCH_H
#define CAIRN_TRAIN_WATCH_H

#include "io/metrics/metrics.h"
#include "src/train/progress.h"
#include "src/train/streams.h"
#include "src/train/trainer.h"

enum { WATCH_BINS = 10, WATCH_LISTS = 11, WATCH_FIELDS = 3 };

/* A micro-batch, and which of this rank's sequences is its first. */
struct watch_rows {
    struct watch *watch;
    int64_t first;
};

struct watch {
    struct trainer *trainer;
    const struct streams *streams;
    bool due; /* the step under way is one that is told of */
    int64_t gate_layers, memory_layers, routers;

    double *numbers;          /* all below */
    int64_t summed;           /* how many of them are sums over the mesh: those up to `tokens` */
    double *gates;            /* [gate_layers, heads] */
    double *norm, *z;         /* [memory_layers] */
    double *offered, *chosen; /* [routers], as in struct routing */
    double *judged, *wanted, *admitted, *hits;
    double *entropy; /* [2] its sum, and of how many tokens */
    double *tokens;  /* [2] those that no routed layer chose, and all */
    double *histogram;
    double *gate_mean, *gate_min, *gate_max;
    double *load, *selected, *agreement, *precision, *recall;

    int32_t *taken;          /* [sequences of this rank, length] whether a routed layer chose the token */
    struct watch_rows *rows; /* [micro-batches] */

    struct metrics_list lists[WATCH_LISTS];
    int list_count;
    struct metrics_field fields[WATCH_FIELDS];
    int field_count;
};

/* trainer and streams must outlive it. Local. To be destroyed whatever comes back. */
enum status watch_create(struct context *context, struct trainer *trainer, const struct streams *streams,
                         struct watch *watch) MUST_USE;
void watch_destroy(struct context *context, struct watch *watch);

/* Before a step. Local. */
void watch_begin(struct watch *watch);

/* After it: brings lists and fields up to date if the step is to be logged. Collective. */
void watch_end(struct watch *watch);

/* A line to the person who watches if gates have not moved by step training.gate_warning_steps. Local. */
void watch_warn(const struct watch *watch, struct progress *progress);

/* -- The numbers -- */

/* How many values lie in each tenth of [0, 1]; 1 is in the last, not-a-numbers in none. */
void watch_histogram(const double *values, int64_t count, double bins[WATCH_BINS]);

/* Whether there are gates and all lie within 0.45 to 0.55. */
bool watch_undecided(const double *gates, int64_t count);

/* (largest - mean) / mean of the tokens that end at each depth; taken [depths]: those that go at least as deep. 0
 * without tokens. (MaxVio of Mixture-of-Recursions, appendix F.) */
double watch_max_violation(const double *taken, int64_t depths);

#endif
