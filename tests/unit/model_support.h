/* Models that tests describe without memory for their parameters. */
#ifndef CAIRN_TESTS_MODEL_SUPPORT_H
#define CAIRN_TESTS_MODEL_SUPPORT_H

#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/decoder.h"

/* SmolLM-360M, the base of the paper on Mixture-of-Recursions; its table of embeddings is its head. */
static inline struct model_config base_360m(int64_t layers)
{
    return (struct model_config){.vocabulary = 49152,
                                 .width = 960,
                                 .layers = layers,
                                 .heads = 15,
                                 .kv_heads = 5,
                                 .head_width = 64,
                                 .hidden = 2560,
                                 .tied_embeddings = true};
}

static inline struct model_config recursive_360m(int64_t layers, int64_t recursions, enum routing_kind routing)
{
    struct model_config config = base_360m(layers);
    config.depth.kind = DEPTH_MOR;
    config.depth.sharing = SHARING_MIDDLE_CYCLE;
    config.depth.recursions = recursions;
    config.depth.routing = routing;
    return config;
}

static inline struct model_config small(void)
{
    return (struct model_config){.vocabulary = 64,
                                 .width = 12,
                                 .layers = 4,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_width = 6,
                                 .hidden = 20,
                                 .residual = {.scope = RESIDUAL_SUBLAYER},
                                 .attention = {.segment = 4},
                                 .depth = {.every = 2, .capacity = 0.25, .recursions = 2, .sharing = SHARING_CYCLE}};
}

static inline void describe(struct context *context, const struct model_config *config, struct parameter_list *list)
{
    context_create(context);
    parameter_list_create(context, list);
    assert_ok(context, decoder_describe(context, config, list));
}

static inline void forget(struct context *context, struct parameter_list *list)
{
    parameter_list_destroy(list);
    assert_int_equal(context->memory.bytes_total, 0);
}

/* Products of a layer's seven low-rank maps of rank 3, which are their elements, and of those of keys and values. */
enum { LOW_RANK = 3 * (2 * (12 + 24) + 2 * (12 + 12) + 3 * (12 + 20)), KV_LOW_RANK = 3 * 2 * (12 + 12) };

static inline struct model_config with_low_rank(void)
{
    struct model_config config = small();
    config.depth.kind = DEPTH_MOR;
    config.depth.lora_rank = 3;
    return config;
}

#endif
