/* Some tokens of the residual stream, taken out of it and put back. Ranks put in what they have of them and zeros
 * elsewhere, so that what moves has the same size whatever was chosen. */
#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/microbatch.h"

static bool find_source(struct tape *tape, const struct microbatch *microbatch, struct active_tokens *active)
{
    int32_t *source = tape_save(tape, (size_t)microbatch->part.count * sizeof *source);
    if (!source)
        return false;
    for (int64_t n = 0; n < microbatch->part.count; n++)
        source[n] = -1;
    for (int64_t i = 0; i < active->set->list.total; i++)
        if (active->slot[i] >= 0 && microbatch->local[active->slot[i]] >= 0)
            source[microbatch->local[active->slot[i]]] = (int32_t)i;
    active->source = source;
    return true;
}

bool active_tokens_create(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch, const int32_t *slot, const int64_t *begin, int64_t total,
                          struct active_tokens *active)
{
    int32_t *position = tape_save(tape, (size_t)total * sizeof *position);
    const struct shares *shares = microbatch->shares ? shares_of_stretches(tape, decoder->mesh, total) : NULL;
    if (!position || (microbatch->shares && !shares))
        return false;
    for (int64_t i = 0; i < total; i++)
        position[i] = slot[i] >= 0 ? microbatch->tokens.position[slot[i]] : 0;
    struct token_list list = token_list_of(microbatch->tokens.rows, begin, total, position);
    *active = (struct active_tokens){.slot = slot};
    active->set = token_set_create(tape, decoder, input, &list, shares, false);
    return active->set && find_source(tape, microbatch, active);
}

static struct tensor *take(struct tape *tape, struct decoder *decoder, const struct active_tokens *active,
                           const int32_t *index, struct tensor *x)
{
    struct tensor *y = token_take(tape, x, index, active->set->list.total);
    return sequence_scatter(tape, decoder->mesh, shares_scatter(tape, decoder->mesh, y, active->set->shares));
}

bool active_tokens_take(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch,
                        struct active_tokens *active)
{
    int64_t total = active->set->list.total;
    int32_t *index = tape_save(tape, (size_t)total * sizeof *index);
    if (!index)
        return false;
    for (int64_t i = 0; i < total; i++)
        index[i] = active->slot[i] >= 0 ? microbatch->local[active->slot[i]] : -1;
    active->h = take(tape, decoder, active, index, microbatch->h);
    active->history.count = microbatch->history.count;
    for (int j = 0; j < microbatch->history.count; j++)
        active->history.state[j] = take(tape, decoder, active, index, microbatch->history.state[j]);
    return decoder->context->status == STATUS_OK;
}

struct tensor *active_tokens_gather(struct tape *tape, struct decoder *decoder, const struct active_tokens *active,
                                    struct tensor *y)
{
    y = sequence_gather(tape, decoder->mesh, y, active->set->count);
    return shares_gather(tape, decoder->mesh, y, active->set->shares);
}

bool active_tokens_return_history(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch,
                                  const struct active_tokens *active, int64_t connections)
{
    struct history before = microbatch->history;
    struct history *after = &microbatch->history;
    int window = history_window(&decoder->config);
    after->count = (int)integer_min(window, before.count + connections);
    for (int j = 0; j < after->count; j++) {
        if (j >= connections)
            after->state[j] = before.state[j - connections];
        else if (active->whole)
            after->state[j] = active->history.state[j];
        else if (j == connections - 1)
            after->state[j] = microbatch->h; /* the residual stream of the first connection itself */
        else
            after->state[j] =
                token_place(tape, microbatch->h, active_tokens_gather(tape, decoder, active, active->history.state[j]),
                            active->source);
    }
    return decoder->context->status == STATUS_OK;
}
