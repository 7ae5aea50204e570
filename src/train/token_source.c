/* Texts as a source of batches: corpora, and the sampler of their sequences. */
#include <stdio.h>
#include <string.h>

#include "io/data/data.h"
#include "src/core/text.h"
#include "src/prepare/run_tokenizer.h"
#include "src/train/corpora.h"
#include "src/train/source.h"

/* One of the texts that are trained on. */
struct text_set {
    struct corpus *corpus;
    struct sampler sampler;
};

struct texts {
    struct text_set *sets;
    int set_count;
    struct blend now, ahead;     /* where there are several: of the batch, and of the one that is announced */
    struct corpus *validation;   /* NULL: there is none */
    struct tokenizer *tokenizer; /* NULL: there is none */
    char facts[TOKENIZER_FACTS]; /* of the tokenizer, or of the tokens; empty: nothing is known */
    int32_t *token_bytes;        /* that each token stands for; NULL: not known */
};

/* Nothing to evaluate is found out before training, not after it. */
static enum status check_validation(const struct source *source)
{
    const struct texts *texts = source->self;
    const struct data_config *data = &source->config->data;
    struct corpus_passages passages;
    if (!texts->validation)
        return STATUS_OK;
    CHECK(corpus_passages_create(source->context, texts->validation, data->sampling,
                                 source->config->training.sequence_length, &passages));
    int64_t count = passages.count;
    corpus_passages_destroy(&passages);
    if (count > 0)
        return STATUS_OK;
    if (data->validation.count > 0)
        return context_fail(source->context, STATUS_FILE,
                            "data.validation: %s: no document of two tokens or more, so there is nothing to predict; "
                            "name a longer text, or none and data.validation_fraction=0",
                            data->validation.item[0]);
    return context_fail(source->context, STATUS_FILE,
                        "data.validation_fraction: the part of %g that is held out has no document of two tokens or "
                        "more; raise it, use more text, or set it to 0",
                        data->validation_fraction);
}

static enum status open_tokenizer(struct source *source)
{
    struct texts *texts = source->self;
    const struct config *config = source->config;
    char hash[TOKENIZER_HASH];
    if (config->data.tokenizer[0]) {
        CHECK(run_tokenizer_open(source->context, config->data.tokenizer, config->model.vocabulary, "", NULL,
                                 &texts->tokenizer));
        CHECK(run_tokenizer_bytes(source->context, texts->tokenizer, config->model.vocabulary, &texts->token_bytes));
        snprintf(hash, sizeof hash, "%s", tokenizer_hash(texts->tokenizer));
    } else {
        CHECK(corpora_tokenizer(source->context, &config->data.train, hash));
    }
    if (hash[0])
        run_tokenizer_facts(hash, texts->facts);
    source->data_facts = hash[0] ? texts->facts : NULL;
    source->tokenizer = texts->tokenizer;
    return STATUS_OK;
}

static enum status create_blends(struct source *source)
{
    struct texts *texts = source->self;
    const struct text_list *list = &source->config->data.weights;
    double weights[TEXT_LIST_ITEMS] = {1.0};
    if (list->count > 0 && source->config->data.sampling == SAMPLING_STREAM)
        return context_fail(source->context, STATUS_USAGE,
                            "data.weights: expected data.sampling shuffle: a stream reads one text after the other");
    if (list->count > 0 && list->count != source->config->data.train.count)
        return context_fail(source->context, STATUS_USAGE,
                            "data.weights: expected a weight for each of the %d names of data.train, got %d",
                            source->config->data.train.count, list->count);
    for (int i = 0; i < list->count; i++)
        (void)text_to_real(list->item[i], &weights[i]); /* which the settings have been checked for */
    CHECK(blend_create(source->context, weights, texts->set_count, &texts->now));
    return blend_create(source->context, weights, texts->set_count, &texts->ahead);
}

/* One for each weight, or one for all names together. */
static enum status open_sets(struct source *source, double cut)
{
    struct texts *texts = source->self;
    const struct config *config = source->config;
    const struct data_config *data = &config->data;
    struct context *context = source->context;
    struct text_list *one = memory_allocate(context, sizeof *one, MEMORY_OTHER);
    enum status status = one ? STATUS_OK : STATUS_MEMORY;
    texts->set_count = data->weights.count > 0 ? data->weights.count : 1;
    texts->sets = memory_allocate(context, (size_t)texts->set_count * sizeof *texts->sets, MEMORY_OTHER);
    if (status == STATUS_OK)
        status = texts->sets ? create_blends(source) : STATUS_MEMORY;
    status = mesh_agree(source->mesh, context, status);
    for (int i = 0; status == STATUS_OK && i < texts->set_count; i++) {
        struct text_set *set = &texts->sets[i];
        one->count = 1;
        memcpy(one->item[0], data->train.item[i], sizeof one->item[0]);
        status = corpora_open(context, source->mesh, config, texts->tokenizer,
                              data->weights.count > 0 ? one : &data->train, 0.0, cut, &set->corpus);
        if (status == STATUS_OK)
            status = mesh_agree(source->mesh, context,
                                sampler_create(context, set->corpus, data, config->training.sequence_length,
                                               config->training.batch, &set->sampler));
    }
    memory_free(context, one);
    return status;
}

