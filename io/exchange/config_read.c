/* config.json of others as settings of ours. What is not known to change the arithmetic is passed over, as files are
 * full of such keys; what does, and is not supported, is refused by its name and value. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/exchange/exchange_private.h"

struct reading {
    struct context *context;
    const char *path; /* of the file */
    const json_t *root;
    struct exchange_model *model;
    size_t used;
};

static PRINTF_LIKE(2, 3) enum status put(struct reading *reading, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = EXCHANGE_SETTINGS - reading->used;
    int length = vsnprintf(reading->model->settings + reading->used, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        return context_fail(reading->context, STATUS_FILE, "%s: its values are too long", reading->path);
    reading->used += (size_t)length;
    return STATUS_OK;
}

/* A key that is there and not null. */
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum status refuse(const struct reading *reading, const char *key, const json_t *value, const char *expected)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    enum status status = context_fail(reading->context, STATUS_FILE, "%s: %s: expected %s, got %.80s", reading->path,
                                      key, expected, text ? text : "nothing");
    free(text);
    return status;
}

/* A whole number from 1 on; the standard, unless negative, where there is none. */
static enum status read_count(const struct reading *reading, const json_t *object, const char *key, int64_t standard,
                              int64_t *count)
{
    const json_t *value = value_of(object, key);
    *count = value ? json_integer_value(value) : standard;
    if ((value && !json_is_integer(value)) || *count < 1 || *count > INT32_MAX)
        return refuse(reading, key, value, "a number from 1 to 2147483647");
    return STATUS_OK;
}

static enum status read_real(const struct reading *reading, const json_t *object, const char *key, double standard,
                             double *number)
{
    const json_t *value = value_of(object, key);
    *number = value ? json_number_value(value) : standard;
    if ((value && !json_is_number(value)) || !isfinite(*number) || *number <= 0.0)
        return refuse(reading, key, value, "a number above 0");
    return STATUS_OK;
}

static enum status read_truth(const struct reading *reading, const json_t *object, const char *key, bool standard,
                              bool *truth)
{
    const json_t *value = value_of(object, key);
    *truth = value ? json_is_true(value) : standard;
    return value && !json_is_boolean(value) ? refuse(reading, key, value, "true or false") : STATUS_OK;
}

/* One of the words, which end with NULL; the first where there is none. Its place in the list. */
static enum status read_word(const struct reading *reading, const json_t *object, const char *key,
                             const char *const *words, const char *expected, int *word)
{
    const json_t *value = value_of(object, key);
    const char *text = json_string_value(value);
    *word = 0;
    if (!value)
        return STATUS_OK;
    for (; text && words[*word]; ++*word)
        if (strcmp(text, words[*word]) == 0)
            return STATUS_OK;
    return refuse(reading, key, value, expected);
}

/* Keys whose presence, with a value other than false, null, 0 and 1.0, means arithmetic that is not ours. */
static enum status refuse_others(const struct reading *reading)
{
    static const char *const keys[] = {"quantization_config",
                                       "num_experts",
                                       "num_local_experts",
                                       "n_routed_experts",
                                       "kv_lora_rank",
                                       "alibi",
                                       "use_alibi",
                                       "logits_scaling",
                                       "attention_bias",
                                       "mlp_bias",
                                       "residual_multiplier",
                                       "embedding_multiplier",
                                       "add_cross_attention",
                                       "use_sliding_window",
                                       "attention_multiplier",
                                       "scale_attn_by_inverse_layer_idx",
                                       "attn_logit_softcapping",
                                       "final_logit_softcapping",
                                       "partial_rotary_factor"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = value_of(reading->root, keys[i]);
        bool harmless = !value || json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0.0) ||
                        (json_is_real(value) && json_number_value(value) == 1.0);
        if (!harmless)
            return refuse(reading, keys[i], value, "a model without it, which is not supported");
    }
    return STATUS_OK;
}

/* -- Decoders -- */

/* Both dialects: rope_parameters of newer files, rope_theta and rope_scaling of older ones. */
static enum status read_rope(const struct reading *reading, double *base)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    CHECK(read_real(reading, reading->root, "rope_theta", 10000.0, base));
    for (int i = 1; i >= 0; i--) {
        const json_t *rope = value_of(reading->root, keys[i]);
        if (!rope)
            continue;
        const json_t *kind = value_of(rope, "rope_type");
        const json_t *partial = value_of(rope, "partial_rotary_factor");
        const char *name = json_string_value(kind ? kind : value_of(rope, "type"));
        if (!json_is_object(rope) || (name ? strcmp(name, "default") != 0 : value_of(rope, "factor") != NULL))
            return refuse(reading, keys[i], rope, "rope_type default; others are not supported");
        if (partial && json_number_value(partial) != 1.0)
            return refuse(reading, "partial_rotary_factor", partial, "1.0; others are not supported");
        CHECK(read_real(reading, rope, "rope_theta", *base, base));
    }
    return STATUS_OK;
}

