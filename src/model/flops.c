/* Multiplications (each with an addition) that a token takes, on average over its sequence, and the FLOPs they make. */
#include <stdio.h>
#include <string.h>

#include "src/model/decoder.h"
#include "src/model/layers.h"

/* A layer at work on some of a sequence's tokens. */
struct layer_work {
    const struct model_config *config;
    int64_t layer;
    double length;
    double share;     /* of the tokens that take the layer */
    bool shared_keys; /* those of the first recursion, of all tokens */
};

static struct layer_work work_of(const struct model_config *config, int64_t layer, int64_t length, double surplus)
{
    bool shares = recursions_are_routed(config) && config->depth.cache == CACHE_SHARED;
    return (struct layer_work){.config = config,
                               .layer = layer,
                               .length = (double)length,
                               .share = (double)layers_tokens(config, layer, length, surplus) / (double)length,
                               .shared_keys = shares && layers_recursion(config, layer) > 0};
}

/* Pairs of a query and a key that it sees, for a part of the sequence within which attention is causal: active tokens
 * lie evenly in it. */
static double causal_pairs(const struct layer_work *work, double tokens)
{
    double active = work->share * tokens;
    return active * 0.5 * ((work->shared_keys ? tokens : active) + 1.0);
}

static double attention_pairs(const struct layer_work *work)
{
    double active = work->share * work->length;
    if (work->config->attention.kind == ATTENTION_FULL)
        return active * (work->shared_keys ? work->length : active);
    double segment = (double)work->config->attention.segment;
    if (work->config->attention.kind != ATTENTION_INFINI || work->length <= segment)
        return causal_pairs(work, work->length);
    double whole = (double)((int64_t)work->length / work->config->attention.segment);
    return whole * causal_pairs(work, segment) + causal_pairs(work, work->length - whole * segment);
}

/* A read of the memory for each query head; a write for each kv head, for which the delta rules read first, the gated
 * one with a strength that is a product with the layer's input. */
static double memory_products(const struct layer_work *work)
{
    const struct model_config *config = work->config;
    double read = (double)(config->head_width * config->head_width);
    double write = config->attention.memory_update == MEMORY_UPDATE_LINEAR ? read : 2.0 * read;
    if (config->attention.memory_update == MEMORY_UPDATE_GATED_DELTA)
        write += (double)config->width;
    if (config->attention.kind != ATTENTION_INFINI)
        return 0.0;
    return (double)config->heads * read + (work->shared_keys ? 0.0 : (double)config->kv_heads * write);
}

/* Low-rank maps of the connections of a layer: of each state of the residual stream that there is so far, up to
 * `previous`. */
static double residual_products(const struct layer_work *work)
{
    const struct model_config *config = work->config;
    if (config->residual.kind != RESIDUAL_LAUREL)
        return 0.0;
    int64_t connections = config->residual.scope == RESIDUAL_SUBLAYER ? 2 : 1;
    int64_t most = integer_max(1, config->residual.previous);
    double products = 0.0;
    for (int64_t i = 0; i < connections; i++) {
        int64_t states = integer_min(most, work->layer * connections + i + 1);
        products += (double)(states * 2 * config->residual.rank * config->width);
    }
    return products;
}

/* What the layer's recursion adds to its linear layers, which have so many inputs and outputs together. */
static double low_rank_products(const struct layer_work *work)
{
    const struct model_config *config = work->config;
    double width = (double)config->width;
    double query = width + (double)(config->heads * config->head_width);
    double kv = work->shared_keys ? 0.0 : width + (double)(config->kv_heads * config->head_width);
    double mlp = (config->mlp == MLP_SWIGLU ? 3.0 : 2.0) * (width + (double)config->hidden);
    bool shared = layers_use(config, work->layer) >= 0;
    return shared ? (double)config->depth.lora_rank * (2.0 * query + 2.0 * kv + mlp) : 0.0;
}

static double adapter_products(const struct layer_work *work)
{
    int64_t inner = layers_adapter(work->config, layers_stored_of(work->config, work->layer));
    return 2.0 * (double)(inner * work->config->width);
}

