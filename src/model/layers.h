/* Unrolled layers, which tokens pass one after the other; the stored layers whose parameters they use
 * (src/model/README.md section 5); see src/model/stages.h for where they run. Functions of a configuration that
 * was checked; local. */
#ifndef CAIRN_MODEL_LAYERS_H
#define CAIRN_MODEL_LAYERS_H

#include "src/core/config.h"
#include "src/core/context.h"
#include "src/core/integer.h"

/* Whether routers choose tokens, for layers or recursions; and for recursions. */
bool depth_is_routed(const struct model_config *config);
bool recursions_are_routed(const struct model_config *config);

/* Whether the first and the last layer are no part of what is shared; whether recursions pass the shared layers as a
 * whole. */
bool layers_middle(const struct model_config *config);
bool layers_cycle(const struct model_config *config);

/* How many layers have parameters, and whose an unrolled layer uses. */
int64_t layers_stored(const struct model_config *config);
int64_t layers_stored_of(const struct model_config *config, int64_t layer);

/* Inner width of the adapter of a stored layer; 0: it has none. */
int64_t layers_adapter(const struct model_config *config, int64_t stored);

/* With sharing `cycle` and `middle_cycle` the shared layers are passed as a whole R times: recursion r is `count`
 * layers from first + r * count on. No layers otherwise (`sequence` repeats each layer at once). */
void layers_shared(const struct model_config *config, int64_t *first, int64_t *count);

/* The recursion, from 0, that an unrolled layer belongs to; -1 for what is outside of them. */
int64_t layers_recursion(const struct model_config *config, int64_t layer);

/* Which of the uses of its stored layer an unrolled layer is, from 0; -1 for what no recursion shares. */
int64_t layers_use(const struct model_config *config, int64_t layer);

/* Whether a linear map of the layers, q_proj or another, has LoRA maps beside it (src/model/README.md section 10). */
bool layers_lora(const struct model_config *config, const char *map);

/* Whether a layer of Mixture-of-Depths has a router. */
bool layers_routed(const struct model_config *config, int64_t layer);

/* Tokens of a sequence of this length that take an unrolled layer in training (src/model/README.md sections 4 and 5);
 * with token choice, when the depths are balanced. Where a router has room for a share c of the tokens, `surplus` makes
 * it c + (1 - c) surplus: 0 is the model's own capacity, 1 is room for all. */
int64_t layers_tokens(const struct model_config *config, int64_t layer, int64_t length, double surplus);

#endif
