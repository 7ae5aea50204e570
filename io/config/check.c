#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "io/config/settings.h"
#include "src/core/text.h"

/* Refuses the first of two settings that do not go together. The place is where a person wrote one of them. */
#define REFUSE(source, first, second, ...) \
    setting_fail(source, choose(source, offsetof(struct config, first), offsetof(struct config, second)), __VA_ARGS__)

static bool is_given(const struct setting_source *source, const struct setting *setting)
{
    return source->line[setting - setting_table] || source->override[setting - setting_table];
}

static const struct setting *choose(const struct setting_source *source, size_t first, size_t second)
{
    return !is_given(source, setting_at(first)) && is_given(source, setting_at(second)) ? setting_at(second)
                                                                                        : setting_at(first);
}

static enum status check_required(const struct setting_source *source, enum model_family family)
{
    for (int i = 0; i < setting_count; i++) {
        char expected[MESSAGE_LENGTH / 2];
        if (setting_table[i].default_kind != DEFAULT_REQUIRED || is_given(source, &setting_table[i]) ||
            !setting_belongs(&setting_table[i], family))
            continue;
        setting_expectation(&setting_table[i], false, expected, sizeof expected);
        return setting_fail(source, &setting_table[i], "missing; expected %s", expected);
    }
    return STATUS_OK;
}

static enum status check_model_only(const struct setting_source *source)
{
    for (int i = 0; i < setting_count; i++)
        if (source->model_only && is_given(source, &setting_table[i]) &&
            strncmp(setting_table[i].key, "model.", 6) != 0)
            return setting_fail(source, &setting_table[i], "expected keys of model: only");
    return STATUS_OK;
}

/* Defaults that a family has of its own; what has no meaning for it is an error. */
static enum status check_family(const struct setting_source *source, struct config *config)
{
    enum model_family family = config->model.family;
    const char *name = setting_at(offsetof(struct config, model.family))->words[family];
    for (int i = 0; i < setting_count; i++) {
        const struct setting *setting = &setting_table[i];
        if (is_given(source, setting)) {
            if (!setting_belongs(setting, family))
                return setting_fail(source, setting, "has no meaning with model.family %s; leave it out", name);
        } else if (setting->standard_of[family] && !setting_assign(setting, setting->standard_of[family], config)) {
            return context_fail(source->context, STATUS_INTERNAL, "%s: its default is refused", setting->key);
        }
    }
    return STATUS_OK;
}

/* What a model of images has instead of a vocabulary and sequences: classes, and the tokens of an image. */
static enum status derive_image(const struct setting_source *source, struct config *config)
{
    struct model_config *model = &config->model;
    const struct setting *positions = setting_at(offsetof(struct config, model.max_positions));
    model->vocabulary = model->image.classes;
    config->training.sequence_length = 1;
    bool of_text = config->data.format > DATA_AUTO && config->data.format < DATA_IDX;
    if (of_text)
        return REFUSE(source, data.format, model.family,
                      "expected a format of images, or auto, with this model.family");
    if (model->family == FAMILY_RESNET)
        return STATUS_OK;
    if (model->image.size % model->image.patch != 0)
        return REFUSE(source, model.image.patch, model.image.size,
                      "expected model.image.patch to divide model.image.size, got %lld and %lld",
                      (long long)model->image.patch, (long long)model->image.size);
    int64_t side = model->image.size / model->image.patch;
    int64_t tokens = side * side + (model->pooling == POOLING_CLASS);
    if (is_given(source, positions) && model->max_positions != tokens)
        return setting_fail(source, positions, "expected the %lld tokens of an image, got %lld", (long long)tokens,
                            (long long)model->max_positions);
    model->max_positions = config->training.sequence_length = tokens;
    if (model->pooling == POOLING_CLASS && model->pooling_norm == POOLING_NORM_AFTER)
        return REFUSE(source, model.pooling_norm, model.pooling,
                      "expected before with model.pooling class, of which one token is seen");
    return STATUS_OK;
}

