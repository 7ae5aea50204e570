/* How tensor ranks share a parameter. */
#include "src/model/decoder_private.h"

int decoder_size(const struct decoder *decoder, enum mesh_axis axis)
{
    return decoder->mesh ? mesh_size(decoder->mesh, axis) : 1;
}

int decoder_rank(const struct decoder *decoder, enum mesh_axis axis)
{
    return decoder->mesh ? mesh_rank(decoder->mesh, axis) : 0;
}

struct parameter_division division_whole(const struct decoder *decoder, int64_t extent)
{
    bool owner = decoder_rank(decoder, MESH_TENSOR) == 0;
    struct range all = {.begin = 0, .count = extent};
    return (struct parameter_division){.axis = 0,
                                       .slice = all,
                                       .owned = {.begin = 0, .count = owner ? extent : 0},
                                       .replicated = decoder_size(decoder, MESH_TENSOR) > 1};
}

struct parameter_division division_units(int axis, struct range part, int64_t unit)
{
    struct range slice = {.begin = part.begin * unit, .count = part.count * unit};
    return (struct parameter_division){.axis = axis, .slice = slice, .owned = slice};
}

struct parameter_division division_even(const struct decoder *decoder, int axis, int64_t extent)
{
    return division_units(
        axis, range_partition(extent, decoder_size(decoder, MESH_TENSOR), decoder_rank(decoder, MESH_TENSOR)), 1);
}

struct parameter_division division_kv_heads(const struct decoder *decoder, int64_t unit)
{
    const struct model_config *config = &decoder->config;
    int64_t group = config->heads / config->kv_heads;
    struct parameter_division division = division_units(0, decoder->kv_heads, unit);
    bool first_is_shared = decoder->heads.begin % group != 0 && decoder->heads.count > 0;
    if (first_is_shared) {
        division.owned.begin += unit;
        division.owned.count -= unit;
    }
    int ranks = decoder_size(decoder, MESH_TENSOR);
    for (int i = 1; i < ranks; i++) {
        struct range heads = range_partition(config->heads, ranks, i);
        if (heads.count > 0 && heads.begin % group != 0)
            division.replicated = division.overlapping = true;
    }
    return division;
}