static void describe(struct source *source)
{
    const struct texts *texts = source->self;
    int64_t tokens = 0;
    int files = 0;
    char sets[32] = "";
    for (int i = 0; i < texts->set_count; i++) {
        tokens += corpus_tokens(texts->sets[i].corpus);
        files += corpus_files(texts->sets[i].corpus);
    }
    if (texts->set_count > 1)
        snprintf(sets, sizeof sets, " in %d shares", texts->set_count);
    snprintf(source->description, sizeof source->description, "%lld tokens in %d file%s%s", (long long)tokens, files,
             files == 1 ? "" : "s", sets);
}

static enum status open_texts(struct source *source, int threads)
{
    const struct config *config = source->config;
    const struct data_config *data = &config->data;
    struct context *context = source->context;
    struct mesh *mesh = source->mesh;
    (void)threads;
    struct texts *texts = source->self = memory_allocate(context, sizeof *texts, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, texts ? STATUS_OK : STATUS_MEMORY));
    CHECK(mesh_agree(mesh, context, open_tokenizer(source)));
    bool own_validation = data->validation.count > 0;
    double cut = own_validation ? 1.0 : 1.0 - data->validation_fraction;
    CHECK(open_sets(source, cut));
    if (own_validation)
        CHECK(corpora_open(context, mesh, config, texts->tokenizer, &data->validation, 0.0, 1.0, &texts->validation));
    else if (cut < 1.0)
        CHECK(corpora_open(context, mesh, config, texts->tokenizer, &data->train, cut, 1.0, &texts->validation));
    CHECK(mesh_agree(mesh, context, check_validation(source)));
    source->validates = texts->validation != NULL;
    const struct text_list *names[DATA_KEYS] = {&data->train, &data->validation};
    for (int i = 0; i < DATA_KEYS && mesh_rank(mesh, MESH_TEAM) == 0; i++)
        if (names[i]->count > 0)
            corpus_names_describe(context, names[i], source->contents[i], sizeof source->contents[i]);
    describe(source);
    return STATUS_OK;
}

static void close_texts(struct source *source)
{
    struct texts *texts = source->self;
    if (!texts)
        return;
    for (int i = 0; texts->sets && i < texts->set_count; i++) {
        if (texts->sets[i].sampler.corpus)
            sampler_destroy(&texts->sets[i].sampler);
        corpus_close(&texts->sets[i].corpus);
    }
    memory_free(source->context, texts->sets);
    blend_destroy(&texts->now);
    blend_destroy(&texts->ahead);
    corpus_close(&texts->validation);
    tokenizer_close(&texts->tokenizer);
    memory_free(source->context, texts->token_bytes);
    memory_free(source->context, texts);
}

/* A file of the data that has shrunk is told of once. */
static enum status fill(struct source *source, struct batch *batch, int64_t first, struct model_state *carried)
{
    struct texts *texts = source->self;
    int32_t *inputs = batch_field(batch, "tokens");
    int32_t *wanted = batch_field(batch, "targets");
    int64_t *valid = batch_field(batch, "valid");
    int64_t targets = 0;
    int64_t tokens = 0;
    for (int64_t row = 0; row < batch->rows; row++) {
        int64_t local = row - batch->mine.begin;
        bool mine = local >= 0 && local < batch->mine.count;
        int64_t place;
        struct sequence sequence;
        const struct text_set *set = &texts->sets[blend_at(&texts->now, first + row, &place)];
        sampler_sequence(&set->sampler, place, mine ? inputs + local * batch->length : NULL,
                         mine ? wanted + local * batch->length : NULL, &sequence);
        targets += sequence.targets;
        tokens += sequence.valid;
        const struct text_set *next = &texts->sets[blend_at(&texts->ahead, first + batch->rows + row, &place)];
        if (mine)
            sampler_announce(&next->sampler, place);
        if (mine)
            valid[local] = sequence.valid;
        if (mine && sequence.reset && carried)
            batch->model->ops->state->reset(carried, local);
    }
    batch->state = carried;
    batch->causal = false;
    batch_ready(batch, targets, tokens);
    return mesh_agree(source->mesh, source->context, source->context->status);
}

static enum status evaluate_texts(struct source *source, struct evaluator *evaluator,
                                  const struct evaluation_plan *plan, struct evaluation *evaluation)
{
    const struct texts *texts = source->self;
    struct evaluation_plan own = *plan;
    own.token_bytes = texts->token_bytes;
    return evaluate(evaluator, texts->validation, &own, evaluation);
}

const struct source_ops token_source_ops = {
    .open = open_texts, .close = close_texts, .fill = fill, .evaluate = evaluate_texts};
