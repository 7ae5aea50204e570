/* RUN/starts.jsonl: when a run was started and how each start ended, from which its failure rate follows. A JSON object
 * a line, written by one rank:
 *
 *   {"start": T, "step": N}                                    T in Unix seconds; the step it went on from
 *   {"end": T, "step": N, "exit": CODE, "checkpoint_seconds": S}
 *   {"lost": T}                                                written by the next start, when there was no end
 *
 * A start that was killed leaves no end: it lasted until metrics.jsonl was last written. Lines that are torn or of
 * another kind are passed over, and stay. What cannot be written waits in memory (io/records). */
#ifndef CAIRN_IO_HISTORY_H
#define CAIRN_IO_HISTORY_H

#include "src/core/context.h"

struct history;

struct history_summary {
    int64_t starts;            /* before this one */
    int64_t failures;          /* of them that were lost, or ended with 1 */
    double seconds;            /* that they ran, together */
    double checkpoint_seconds; /* of the last that wrote one; 0 for none */
};

/* Sums up what the folder's file says and notes a start. To be called before metrics.jsonl is written to. */
enum status history_open(struct context *context, const char *folder, int64_t step, struct history_summary *summary,
                         struct history **history) MUST_USE;

/* Tries to write what waits. */
void history_retry(struct history *history);

/* Notes the end and frees the history. An end that cannot be written counts as a failure, no more. */
void history_close(struct history **history, int64_t step, int code, double checkpoint_seconds);

#endif