/* What else a run begins with: the token that ends documents, and sequences that the model has positions for. */
static enum status put_run(struct reading *reading, int64_t vocabulary, int64_t positions)
{
    const json_t *end = value_of(reading->root, "eos_token_id");
    int64_t token = json_is_integer(end) ? json_integer_value(end) : -1;
    CHECK(put(reading, "training: {sequence_length: %lld}\n", (long long)integer_min(positions, 1024)));
    return token >= 0 && token < vocabulary ? put(reading, "data: {eot: %lld}\n", (long long)token) : STATUS_OK;
}

static enum status read_llama(struct reading *reading, bool qwen)
{
    static const char *const acts[] = {"silu", NULL};
    const json_t *root = reading->root;
    int64_t vocabulary, width, layers, heads, kv_heads, head_width, hidden, positions;
    double base, epsilon;
    bool tied;
    int word;
    const json_t *window = value_of(root, "sliding_window");
    if (window && !qwen)
        return refuse(reading, "sliding_window", window, "null; windows of attention are not supported");
    CHECK(read_word(reading, root, "hidden_act", acts, "silu; others are not supported", &word));
    CHECK(read_count(reading, root, "vocab_size", -1, &vocabulary));
    CHECK(read_count(reading, root, "hidden_size", -1, &width));
    CHECK(read_count(reading, root, "num_hidden_layers", -1, &layers));
    CHECK(read_count(reading, root, "num_attention_heads", -1, &heads));
    CHECK(read_count(reading, root, "num_key_value_heads", heads, &kv_heads));
    CHECK(read_count(reading, root, "head_dim", integer_max(1, width / heads), &head_width));
    CHECK(read_count(reading, root, "intermediate_size", -1, &hidden));
    CHECK(read_count(reading, root, "max_position_embeddings", 2048, &positions));
    CHECK(read_real(reading, root, "rms_norm_eps", 1e-6, &epsilon));
    CHECK(read_truth(reading, root, "tie_word_embeddings", false, &tied));
    CHECK(read_rope(reading, &base));
    CHECK(put(reading,
              "model: {family: decoder, vocabulary: %lld, width: %lld, layers: %lld, heads: %lld, kv_heads: %lld, "
              "head_width: %lld, hidden: %lld, mlp: swiglu, norm: rms, norm_epsilon: %.17g, positions: rope, "
              "rope_base: %.17g, max_positions: %lld, tied_embeddings: %s, attention: {bias: %s}}\n",
              (long long)vocabulary, (long long)width, (long long)layers, (long long)heads, (long long)kv_heads,
              (long long)head_width, (long long)hidden, epsilon, base, (long long)positions, tied ? "true" : "false",
              qwen ? "true" : "false"));
    return put_run(reading, vocabulary, positions);
}

static enum status read_gpt2(struct reading *reading)
{
    static const char *const acts[] = {"gelu_new", "gelu_pytorch_tanh", "gelu", NULL};
    const json_t *root = reading->root;
    int64_t vocabulary, width, layers, heads, hidden, positions;
    double epsilon;
    bool tied, scaled;
    int word;
    CHECK(read_word(reading, root, "activation_function", acts, "gelu_new, gelu_pytorch_tanh or gelu", &word));
    CHECK(read_count(reading, root, "vocab_size", -1, &vocabulary));
    CHECK(read_count(reading, root, "n_embd", -1, &width));
    CHECK(read_count(reading, root, "n_layer", -1, &layers));
    CHECK(read_count(reading, root, "n_head", -1, &heads));
    CHECK(read_count(reading, root, "n_inner", 4 * width, &hidden));
    CHECK(read_count(reading, root, "n_positions", 1024, &positions));
    CHECK(read_real(reading, root, "layer_norm_epsilon", 1e-5, &epsilon));
    CHECK(read_truth(reading, root, "tie_word_embeddings", true, &tied));
    CHECK(read_truth(reading, root, "scale_attn_weights", true, &scaled));
    if (!scaled)
        return refuse(reading, "scale_attn_weights", value_of(root, "scale_attn_weights"), "true");
    CHECK(put(reading,
              "model: {family: decoder, vocabulary: %lld, width: %lld, layers: %lld, heads: %lld, hidden: %lld, "
              "mlp: %s, norm: layer, norm_epsilon: %.17g, positions: learned, max_positions: %lld, bias: true, "
              "tied_embeddings: %s}\n",
              (long long)vocabulary, (long long)width, (long long)layers, (long long)heads, (long long)hidden,
              word == 2 ? "gelu_erf" : "gelu", epsilon, (long long)positions, tied ? "true" : "false"));
    return put_run(reading, vocabulary, positions);
}

