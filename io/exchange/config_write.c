/* config.json and what stands beside it, for other programs. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/exchange/exchange_private.h"

static enum status write_text(struct context *context, const char *path, const char *name, const char *text)
{
    char file[EXCHANGE_PATH + 32];
    snprintf(file, sizeof file, "%.1023s/%s", path, name);
    FILE *out = fopen(file, "w");
    bool written = out && fputs(text, out) >= 0;
    if (out)
        written = fclose(out) == 0 && written;
    return written ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: cannot be written: %s", file, strerror(errno));
}

static enum status write_json(struct context *context, const char *path, const char *name, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    enum status status = text ? write_text(context, path, name, text) : STATUS_MEMORY;
    free(text);
    json_decref(root);
    return status;
}

static json_t *token(int64_t id)
{
    return id >= 0 ? json_integer(id) : json_null();
}

static const char *type_name(const struct exchange_card *card)
{
    return card->type == EXCHANGE_BF16 ? "bfloat16" : "float32";
}

/* -- Decoders -- */

/* Rotary settings in both dialects: transformers up to 4 reads the one, from 5 on the other. */
static json_t *form_llama(const struct exchange_card *card)
{
    const struct model_config *model = card->model;
    bool qwen = card->family == EXCHANGE_QWEN2;
    int64_t positions = integer_max(model->max_positions, card->length);
    json_t *root =
        json_pack("{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:{s:s, s:f}, s:n}", "architectures",
                  qwen ? "Qwen2ForCausalLM" : "LlamaForCausalLM", "model_type", qwen ? "qwen2" : "llama", "hidden_act",
                  "silu", "vocab_size", (json_int_t)model->vocabulary, "hidden_size", (json_int_t)model->width,
                  "num_hidden_layers", (json_int_t)model->layers, "num_attention_heads", (json_int_t)model->heads,
                  "num_key_value_heads", (json_int_t)model->kv_heads, "intermediate_size", (json_int_t)model->hidden,
                  "rms_norm_eps", model->norm_epsilon, "rope_theta", model->rope_base, "rope_parameters", "rope_type",
                  "default", "rope_theta", model->rope_base, "rope_scaling");
    json_object_set_new(root, "max_position_embeddings", json_integer(positions));
    if (qwen) {
        json_object_set_new(root, "use_sliding_window", json_false());
        return root;
    }
    json_object_set_new(root, "head_dim", json_integer(model->head_width));
    json_object_set_new(root, "attention_bias", json_false());
    json_object_set_new(root, "mlp_bias", json_false());
    return root;
}

static json_t *form_gpt2(const struct exchange_card *card)
{
    const struct model_config *model = card->model;
    return json_pack("{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "architectures", "GPT2LMHeadModel",
                     "model_type", "gpt2", "activation_function", model->mlp == MLP_GELU ? "gelu_new" : "gelu",
                     "vocab_size", (json_int_t)model->vocabulary, "n_embd", (json_int_t)model->width, "n_layer",
                     (json_int_t)model->layers, "n_head", (json_int_t)model->heads, "n_inner",
                     (json_int_t)model->hidden, "n_positions", (json_int_t)model->max_positions, "layer_norm_epsilon",
                     model->norm_epsilon);
}

static json_t *form_cairn(const struct exchange_card *card)
{
    json_t *root =
        json_pack("{s:[s], s:s, s:{s:s, s:s}, s:s, s:o*}", "architectures", "CairnForCausalLM", "model_type", "cairn",
                  "auto_map", "AutoConfig", "modeling_cairn.CairnConfig", "AutoModelForCausalLM",
                  "modeling_cairn.CairnForCausalLM", "routing", "causal", "cairn", json_loads(card->settings, 0, NULL));
    json_object_set_new(root, "sequence_length", json_integer((json_int_t)card->length));
    return root;
}

static json_t *form_decoder(const struct exchange_card *card)
{
    return card->family == EXCHANGE_CAIRN  ? form_cairn(card)
           : card->family == EXCHANGE_GPT2 ? form_gpt2(card)
                                           : form_llama(card);
}

static enum status write_decoder(struct context *context, const char *path, const struct exchange_card *card)
{
    json_t *root = form_decoder(card);
    json_object_set_new(root, "tie_word_embeddings", json_boolean(card->model->tied_embeddings));
    json_object_set_new(root, "torch_dtype", json_string(type_name(card)));
    json_object_set_new(root, "dtype", json_string(type_name(card)));
    json_object_set_new(root, "bos_token_id", json_null());
    json_object_set_new(root, "eos_token_id", token(card->end));
    CHECK(write_json(context, path, "config.json", root));
    if (card->family == EXCHANGE_CAIRN)
        CHECK(write_text(context, path, "modeling_cairn.py", exchange_modeling));
    return write_json(context, path, "generation_config.json",
                      json_pack("{s:n, s:o, s:b}", "bos_token_id", "eos_token_id", token(card->end), "do_sample", 1));
}

/* -- Models of images -- */

/* timm takes the whole part of the width times this. */
static double mlp_ratio(const struct model_config *model)
{
    double ratio = (double)model->hidden / (double)model->width;
    bool exact = (int64_t)((double)model->width * ratio) == model->hidden;
    return exact ? ratio : ((double)model->hidden + 0.5) / (double)model->width;
}

