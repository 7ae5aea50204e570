#include "src/model/layers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/model/decoder.h"

/* -- Unrolled and stored: section 5 -- */

bool depth_is_routed(const struct model_config *config)
{
    return config->depth.kind == DEPTH_MOD || recursions_are_routed(config);
}

bool recursions_are_routed(const struct model_config *config)
{
    return config->depth.kind == DEPTH_MOR && config->depth.routing != ROUTING_NONE;
}

bool layers_middle(const struct model_config *config)
{
    return config->depth.sharing == SHARING_MIDDLE_CYCLE || config->depth.sharing == SHARING_MIDDLE_SEQUENCE;
}

bool layers_cycle(const struct model_config *config)
{
    return config->depth.kind == DEPTH_MOR &&
           (config->depth.sharing == SHARING_CYCLE || config->depth.sharing == SHARING_MIDDLE_CYCLE);
}

/* Layers that are stored once for all recursions. */
static int64_t shared_layers(const struct model_config *config)
{
    return (layers_middle(config) ? config->layers - 2 : config->layers) / config->depth.recursions;
}

int64_t layers_stored(const struct model_config *config)
{
    if (config->depth.kind != DEPTH_MOR)
        return config->layers;
    return (layers_middle(config) ? 2 : 0) + shared_layers(config);
}

int64_t layers_stored_of(const struct model_config *config, int64_t layer)
{
    if (config->depth.kind != DEPTH_MOR)
        return layer;
    int64_t before = layers_middle(config) ? 1 : 0;
    if (layers_middle(config) && layer == 0)
        return 0;
    if (layers_middle(config) && layer == config->layers - 1)
        return layers_stored(config) - 1;
    if (layers_cycle(config))
        return before + (layer - before) % shared_layers(config);
    return before + (layer - before) / config->depth.recursions;
}

int64_t layers_adapter(const struct model_config *config, int64_t stored)
{
    char *end = NULL;
    const char *at = config->adapters;
    int64_t width = 0;
    for (int64_t layer = 0; layer <= stored; layer++, at = end) {
        width = strtoll(at, &end, 10);
        if (end == at)
            return 0;
    }
    return width;
}

void layers_shared(const struct model_config *config, int64_t *first, int64_t *count)
{
    *first = layers_cycle(config) && layers_middle(config) ? 1 : 0;
    *count = layers_cycle(config) ? shared_layers(config) : 0;
}

int64_t layers_recursion(const struct model_config *config, int64_t layer)
{
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    bool inside = layer >= first && layer < first + config->depth.recursions * count;
    return inside && count > 0 ? (layer - first) / count : -1;
}

int64_t layers_use(const struct model_config *config, int64_t layer)
{
    int64_t before = layers_middle(config) ? 1 : 0;
    if (config->depth.kind != DEPTH_MOR || layer < before || layer >= config->layers - before)
        return -1;
    return layers_cycle(config) ? (layer - before) / shared_layers(config)
                                : (layer - before) % config->depth.recursions;
}

bool layers_lora(const struct model_config *config, const char *map)
{
    const struct text_list *targets = &config->lora.targets;
    bool named = targets->count == 0;
    for (int i = 0; i < targets->count; i++)
        named = named || strcmp(targets->item[i], map) == 0;
    return named && config->lora.rank > 0;
}

bool layers_routed(const struct model_config *config, int64_t layer)
{
    return config->depth.kind == DEPTH_MOD && (layer + 1) % config->depth.every == 0;
}

int64_t layers_tokens(const struct model_config *config, int64_t layer, int64_t length, double surplus)
{
    double capacity = config->depth.capacity;
    if (layers_routed(config, layer))
        return integer_max(1, (int64_t)floor((capacity + (1.0 - capacity) * surplus) * (double)length));
    int64_t recursion = layers_recursion(config, layer);
    if (recursion < 0 || config->depth.routing == ROUTING_NONE)
        return length;
    int64_t recursions = config->depth.recursions;
    int64_t more = (int64_t)floor(surplus * (double)(recursion * length));
    return integer_max(1, ((recursions - recursion) * length + more) / recursions);
}