/* -- Models of images, as timm describes them -- */

/* Takes both arrays. */
static enum status put_facts(struct reading *reading, json_t *mean, json_t *deviation, const json_t *names,
                             int64_t classes)
{
    json_t *facts = json_pack("{s:o, s:o, s:o}", "mean", mean, "deviation", deviation, "classes",
                              names ? json_deep_copy(names) : json_integer(classes));
    size_t length = json_dumpb(facts, reading->model->facts, EXCHANGE_FACTS - 1, JSON_COMPACT);
    if (length >= EXCHANGE_FACTS) { /* names that do not fit are left out, as in training */
        json_object_set_new(facts, "classes", json_integer(classes));
        length = json_dumpb(facts, reading->model->facts, EXCHANGE_FACTS - 1, JSON_COMPACT);
    }
    reading->model->facts[length < EXCHANGE_FACTS ? length : 0] = '\0';
    json_decref(facts);
    return STATUS_OK;
}

/* The facts of a checkpoint of images, where pretrained_cfg has them. */
static enum status read_facts(struct reading *reading, const json_t *pretrained, int64_t classes, int64_t channels)
{
    const json_t *names = value_of(pretrained, "label_names");
    json_t *mean = json_object_get(pretrained, "mean");
    json_t *deviation = json_object_get(pretrained, "std");
    if (!json_is_array(mean) || !json_is_array(deviation)) {
        if (channels != 3)
            return STATUS_OK;
        context_log(reading->context,
                    "%s: says no pretrained_cfg with mean and std of images; those of ImageNet are taken",
                    reading->path);
        return put_facts(reading, json_pack("[f, f, f]", 0.485, 0.456, 0.406),
                         json_pack("[f, f, f]", 0.229, 0.224, 0.225), NULL, classes);
    }
    if (!json_is_array(names) || (int64_t)json_array_size(names) != classes)
        names = NULL;
    return put_facts(reading, json_incref(mean), json_incref(deviation), names, classes);
}

/* A number, or two that are the same: rows and columns. */
static enum status read_side(const struct reading *reading, const json_t *object, const char *key, int64_t standard,
                             int64_t *side)
{
    const json_t *value = value_of(object, key);
    if (!json_is_array(value))
        return read_count(reading, object, key, standard, side);
    const json_t *rows = json_array_get(value, 0);
    *side = json_integer_value(rows);
    bool square = json_array_size(value) == 2 && json_is_integer(rows) && json_equal(rows, json_array_get(value, 1));
    return square && *side > 0 && *side <= INT32_MAX ? STATUS_OK
                                                     : refuse(reading, key, value, "as many rows as columns");
}

struct image_reading {
    const json_t *arguments;  /* model_args */
    const json_t *pretrained; /* pretrained_cfg */
    int64_t classes, channels, size;
};

static enum status read_image(struct reading *reading, int64_t size, struct image_reading *image)
{
    image->arguments = value_of(reading->root, "model_args");
    image->pretrained = value_of(reading->root, "pretrained_cfg");
    const json_t *input = value_of(image->pretrained, "input_size");
    const json_t *first = json_array_get(input, 0);
    const json_t *last = json_array_get(input, 2);
    int64_t channels = json_is_integer(first) ? json_integer_value(first) : 3;
    if (json_is_integer(last))
        size = json_integer_value(last);
    CHECK(read_count(reading, reading->root, "num_classes", 1000, &image->classes));
    CHECK(read_count(reading, image->arguments, "num_classes", image->classes, &image->classes));
    CHECK(read_count(reading, image->arguments, "in_chans", channels, &image->channels));
    CHECK(read_side(reading, image->arguments, "img_size", size, &image->size));
    return read_facts(reading, image->pretrained, image->classes, image->channels);
}