static enum status derive_heads(const struct setting_source *source, struct model_config *model)
{
    if (!is_given(source, setting_at(offsetof(struct config, model.kv_heads))))
        model->kv_heads = model->heads;
    if (is_given(source, setting_at(offsetof(struct config, model.head_width))))
        return STATUS_OK;
    if (model->width % model->heads != 0)
        return REFUSE(source, model.heads, model.width,
                      "expected model.heads to divide model.width, or model.head_width to be given; got %lld and %lld",
                      (long long)model->heads, (long long)model->width);
    model->head_width = model->width / model->heads;
    return STATUS_OK;
}

static void derive_optimizer(const struct setting_source *source, struct optimizer_config *optimizer)
{
    bool muon = optimizer->kind == OPTIMIZER_MUON;
    if (!is_given(source, setting_at(offsetof(struct config, optimizer.momentum))))
        optimizer->momentum = muon ? 0.95 : 0.9;
    if (!is_given(source, setting_at(offsetof(struct config, optimizer.nesterov))))
        optimizer->nesterov = muon;
}

static enum status derive_depth(const struct setting_source *source, struct model_config *model)
{
    if (model->depth.kind != DEPTH_RECURSIVE)
        return STATUS_OK;
    if (model->depth.routing != ROUTING_NONE &&
        is_given(source, setting_at(offsetof(struct config, model.depth.routing))))
        return setting_fail(source, setting_at(offsetof(struct config, model.depth.routing)),
                            "expected none with model.depth.kind recursive; model.depth.kind mor has routing");
    model->depth.kind = DEPTH_MOR;
    model->depth.routing = ROUTING_NONE;
    return STATUS_OK;
}

static enum status check_adapters(const struct setting_source *source, const struct model_config *model)
{
    char text[TEXT_LENGTH];
    char *rest;
    int64_t count = 0;
    snprintf(text, sizeof text, "%s", model->adapters);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest), count++) {
        int64_t width;
        if (!text_to_integer(word, &width) || width < 0 || width > 1 << 20)
            return setting_fail(source, setting_at(offsetof(struct config, model.adapters)),
                                "expected inner widths, as \"0 16\", 0 for a layer without an adapter; got \"%s\"",
                                model->adapters);
    }
    if (count > model->layers)
        return REFUSE(source, model.adapters, model.layers,
                      "expected at most one adapter for each of the %lld layers, got %lld", (long long)model->layers,
                      (long long)count);
    return STATUS_OK;
}

static enum status check_attention(const struct setting_source *source, const struct model_config *model)
{
    bool full = model->family == FAMILY_VIT;
    if ((model->attention.kind == ATTENTION_FULL) != full)
        return REFUSE(source, model.attention.kind, model.family, "expected %s with model.family %s",
                      full ? "full" : "causal or infini", full ? "vit" : "decoder");
    if (full && model->positions != POSITIONS_LEARNED)
        return REFUSE(source, model.positions, model.family, "expected learned with model.family vit");
    if (model->heads % model->kv_heads != 0)
        return REFUSE(source, model.kv_heads, model.heads,
                      "expected model.kv_heads to divide model.heads, got %lld and %lld", (long long)model->kv_heads,
                      (long long)model->heads);
    if (model->positions == POSITIONS_ROPE && model->head_width % 2 != 0)
        return REFUSE(source, model.head_width, model.width,
                      "expected an even model.head_width with model.positions rope, got %lld",
                      (long long)model->head_width);
    return STATUS_OK;
}

static enum status check_residual(const struct setting_source *source, const struct model_config *model)
{
    if (model->residual.kind != RESIDUAL_LAUREL)
        return STATUS_OK;
    if (model->parallel_block && model->residual.scope != RESIDUAL_LAYER)
        return REFUSE(source, model.residual.scope, model.parallel_block,
                      "expected model.residual.scope layer with model.parallel_block true and laurel, got sublayer");
    if (model->residual.rank > model->width)
        return REFUSE(source, model.residual.rank, model.width,
                      "expected model.residual.rank to be at most model.width (%lld), got %lld",
                      (long long)model->width, (long long)model->residual.rank);
    return STATUS_OK;
}

