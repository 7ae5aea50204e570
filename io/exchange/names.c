#include "io/exchange/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/text.h"

/* -- Which family -- */

/* What no other program computes; NULL if there is nothing of it. */
static const char *find_own(const struct model_config *model)
{
    return model->attention.kind == ATTENTION_INFINI ? "model.attention.kind infini"
           : model->residual.kind != RESIDUAL_PLAIN  ? "model.residual.kind laurel"
           : model->depth.kind == DEPTH_MOD          ? "model.depth.kind mod"
           : model->depth.kind == DEPTH_MOR          ? "model.depth.kind mor"
           : model->parallel_block                   ? "model.parallel_block true"
                                                     : NULL;
}

/* Heads that make up the width, each with its own keys: what fused attention can say. */
static bool has_plain_heads(const struct model_config *model)
{
    return model->kv_heads == model->heads && model->heads * model->head_width == model->width;
}

static bool is_classic(const struct model_config *model)
{
    return model->norm == NORM_LAYER && model->bias && !model->attention.bias && has_plain_heads(model);
}

/* What transformers has by itself, or our own. */
static enum exchange_family decoder_family(const struct model_config *model, const char *own)
{
    bool rope = model->positions == POSITIONS_ROPE;
    bool llama = rope && model->norm == NORM_RMS && model->mlp == MLP_SWIGLU && !model->bias;
    if (own)
        return EXCHANGE_CAIRN;
    if (!rope && is_classic(model) && model->mlp != MLP_SWIGLU)
        return EXCHANGE_GPT2;
    if (llama && !model->attention.bias)
        return EXCHANGE_LLAMA;
    return llama && model->heads * model->head_width == model->width ? EXCHANGE_QWEN2 : EXCHANGE_CAIRN;
}

enum status exchange_family_of(struct context *context, const char *what, const struct model_config *model,
                               enum exchange_family *family)
{
    const char *own = find_own(model);
    if (model->lora.rank > 0)
        return context_fail(context, STATUS_USAGE,
                            "%s: model.lora.rank %lld: bring the LoRA maps into the model first, `cairn checkpoint "
                            "convert SOURCE OUTPUT --merge-lora`",
                            what, (long long)model->lora.rank);
    if (model->classes > 0 || model->adapters[0] != '\0')
        own = model->classes > 0 ? "model.classes" : "model.adapters";
    else if (model->family == FAMILY_DECODER) {
        *family = decoder_family(model, own);
        return STATUS_OK;
    }
    if (own)
        return context_fail(context, STATUS_USAGE, "%s: %s, which other programs do not compute: it cannot be exported",
                            what, own);
    *family = model->family == FAMILY_RESNET ? EXCHANGE_RESNET : EXCHANGE_VIT;
    if (model->family == FAMILY_RESNET || (is_classic(model) && model->mlp == MLP_GELU_ERF))
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE,
                        "%s: expected the settings of timm's ViT: model.norm layer, model.bias true, model.mlp "
                        "gelu_erf, as many kv_heads as heads, which make up the width",
                        what);
}

/* -- Names -- */

enum form {
    FORM_SAME,
    FORM_TURNED, /* a matrix [in, out] */
    FORM_KERNEL, /* [out, channels, patch, patch] */
    FORM_ONE,    /* a 1 in front of the shape */
    FORM_TWO,    /* two of them */
};

struct rule {
    const char *ours;
    const char *theirs;
    enum form form;
    int part, parts; /* a part of the rows, of several that are alike */
};

/* GPT-2 and ViT: rules of a layer, behind its prefix, and of the rest. Biases are not turned. */
static const struct rule gpt2_layer[] = {
    {"input_layernorm", "ln_1", FORM_SAME, 0, 1},
    {"post_attention_layernorm", "ln_2", FORM_SAME, 0, 1},
    {"self_attn.q_proj", "attn.c_attn", FORM_TURNED, 0, 3},
    {"self_attn.k_proj", "attn.c_attn", FORM_TURNED, 1, 3},
    {"self_attn.v_proj", "attn.c_attn", FORM_TURNED, 2, 3},
    {"self_attn.o_proj", "attn.c_proj", FORM_TURNED, 0, 1},
    {"mlp.up_proj", "mlp.c_fc", FORM_TURNED, 0, 1},
    {"mlp.down_proj", "mlp.c_proj", FORM_TURNED, 0, 1},
    {0},
};
static const struct rule gpt2_rest[] = {
    {"model.embed_tokens", "transformer.wte", FORM_SAME, 0, 1},
    {"model.embed_positions", "transformer.wpe", FORM_SAME, 0, 1},
    {"model.norm", "transformer.ln_f", FORM_SAME, 0, 1},
    {"lm_head", "lm_head", FORM_SAME, 0, 1},
    {0},
};
static const struct rule vit_layer[] = {
    {"input_layernorm", "norm1", FORM_SAME, 0, 1},
    {"post_attention_layernorm", "norm2", FORM_SAME, 0, 1},
    {"self_attn.q_proj", "attn.qkv", FORM_SAME, 0, 3},
    {"self_attn.k_proj", "attn.qkv", FORM_SAME, 1, 3},
    {"self_attn.v_proj", "attn.qkv", FORM_SAME, 2, 3},
    {"self_attn.o_proj", "attn.proj", FORM_SAME, 0, 1},
    {"mlp.up_proj", "mlp.fc1", FORM_SAME, 0, 1},
    {"mlp.down_proj", "mlp.fc2", FORM_SAME, 0, 1},
    {0},
};
static const struct rule vit_rest[] = {
    {"model.embed_patches", "patch_embed.proj", FORM_KERNEL, 0, 1},
    {"model.class_token.weight", "cls_token", FORM_TWO, 0, 1},
    {"model.embed_positions.weight", "pos_embed", FORM_ONE, 0, 1},
    {"model.norm", "norm", FORM_SAME, 0, 1},
    {"classifier", "head", FORM_SAME, 0, 1},
    {0},
};

