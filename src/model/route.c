/* What routers share: scores of all tokens, choices, losses. */
#include <string.h>

#include "src/core/random.h"
#include "src/model/decoder_private.h"
#include "src/model/microbatch.h"

float *route_collect(struct tape *tape, struct decoder *decoder, const struct microbatch *microbatch, const float *part)
{
    float *own = arena_allocate(tape->work, (size_t)microbatch->count * sizeof *own);
    float *all = microbatch->shares ? arena_allocate(tape->work, (size_t)microbatch->tokens.total * sizeof *all) : own;
    if (!own || !all)
        return NULL;
    mesh_all_gather(decoder->mesh, MESH_TENSOR, part, own, microbatch->count, 1, DTYPE_F32);
    if (microbatch->shares && !shares_collect(tape, decoder->mesh, own, microbatch->shares, all))
        return NULL;
    return all;
}

double route_draw(int64_t row, int64_t position, int64_t index)
{
    uint64_t key = random_key((uint64_t)index, "balanced routing");
    return random_uniform(key, (uint64_t)row << 32 | (uint64_t)position);
}

void route_balance(const struct decoder *decoder, const struct decoder_input *input,
                   const struct microbatch *microbatch, int64_t most, int64_t index, float *scores)
{
    if (!decoder->model->balanced || !input->causal)
        return;
    double share = (double)most / (double)input->length;
    for (int64_t row = 0; row < microbatch->tokens.rows; row++)
        for (int64_t slot = microbatch->tokens.begin[row]; slot < microbatch->tokens.end[row]; slot++)
            scores[slot] = route_draw(row, microbatch->tokens.position[slot], index) < share ? 1.0f : -1.0f;
}

static bool route_may_choose(const struct microbatch *microbatch, const struct decoder_input *input, int64_t row,
                             int64_t slot)
{
    return !input->valid || microbatch->tokens.position[slot] < input->valid[row];
}

int64_t route_slots(const struct decoder *decoder, const struct decoder_input *input,
                    const struct microbatch *microbatch, const int64_t *begin, int64_t most)
{
    const struct mesh *mesh = decoder->mesh;
    bool alone =
        mesh_size(mesh, MESH_TENSOR) == 1 && mesh_size(mesh, MESH_CONTEXT) == 1 && mesh_size(mesh, MESH_PIPELINE) == 1;
    /* A product's rounding may depend on its size, and that of a causal pass must not depend on later tokens. */
    if (alone && (input->cache || !input->causal))
        return begin[microbatch->tokens.rows];
    return input->begin ? microbatch->tokens.total : microbatch->tokens.rows * most;
}

bool route_choose(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                  const struct microbatch *microbatch, const float *scores, const uint8_t *candidates, int64_t most,
                  struct choice *choice)
{
    const struct token_list *tokens = &microbatch->tokens;
    int32_t *chosen = tape_save(tape, (size_t)tokens->total * sizeof *chosen);
    int64_t *begin = tape_save(tape, (size_t)(tokens->rows + 1) * sizeof *begin);
    struct arena_mark mark = arena_mark(tape->work);
    uint8_t *allowed = arena_allocate(tape->work, (size_t)tokens->total + 1);
    if (!chosen || !begin || !allowed)
        return false;
    begin[0] = 0;
    for (int64_t row = 0; row < tokens->rows; row++) {
        int64_t first = tokens->begin[row];
        int64_t count = tokens->end[row] - first;
        int64_t found = 0;
        int32_t *into = chosen + begin[row];
        for (int64_t slot = first; slot < first + count; slot++)
            allowed[slot] = (!candidates || candidates[slot]) && route_may_choose(microbatch, input, row, slot);
        if (!input->causal) {
            found = token_select(tape->work, scores + first, allowed + first, count, most, into);
        } else {
            for (int64_t i = 0; i < count; i++)
                if (allowed[first + i] && scores[first + i] > 0.0f)
                    into[found++] = (int32_t)i;
        }
        for (int64_t i = 0; i < found; i++)
            into[i] += (int32_t)first;
        begin[row + 1] = begin[row] + found;
    }
    arena_rewind(tape->work, mark);
    int64_t longest = input->causal ? input->length : most;
    *choice = (struct choice){
        .slot = chosen, .begin = begin, .total = route_slots(decoder, input, microbatch, begin, longest)};
    for (int64_t i = begin[tokens->rows]; i < choice->total; i++)
        chosen[i] = -1;
    return true;
}

void route_account(struct decoder *decoder, const struct decoder_input *input, const struct microbatch *microbatch,
                   enum selection_kind kind, int64_t index, const struct choice *choice)
{
    struct router_counts *counts = &decoder->router_counts[index];
    counts->offered += microbatch->tokens.total;
    counts->chosen += choice->begin[microbatch->tokens.rows];
    if (!input->see_selection)
        return;
    struct decoder_selection selection = {.kind = kind,
                                          .index = index,
                                          .rows = microbatch->tokens.rows,
                                          .begin = choice->begin,
                                          .slot = choice->slot,
                                          .position = microbatch->tokens.position};
    input->see_selection(input->see_self, &selection);
}

bool route_learn(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct tensor *scores, const uint8_t *candidates,
                 const struct choice *choice, double scale, int64_t index)
{
    int8_t *target = tape_save(tape, (size_t)microbatch->part.count);
    if (!target || !scores)
        return false;
    for (int64_t row = 0; row < microbatch->tokens.rows; row++)
        for (int64_t slot = microbatch->tokens.begin[row]; slot < microbatch->tokens.end[row]; slot++) {
            bool candidate = (!candidates || candidates[slot]) && route_may_choose(microbatch, input, row, slot);
            if (microbatch->local[slot] >= 0)
                target[microbatch->local[slot]] = candidate ? 0 : -1;
        }
    for (int64_t i = 0; i < choice->begin[microbatch->tokens.rows]; i++)
        if (microbatch->local[choice->slot[i]] >= 0)
            target[microbatch->local[choice->slot[i]]] = 1;
    struct router_counts *counts = &decoder->router_counts[index];
    const float *score = scores->data;
    for (int64_t n = 0; n < microbatch->part.count; n++) {
        counts->judged += target[n] >= 0;
        counts->wanted += target[n] > 0;
        counts->admitted += target[n] >= 0 && score[n] > 0.0f;
        counts->hits += target[n] > 0 && score[n] > 0.0f;
    }
    return router_cross_entropy(tape, scores, target, (float)scale, &decoder->model->auxiliary_loss);
}