static enum status check_recursions(const struct setting_source *source, const struct model_config *model)
{
    int64_t layers = model->layers;
    int64_t recursions = model->depth.recursions;
    bool is_middle = model->depth.sharing == SHARING_MIDDLE_CYCLE || model->depth.sharing == SHARING_MIDDLE_SEQUENCE;
    bool is_cycle = model->depth.sharing == SHARING_CYCLE || model->depth.sharing == SHARING_MIDDLE_CYCLE;
    if (is_middle && layers < 3)
        return REFUSE(source, model.layers, model.depth.sharing,
                      "expected at least 3 layers with model.depth.sharing %s, got %lld",
                      setting_at(offsetof(struct config, model.depth.sharing))->words[model->depth.sharing],
                      (long long)layers);
    if ((is_middle ? layers - 2 : layers) % recursions != 0)
        return REFUSE(source, model.depth.recursions, model.layers,
                      "expected model.depth.recursions to divide %s (%lld) with model.depth.sharing %s, got %lld",
                      is_middle ? "model.layers - 2" : "model.layers", (long long)(is_middle ? layers - 2 : layers),
                      setting_at(offsetof(struct config, model.depth.sharing))->words[model->depth.sharing],
                      (long long)recursions);
    if (model->depth.routing != ROUTING_NONE && !is_cycle)
        return REFUSE(source, model.depth.sharing, model.depth.routing,
                      "expected model.depth.sharing cycle or middle_cycle with routing; sequence and middle_sequence "
                      "need model.depth.routing none");
    return STATUS_OK;
}