/* Of the LoRA maps of a layer, by the inputs and outputs of what they stand beside. */
static double lora_products(const struct layer_work *work)
{
    const struct model_config *config = work->config;
    double width = (double)config->width;
    double query = width + (double)(config->heads * config->head_width);
    double kv = work->shared_keys ? 0.0 : width + (double)(config->kv_heads * config->head_width);
    double inner = width + (double)config->hidden;
    const struct {
        const char *name;
        double sides;
    } maps[] = {{"q_proj", query},
                {"k_proj", kv},
                {"v_proj", kv},
                {"o_proj", query},
                {"gate_proj", config->mlp == MLP_SWIGLU ? inner : 0.0},
                {"up_proj", inner},
                {"down_proj", inner}};
    double products = 0.0;
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        if (layers_lora(config, maps[i].name))
            products += (double)config->lora.rank * maps[i].sides;
    return products;
}

static double layer_products(const struct model_config *config, int64_t layer, int64_t length, double surplus)
{
    struct layer_work work = work_of(config, layer, length, surplus);
    double width = (double)config->width;
    double query = (double)(config->heads * config->head_width);
    double kv = work.shared_keys ? 0.0 : (double)(config->kv_heads * config->head_width);
    double mlp = (config->mlp == MLP_SWIGLU ? 3.0 : 2.0) * width * (double)config->hidden;
    double linear = width * (2.0 * query + 2.0 * kv) + mlp;
    /* A pair has a product with the key and one with the value. */
    double attention = 2.0 * query * attention_pairs(&work) / work.length;
    return work.share * (linear + memory_products(&work) + residual_products(&work) + low_rank_products(&work) +
                         adapter_products(&work) + lora_products(&work)) +
           attention;
}

/* Routers of one value a token, for the tokens that they choose from, or of a depth for each token. */
static double router_products(const struct model_config *config, int64_t length, double surplus)
{
    double width = (double)config->width;
    double products = 0.0;
    double predictor = 0.0;
    /* No gradient goes through the predictor into its input: of its first map's three products there are two. */
    if (config->depth.causal_router == CAUSAL_ROUTER_PREDICTOR)
        predictor = (double)(config->width / 2) * (width * 2.0 / 3.0 + 1.0);
    for (int64_t layer = 0; layer < config->layers; layer++)
        if (layers_routed(config, layer))
            products += width + predictor;
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    if (!recursions_are_routed(config))
        return products;
    if (config->depth.routing == ROUTING_TOKEN)
        return (double)config->depth.recursions * width;
    for (int64_t r = 0; r < config->depth.recursions; r++) {
        int64_t before = r == 0 ? length : layers_tokens(config, first + (r - 1) * count, length, surplus);
        products += width * (double)before / (double)length;
    }
    return products;
}

/* A classifier sees one state of an image; the patches' map gives no gradient to what is before it. */
static double head_products(const struct model_config *config, int64_t length)
{
    double head = (double)config->width * (double)config->vocabulary;
    double patch = (double)(config->image.channels * config->image.patch * config->image.patch);
    if (config->family == FAMILY_DECODER && config->classes == 0)
        return head;
    if (config->family == FAMILY_DECODER)
        return (double)(config->width * config->classes) / (double)length;
    double patches = (double)(length - (config->pooling == POOLING_CLASS));
    return (head + patches * patch * (double)config->width * 2.0 / 3.0) / (double)length;
}

/* What of a layer learns, or of what lies around the layers: one of `prefixes` begins the names. */
struct learning {
    bool any;
    double share; /* of the elements of its matrices */
};

enum { PREFIXES = 3, PREFIX = 64 };

static bool begins_with(const char *name, char prefixes[PREFIXES][PREFIX])
{
    bool begins = false;
    for (int i = 0; i < PREFIXES; i++)
        begins = begins || (prefixes[i][0] && strncmp(name, prefixes[i], strlen(prefixes[i])) == 0);
    return begins;
}