/* The rule for a name or the part of it before its last dot; `rest` is what is behind that. */
static const struct rule *find_rule(const struct rule *rules, const char *name, const char **rest)
{
    for (const struct rule *rule = rules; rule->ours; rule++) {
        size_t length = strlen(rule->ours);
        *rest = name + length;
        if (strncmp(name, rule->ours, length) == 0 &&
            (**rest == '\0' || (**rest == '.' && strchr(*rest + 1, '.') == NULL)))
            return rule;
    }
    return NULL;
}

/* `prefix` of the tensor and the rule's form of a shape. */
static void apply_rule(const struct rule *rule, const struct model_config *model, const char *prefix, const char *rest,
                       int rank, const int64_t *shape, struct exchange_place *place)
{
    enum form form = rank == 2 || rule->form == FORM_TWO ? rule->form : FORM_SAME;
    int more = form == FORM_ONE ? 1 : form == FORM_TWO ? 2 : 0;
    snprintf(place->name, sizeof place->name, "%s%s%s", prefix, rule->theirs, rest);
    place->rank = rank + more;
    for (int d = 0; d < more; d++)
        place->shape[d] = 1;
    for (int d = 0; d < rank; d++)
        place->shape[more + d] = shape[d];
    if (form == FORM_KERNEL) {
        place->rank = 4;
        place->shape[1] = model->image.channels;
        place->shape[2] = place->shape[3] = model->image.patch;
    }
    place->row = rule->part * shape[0];
    place->shape[0] *= more ? 1 : rule->parts;
    if (form == FORM_TURNED) {
        int64_t rows = place->shape[0];
        place->transposed = true;
        place->shape[0] = place->shape[1];
        place->shape[1] = rows;
    }
}

static void place_renamed(const struct rule *layer_rules, const char *layer_prefix, const struct rule *rest_rules,
                          const struct model_config *model, const char *name, int rank, const int64_t *shape,
                          struct exchange_place *place)
{
    static const char layers[] = "model.layers.";
    char prefix[64] = "";
    const struct rule *rules = rest_rules;
    const char *rest;
    if (strncmp(name, layers, sizeof layers - 1) == 0) {
        char *end;
        long long layer = strtoll(name + sizeof layers - 1, &end, 10);
        snprintf(prefix, sizeof prefix, "%s%lld.", layer_prefix, layer);
        rules = layer_rules;
        name = end + (*end == '.');
    }
    const struct rule *rule = find_rule(rules, name, &rest);
    if (rule)
        apply_rule(rule, model, prefix, rest, rank, shape, place);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

bool exchange_place_of(enum exchange_family family, const struct model_config *model, const char *name, int rank,
                       const int64_t *shape, struct exchange_place *place)
{
    *place = (struct exchange_place){.rank = rank};
    if (ends_with(name, ".num_batches_tracked"))
        return false;
    if (family == EXCHANGE_GPT2) {
        place_renamed(gpt2_layer, "transformer.h.", gpt2_rest, model, name, rank, shape, place);
        return true;
    }
    if (family == EXCHANGE_VIT) {
        place_renamed(vit_layer, "blocks.", vit_rest, model, name, rank, shape, place);
        if (model->pooling == POOLING_MEAN && model->pooling_norm == POOLING_NORM_AFTER &&
            strncmp(name, "model.norm.", 11) == 0)
            snprintf(place->name, sizeof place->name, "fc_%s", name + strlen("model."));
        return true;
    }
    text_copy(place->name, sizeof place->name, name);
    memcpy(place->shape, shape, (size_t)rank * sizeof *shape);
    return true;
}

bool exchange_needless(const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                       ".num_batches_tracked"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i]))
            return true;
    return false;
}