/* LoRA maps of the layers, which are not those of recursions. */
static enum status check_lora_maps(const struct setting_source *source, struct model_config *model)
{
    static const char *const maps[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    const struct setting *targets = setting_at(offsetof(struct config, model.lora.targets));
    if (!is_given(source, setting_at(offsetof(struct config, model.lora.alpha))))
        model->lora.alpha = model->lora.rank > 0 ? (double)model->lora.rank : 1.0;
    if (model->lora.rank > model->width)
        return REFUSE(source, model.lora.rank, model.width,
                      "expected model.lora.rank to be at most model.width (%lld), got %lld", (long long)model->width,
                      (long long)model->lora.rank);
    for (int i = 0; i < model->lora.targets.count; i++) {
        const char *name = model->lora.targets.item[i];
        char shown[MESSAGE_LENGTH / 2];
        bool known = false;
        for (size_t j = 0; j < sizeof maps / sizeof *maps; j++)
            known = known || strcmp(name, maps[j]) == 0;
        config_quote(name, strlen(name), shown, sizeof shown);
        if (!known)
            return setting_fail(source, targets,
                                "expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj, got %s",
                                shown);
        if (strcmp(name, "gate_proj") == 0 && model->mlp != MLP_SWIGLU)
            return REFUSE(source, model.lora.targets, model.mlp,
                          "expected no gate_proj, which only a model with model.mlp swiglu has");
    }
    return STATUS_OK;
}

static enum status check_lora(const struct setting_source *source, const struct model_config *model)
{
    if (model->depth.lora_rank > 0 && model->depth.kind != DEPTH_MOR)
        return REFUSE(source, model.depth.lora_rank, model.depth.kind,
                      "expected 0, or model.depth.kind mor or recursive, whose recursions it tells apart; got %lld",
                      (long long)model->depth.lora_rank);
    if (model->depth.lora_rank > model->width)
        return REFUSE(source, model.depth.lora_rank, model.width,
                      "expected model.depth.lora_rank to be at most model.width (%lld), got %lld",
                      (long long)model->width, (long long)model->depth.lora_rank);
    return STATUS_OK;
}

static enum status check_depth(const struct setting_source *source, const struct model_config *model)
{
    CHECK(check_lora(source, model));
    if (model->family == FAMILY_VIT && model->depth.kind == DEPTH_MOD &&
        model->depth.causal_router == CAUSAL_ROUTER_PREDICTOR)
        return REFUSE(source, model.depth.causal_router, model.family,
                      "expected loss with model.family vit, in which nothing is causal");
    if (model->family == FAMILY_VIT && model->depth.kind == DEPTH_MOR && model->depth.routing == ROUTING_TOKEN)
        return REFUSE(source, model.depth.routing, model.family, "expected expert or none with model.family vit");
    if (model->depth.kind == DEPTH_MOR)
        return check_recursions(source, model);
    if (model->depth.kind == DEPTH_MOD && model->depth.every > model->layers)
        return REFUSE(source, model.depth.every, model.layers,
                      "expected model.depth.every to be at most model.layers (%lld), or no layer is routed; got %lld",
                      (long long)model->layers, (long long)model->depth.every);
    return STATUS_OK;
}

static enum status check_transformer(const struct setting_source *source, struct model_config *model)
{
    CHECK(derive_heads(source, model));
    CHECK(derive_depth(source, model));
    CHECK(check_lora_maps(source, model));
    CHECK(check_attention(source, model));
    CHECK(check_adapters(source, model));
    return check_depth(source, model);
}

/* Beyond what any machine holds; further on, counts of elements and bytes would not fit their integers. */
#define LARGEST 1e15

static enum status check_sizes(const struct setting_source *source, const struct config *config)
{
    const struct model_config *model = &config->model;
    const struct training_config *training = &config->training;
    const struct {
        size_t first, second;
        double product;
        const char *what;
    } rows[] = {
        {offsetof(struct config, model.vocabulary), offsetof(struct config, model.width),
         (double)model->vocabulary * (double)model->width, "model.vocabulary times model.width"},
        {offsetof(struct config, model.hidden), offsetof(struct config, model.width),
         (double)model->hidden * (double)model->width, "model.hidden times model.width"},
        {offsetof(struct config, model.head_width), offsetof(struct config, model.heads),
         (double)model->heads * (double)model->head_width * (double)model->width,
         "model.heads times model.head_width times model.width"},
        {offsetof(struct config, training.batch), offsetof(struct config, training.sequence_length),
         (double)training->batch * (double)training->sequence_length, "training.batch times training.sequence_length"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows - source->model_only; i++)
        if (rows[i].product > LARGEST)
            return setting_fail(source, choose(source, rows[i].first, rows[i].second),
                                "expected %s to be at most %g, got %g", rows[i].what, LARGEST, rows[i].product);
    double rate = config->optimizer.learning_rate * config->optimizer.gate_lr_factor;
    if (!source->model_only && !isfinite((float)rate))
        return REFUSE(source, optimizer.gate_lr_factor, optimizer.learning_rate,
                      "expected optimizer.learning_rate times optimizer.gate_lr_factor to fit single precision, got %g",
                      rate);
    return STATUS_OK;
}

static enum status check_optimizer(const struct setting_source *source, const struct config *config)
{
    const struct optimizer_config *optimizer = &config->optimizer;
    long long steps = (long long)config->training.steps;
    if (config->model.family == FAMILY_RESNET && optimizer->kind >= OPTIMIZER_MUON)
        return REFUSE(source, optimizer.kind, model.family,
                      "expected adamw or sgd with model.family resnet, which has no matrices inside layers");
    if (optimizer->adamw_learning_rate > 0.0 && optimizer->learning_rate == 0.0)
        return REFUSE(source, optimizer.learning_rate, optimizer.adamw_learning_rate,
                      "expected optimizer.learning_rate above 0 with optimizer.adamw_learning_rate, whose course it "
                      "shares; got 0");
    if (optimizer->warmup_steps > steps)
        return REFUSE(source, optimizer.warmup_steps, training.steps,
                      "expected optimizer.warmup_steps to be at most training.steps (%lld), got %lld", steps,
                      (long long)optimizer->warmup_steps);
    if (optimizer->schedule == SCHEDULE_WSD && optimizer->decay_steps > steps)
        return REFUSE(source, optimizer.decay_steps, training.steps,
                      "expected optimizer.decay_steps to be at most training.steps (%lld), got %lld", steps,
                      (long long)optimizer->decay_steps);
    return STATUS_OK;
}

static enum status check_weights(const struct setting_source *source, const struct config *config)
{
    const struct text_list *weights = &config->data.weights;
    for (int i = 0; i < weights->count; i++) {
        double weight;
        if (!text_to_real(weights->item[i], &weight) || !(weight > 0.0 && weight < 1e30))
            return REFUSE(source, data.weights, data.train, "expected numbers above 0, got \"%s\"", weights->item[i]);
    }
    return STATUS_OK;
}

static enum status check_run(const struct setting_source *source, const struct config *config)
{
    long long steps = (long long)config->training.steps;
    if (config->model.positions == POSITIONS_LEARNED && config->model.max_positions < config->training.sequence_length)
        return REFUSE(source, model.max_positions, training.sequence_length,
                      "expected model.max_positions to be at least training.sequence_length (%lld) with learned "
                      "positions, got %lld",
                      (long long)config->training.sequence_length, (long long)config->model.max_positions);
    if (config->model.family == FAMILY_DECODER && config->data.format >= DATA_IDX)
        return REFUSE(source, data.format, model.family,
                      "expected a format of text, or auto, with model.family decoder");
    if (config->data.tokenizer[0] && (config->data.format == DATA_BYTES || config->data.format == DATA_SAMPLES))
        return REFUSE(source, data.tokenizer, data.format,
                      "expected data.format auto, or one of token files, with data.tokenizer: bytes and samples have "
                      "none");
    CHECK(check_weights(source, config));
    int64_t tokens = config->data.format == DATA_BYTES ? 256 : config->model.vocabulary;
    if (config->data.eot >= tokens)
        return REFUSE(source, data.eot, model.vocabulary,
                      "expected data.eot to be one of the %lld tokens, 0 to %lld, got %lld", (long long)tokens,
                      (long long)tokens - 1, (long long)config->data.eot);
    if (config->mesh.virtual_stages > 1 && config->mesh.pipeline == 1)
        return REFUSE(source, mesh.virtual_stages, mesh.pipeline,
                      "expected mesh.virtual_stages 1 with mesh.pipeline 1, got %lld",
                      (long long)config->mesh.virtual_stages);
    if (config->training.capacity_warmup_steps > steps)
        return REFUSE(source, training.capacity_warmup_steps, training.steps,
                      "expected training.capacity_warmup_steps to be at most training.steps (%lld), got %lld", steps,
                      (long long)config->training.capacity_warmup_steps);
    return STATUS_OK;
}

static enum status check_job(const struct setting_source *source, const struct job_config *job)
{
    double seconds;
    if (!job->time_limit[0] || text_to_time_limit(job->time_limit, &seconds))
        return STATUS_OK;
    return setting_fail(source, setting_at(offsetof(struct config, job.time_limit)),
                        "expected a time as Slurm takes it, minutes, minutes:seconds, hours:minutes:seconds, "
                        "days-hours, days-hours:minutes or days-hours:minutes:seconds, got \"%s\"",
                        job->time_limit);
}

enum status config_check(const struct setting_source *source, struct config *config)
{
    CHECK(check_model_only(source));
    CHECK(check_family(source, config));
    CHECK(check_required(source, config->model.family));
    if (config->model.family != FAMILY_DECODER)
        CHECK(derive_image(source, config));
    else
        config->model.image.classes = config->model.classes;
    if (config->model.family != FAMILY_RESNET)
        CHECK(check_transformer(source, &config->model));
    derive_optimizer(source, &config->optimizer);
    CHECK(check_residual(source, &config->model));
    CHECK(check_sizes(source, config));
    if (source->model_only)
        return STATUS_OK;
    CHECK(check_job(source, &config->job));
    CHECK(check_optimizer(source, config));
    return check_run(source, config);
}