static enum status check_arguments(const struct reading *reading, const json_t *arguments, const char *const *known)
{
    void *next = json_object_iter((json_t *)arguments);
    for (; next; next = json_object_iter_next((json_t *)arguments, next)) {
        const char *key = json_object_iter_key(next);
        const char *const *name = known;
        while (*name && strcmp(*name, key) != 0)
            name++;
        if (!*name)
            return refuse(reading, key, json_object_iter_value(next), "a model without it, which is not supported");
    }
    return STATUS_OK;
}

static enum status read_pooling(const struct reading *reading, const json_t *arguments, bool *mean, bool *after)
{
    static const char *const words[] = {"token", "avg", NULL};
    bool class_token;
    int pooling;
    CHECK(read_word(reading, reading->root, "global_pool", words, "token or avg", &pooling));
    if (value_of(arguments, "global_pool"))
        CHECK(read_word(reading, arguments, "global_pool", words, "token or avg", &pooling));
    CHECK(read_truth(reading, arguments, "class_token", true, &class_token));
    CHECK(read_truth(reading, arguments, "fc_norm", pooling == 1, after));
    *mean = pooling == 1;
    if (*mean == class_token)
        return refuse(reading, "class_token", value_of(arguments, "class_token"),
                      *mean ? "false with global_pool avg" : "true with global_pool token");
    if (*after && !*mean)
        return refuse(reading, "fc_norm", value_of(arguments, "fc_norm"), "false with global_pool token");
    return STATUS_OK;
}

static enum status read_vit(struct reading *reading, const char *architecture)
{
    static const struct {
        const char *name;
        int width, layers, heads;
    } sizes[] = {{"tiny", 192, 12, 3},
                 {"small", 384, 12, 6},
                 {"base", 768, 12, 12},
                 {"large", 1024, 24, 16},
                 {"huge", 1280, 32, 16}};
    static const char *const known[] = {"img_size",  "patch_size", "in_chans",    "num_classes", "embed_dim", "depth",
                                        "num_heads", "mlp_ratio",  "class_token", "global_pool", "fc_norm",   NULL};
    char size[8], end = '\0';
    int patch, side, s = 0;
    struct image_reading image;
    int64_t width, layers, heads, piece;
    double ratio;
    bool mean, after;
    int fields = sscanf(architecture, "vit_%7[a-z]_patch%d_%d%c", size, &patch, &side, &end);
    while (s < 5 && (fields < 3 || strcmp(size, sizes[s].name) != 0))
        s++;
    if (s == 5 || (end && end != '.'))
        return refuse(reading, "architecture", value_of(reading->root, "architecture"),
                      "vit_{tiny,small,base,large,huge}_patchP_S of timm, or resnet18, 34 or 50");
    CHECK(read_image(reading, side, &image));
    CHECK(check_arguments(reading, image.arguments, known));
    CHECK(read_side(reading, image.arguments, "patch_size", patch, &piece));
    CHECK(read_count(reading, image.arguments, "embed_dim", sizes[s].width, &width));
    CHECK(read_count(reading, image.arguments, "depth", sizes[s].layers, &layers));
    CHECK(read_count(reading, image.arguments, "num_heads", sizes[s].heads, &heads));
    CHECK(read_real(reading, image.arguments, "mlp_ratio", 4.0, &ratio));
    CHECK(read_pooling(reading, image.arguments, &mean, &after));
    return put(reading,
               "model: {family: vit, image: {size: %lld, channels: %lld, patch: %lld, classes: %lld}, pooling: %s, "
               "pooling_norm: %s, width: %lld, layers: %lld, heads: %lld, hidden: %lld}\n",
               (long long)image.size, (long long)image.channels, (long long)piece, (long long)image.classes,
               mean ? "mean" : "class", after ? "after" : "before", (long long)width, (long long)layers,
               (long long)heads, (long long)((double)width * ratio));
}

/* Blocks of the stages, of which the third may have more than `depth` has. */
static enum status read_layers(const struct reading *reading, const json_t *layers, const char *depth, int64_t *extra)
{
    bool least = strncmp(depth, "18", 2) == 0;
    const int64_t blocks[] = {least ? 2 : 3, least ? 2 : 4, least ? 2 : 6, least ? 2 : 3};
    *extra = 0;
    if (!layers)
        return STATUS_OK;
    bool fits = json_is_array(layers) && json_array_size(layers) == 4;
    for (size_t i = 0; i < 4 && fits; i++) {
        int64_t more = json_integer_value(json_array_get(layers, i)) - blocks[i];
        fits = i == 2 ? more >= 0 && more <= RESNET_EXTRA_BLOCKS : more == 0;
        *extra = i == 2 ? more : *extra;
    }
    return fits ? STATUS_OK
                : refuse(reading, "layers", layers, "those of the architecture, or more in the third stage");
}