static struct learning learning_of_any(const struct parameter_list *list, char prefixes[PREFIXES][PREFIX])
{
    struct learning learning = {.share = 1.0};
    double all = 0.0;
    double learned = 0.0;
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        if (!begins_with(spec->name, prefixes) || !parameter_counts(list->item[i]))
            continue;
        bool learns = parameter_learns(list->item[i]);
        double elements = spec->rank > 1 ? (double)parameter_elements(spec) : 0.0;
        learning.any = learning.any || learns;
        all += elements;
        learned += learns ? elements : 0.0;
    }
    if (all > 0.0)
        learning.share = learned / all;
    return learning;
}

static struct learning learning_of(const struct parameter_list *list, const char *prefix)
{
    char prefixes[PREFIXES][PREFIX] = {""};
    snprintf(prefixes[0], PREFIX, "%s", prefix);
    return learning_of_any(list, prefixes);
}

/* A layer, its adapter, and what its recursion adds to it. */
static struct learning learning_of_layer(const struct model_config *config, const struct parameter_list *list,
                                         int64_t layer)
{
    char prefixes[PREFIXES][PREFIX] = {""};
    long long stored = (long long)layers_stored_of(config, layer);
    snprintf(prefixes[0], PREFIX, "model.layers.%lld.", stored);
    snprintf(prefixes[2], PREFIX, "model.adapters.%lld.", stored);
    if (layers_use(config, layer) >= 0)
        snprintf(prefixes[1], PREFIX, "model.recursions.%lld.layers.%lld.", (long long)layers_use(config, layer),
                 stored);
    return learning_of_any(list, prefixes);
}

static bool routers_learn(const struct model_config *config, const struct parameter_list *list)
{
    bool learn = learning_of(list, "model.router").any;
    for (int64_t r = 0; config->depth.kind == DEPTH_MOR && r < config->depth.recursions; r++) {
        char prefix[PREFIX];
        snprintf(prefix, sizeof prefix, "model.recursions.%lld.router.", (long long)r);
        learn = learn || learning_of(list, prefix).any;
    }
    return learn;
}

/* Of three products forward and backward those that are needed: that of the input's gradient where something up to here
 * learns, that of the weights' for the share of them that does. */
static double needed(struct learning learning, bool before)
{
    return (1.0 + (before || learning.any ? 1.0 : 0.0) + learning.share) / 3.0;
}

/* What of the layers' and the head's products a model with frozen parameters takes. */
static double learned_products(const struct model_config *config, int64_t length, double surplus,
                               const struct parameter_list *list)
{
    bool before = learning_of(list, "model.embed_").any || routers_learn(config, list);
    double products = 0.0;
    for (int64_t layer = 0; layer < config->layers; layer++) {
        struct learning learning = learning_of_layer(config, list, layer);
        products += needed(learning, before) * layer_products(config, layer, length, surplus);
        before = before || learning.any;
    }
    struct learning head = learning_of(list, config->family == FAMILY_VIT || config->classes > 0 ? "classifier."
                                             : config->tied_embeddings                           ? "model.embed_tokens."
                                                                                                 : "lm_head.");
    head.any = false; /* of a single map the input's gradient is for what lies before */
    return products + needed(head, before) * head_products(config, length);
}

static double layers_products(const struct model_config *config, int64_t length, double surplus)
{
    double products = 0.0;
    for (int64_t layer = 0; layer < config->layers; layer++)
        products += layer_products(config, layer, length, surplus);
    return products;
}

double decoder_flops_per_token(const struct model_config *config, int64_t length, double surplus,
                               const struct parameter_list *list)
{
    double products = list ? learned_products(config, length, surplus, list)
                           : layers_products(config, length, surplus) + head_products(config, length);
    /* A multiplication and an addition, forward once and backward twice. */
    return 6.0 * (products + router_products(config, length, surplus));
}

double decoder_head_cost(const struct model_config *config, int64_t length)
{
    return head_products(config, length) * (double)config->layers / layers_products(config, length, 0.0);
}