static json_t *form_arguments(const struct model_config *model)
{
    bool mean = model->pooling == POOLING_MEAN;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:b, s:s}", "img_size", (json_int_t)model->image.size,
                     "patch_size", (json_int_t)model->image.patch, "in_chans", (json_int_t)model->image.channels,
                     "embed_dim", (json_int_t)model->width, "depth", (json_int_t)model->layers, "num_heads",
                     (json_int_t)model->heads, "mlp_ratio", mlp_ratio(model), "class_token", !mean, "fc_norm",
                     mean && model->pooling_norm == POOLING_NORM_AFTER, "global_pool", mean ? "avg" : "token");
}

static json_t *form_pretrained(const struct exchange_card *card)
{
    json_int_t size = card->model->image.size;
    json_t *facts = json_loads(card->facts, 0, NULL);
    json_t *mean = json_object_get(facts, "mean");
    json_t *deviation = json_object_get(facts, "deviation");
    json_t *names = json_object_get(facts, "classes");
    json_t *pretrained = json_pack(
        "{s:[I, I, I], s:I, s:b, s:s}", "input_size", (json_int_t)card->model->image.channels, size, size,
        "num_classes", (json_int_t)card->model->image.classes, "fixed_input_size", 1, "interpolation", "bilinear");
    if (mean && deviation) {
        json_object_set(pretrained, "mean", mean);
        json_object_set(pretrained, "std", deviation);
    }
    if (json_is_array(names))
        json_object_set(pretrained, "label_names", names);
    json_decref(facts);
    return pretrained;
}

/* Blocks of the stages of a residual network. */
static json_t *form_layers(const struct model_config *model)
{
    json_int_t third = (model->depth_preset == RESNET_18 ? 2 : 6) + (json_int_t)model->extra_blocks;
    return model->depth_preset == RESNET_18 ? json_pack("[i, i, I, i]", 2, 2, third, 2)
                                            : json_pack("[i, i, I, i]", 3, 4, third, 3);
}

static enum status write_images(struct context *context, const char *path, const struct exchange_card *card)
{
    static const char *const depths[] = {[RESNET_18] = "resnet18", [RESNET_34] = "resnet34", [RESNET_50] = "resnet50"};
    const struct model_config *model = card->model;
    json_t *root = json_pack("{s:I, s:o}", "num_classes", (json_int_t)model->image.classes, "pretrained_cfg",
                             form_pretrained(card));
    if (card->family == EXCHANGE_RESNET) {
        json_object_set_new(root, "architecture", json_string(depths[model->depth_preset]));
        json_t *arguments = json_pack("{s:I}", "in_chans", (json_int_t)model->image.channels);
        if (model->extra_blocks > 0)
            json_object_set_new(arguments, "layers", form_layers(model));
        json_object_set_new(root, "model_args", arguments);
        json_object_set_new(root, "stem", json_string(model->stem == STEM_SMALL ? "small" : "imagenet"));
        json_object_set_new(root, "width", json_integer((json_int_t)model->width)); /* of the first stage; others: 64 */
    } else {
        bool mean = model->pooling == POOLING_MEAN;
        json_object_set_new(root, "architecture", json_string("vit_tiny_patch16_224"));
        json_object_set_new(root, "global_pool", json_string(mean ? "avg" : "token"));
        json_object_set_new(root, "model_args", form_arguments(model));
    }
    return write_json(context, path, "config.json", root);
}

/* -- The card -- */

static enum status write_card(struct context *context, const char *path, const struct exchange_card *card)
{
    static const char *const uses[] = {
        [EXCHANGE_LLAMA] = "transformers: `AutoModelForCausalLM.from_pretrained(FOLDER)`",
        [EXCHANGE_QWEN2] = "transformers: `AutoModelForCausalLM.from_pretrained(FOLDER)`",
        [EXCHANGE_GPT2] = "transformers: `AutoModelForCausalLM.from_pretrained(FOLDER)`",
        [EXCHANGE_CAIRN] =
            "transformers: `AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)`, by the "
            "file modeling_cairn.py beside this one",
        [EXCHANGE_VIT] = "timm: `timm.create_model(\"local-dir:FOLDER\", pretrained=True)`",
        [EXCHANGE_RESNET] = "timm: `timm.create_model(\"local-dir:FOLDER\", pretrained=True)`; torchvision: "
                            "`model.load_state_dict(safetensors.torch.load_file(FILE))`"};
    char text[4096];
    bool decoder = card->model->family == FAMILY_DECODER;
    bool small = card->family == EXCHANGE_RESNET && card->model->stem == STEM_SMALL;
    const char *note = small
                           ? "\nIts first convolution is one of 3 x 3 with stride 1, and no pooling follows: put such "
                             "a one in place of conv1, and an\nidentity in place of maxpool, before loading it.\n"
                       : decoder && card->model->vocabulary == 256
                           ? "\nIts tokens are bytes: token i is the byte i, and there is no tokenizer.\n"
                       : decoder ? "\nThe tokenizer is not part of this folder.\n"
                                 : "";
    snprintf(text, sizeof text,
             "---\nlibrary_name: %s\n---\n\nTrained with Cairn: step %lld, %lld %s, from `%.512s`. Weights are %s.\n\n"
             "For %s.\n%s",
             decoder ? "transformers" : "timm", (long long)card->step, (long long)card->tokens,
             decoder ? "tokens" : "images", card->source, type_name(card), uses[card->family], note);
    return write_text(context, path, "README.md", text);
}

enum status exchange_write_config(struct context *context, const char *path, const struct exchange_card *card)
{
    if (card->model->family == FAMILY_DECODER)
        CHECK(write_decoder(context, path, card));
    else
        CHECK(write_images(context, path, card));
    return write_card(context, path, card);
}