static enum status read_resnet(struct reading *reading, const char *depth)
{
    static const char *const known[] = {"in_chans", "num_classes", "img_size", "global_pool", "layers", NULL};
    static const char *const pools[] = {"avg", NULL};
    static const char *const stems[] = {"imagenet", "small", NULL};
    struct image_reading image;
    int64_t width, extra;
    int stem, pool;
    CHECK(read_word(reading, reading->root, "global_pool", pools, "avg", &pool));
    CHECK(read_image(reading, 224, &image));
    CHECK(check_arguments(reading, image.arguments, known));
    CHECK(read_word(reading, image.arguments, "global_pool", pools, "avg", &pool));
    CHECK(read_word(reading, reading->root, "stem", stems, "imagenet or small", &stem));
    CHECK(read_count(reading, reading->root, "width", 64, &width));
    CHECK(read_layers(reading, value_of(image.arguments, "layers"), depth, &extra));
    return put(reading,
               "model: {family: resnet, image: {size: %lld, channels: %lld, classes: %lld}, width: %lld, "
               "depth_preset: %.2s, extra_blocks: %lld, stem: %s}\n",
               (long long)image.size, (long long)image.channels, (long long)image.classes, (long long)width, depth,
               (long long)extra, stems[stem]);
}

static enum status read_images(struct reading *reading, const char *architecture)
{
    const char *depth = architecture + strlen("resnet");
    bool resnet = strncmp(architecture, "resnet", 6) == 0 && strlen(depth) >= 2 && strchr(".", depth[2]) &&
                  (strncmp(depth, "18", 2) == 0 || strncmp(depth, "34", 2) == 0 || strncmp(depth, "50", 2) == 0);
    return resnet ? read_resnet(reading, depth) : read_vit(reading, architecture);
}

/* Our own settings, which io/config checks. */
static enum status read_cairn(struct reading *reading)
{
    const json_t *settings = value_of(reading->root, "cairn");
    int64_t vocabulary, length;
    if (!json_is_object(settings))
        return refuse(reading, "cairn", settings, "an object of settings");
    CHECK(read_count(reading, settings, "vocabulary", -1, &vocabulary));
    CHECK(read_count(reading, reading->root, "sequence_length", 1024, &length));
    char *text = json_dumps(settings, JSON_COMPACT | JSON_REAL_PRECISION(17));
    enum status status = text ? put(reading, "model: %s\n", text) : STATUS_MEMORY;
    free(text);
    CHECK(status);
    return put_run(reading, vocabulary, length);
}

static enum status read_model(struct reading *reading)
{
    static const char *const decoders[] = {"llama", "mistral", "qwen2", "gpt2", "cairn", NULL};
    static const char expected[] = "llama, mistral, qwen2, gpt2 or cairn, or an architecture of timm";
    const char *architecture = json_string_value(value_of(reading->root, "architecture"));
    const json_t *type = value_of(reading->root, "model_type");
    int kind;
    if (!json_is_object(reading->root))
        return context_fail(reading->context, STATUS_FILE, "%s: expected an object", reading->path);
    if (!type && architecture)
        return read_images(reading, architecture);
    if (!type)
        return refuse(reading, "model_type", type, expected);
    CHECK(read_word(reading, reading->root, "model_type", decoders, expected, &kind));
    if (kind == 4)
        return read_cairn(reading);
    CHECK(refuse_others(reading));
    return kind == 3 ? read_gpt2(reading) : read_llama(reading, kind == 2);
}

enum status exchange_read_config(struct context *context, const char *path, struct exchange_model *model)
{
    char file[EXCHANGE_PATH + 16];
    json_error_t error;
    *model = (struct exchange_model){0};
    snprintf(file, sizeof file, "%.1023s/config.json", path);
    json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
    if (!root && error.line < 0)
        return context_fail(context, STATUS_FILE,
                            "%s: cannot be opened; a residual network of torchvision can do with "
                            "{\"architecture\": \"resnet18\", \"num_classes\": 10} there",
                            file);
    if (!root)
        return context_fail(context, STATUS_FILE, "%s:%d: %s", file, error.line, error.text);
    struct reading reading = {.context = context, .path = file, .root = root, .model = model};
    enum status status = read_model(&reading);
    json_decref(root);
    return status;
}
