/* Texts as a source of batches: corpora, and the sampler of their sequences. */
#include <stdio.h>

#include "io/data/data.h"
#include "src/prepare/run_tokenizer.h"
#include "src/train/corpora.h"
#include "src/train/source.h"

struct texts {
    struct corpus *train;
    struct corpus *validation; /* NULL: there is none */
    struct sampler sampler;
    struct tokenizer *tokenizer; /* NULL: there is none */
    char facts[TOKENIZER_FACTS]; /* of the tokenizer, or of the tokens; empty: nothing is known */
    int32_t *token_bytes;        /* that each token stands for; NULL: not known */
};

/* Nothing to evaluate is found out before training, not after it. */
static enum status check_validation(const struct source *source)
{
    const struct texts *texts = source->self;
    const struct data_config *data = &source->config->data;
    struct corpus_contexts contexts;
    if (!texts->validation)
        return STATUS_OK;
    CHECK(corpus_contexts_create(source->context, texts->validation, data->sampling,
                                 source->config->training.sequence_length, &contexts));
    int64_t count = contexts.count;
    corpus_contexts_destroy(&contexts);
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
    CHECK(corpora_open(context, mesh, config, texts->tokenizer, &data->train, 0.0, cut, &texts->train));
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
    int files = corpus_files(texts->train);
    snprintf(source->description, sizeof source->description, "%lld tokens in %d file%s",
             (long long)corpus_tokens(texts->train), files, files == 1 ? "" : "s");
    return mesh_agree(mesh, context,
                      sampler_create(context, texts->train, data, config->training.sequence_length,
                                     config->training.batch, &texts->sampler));
}

static void close_texts(struct source *source)
{
    struct texts *texts = source->self;
    if (!texts)
        return;
    sampler_destroy(&texts->sampler);
    corpus_close(&texts->train);
    corpus_close(&texts->validation);
    tokenizer_close(&texts->tokenizer);
    memory_free(source->context, texts->token_bytes);
    memory_free(source->context, texts);
}

/* A file of the data that has shrunk is told of once. */
static enum status fill(struct source *source, struct batch *batch, int64_t first, struct model_state *carried)
{
    const struct sampler *sampler = &((struct texts *)source->self)->sampler;
    int32_t *inputs = batch_field(batch, "tokens");
    int32_t *wanted = batch_field(batch, "targets");
    int64_t *valid = batch_field(batch, "valid");
    int64_t targets = 0;
    int64_t tokens = 0;
    for (int64_t row = 0; row < batch->rows; row++) {
        int64_t local = row - batch->mine.begin;
        bool mine = local >= 0 && local < batch->mine.count;
        struct sequence sequence;
        sampler_sequence(sampler, first + row, mine ? inputs + local * batch->length : NULL,
                         mine ? wanted + local * batch->length : NULL, &sequence);
        targets += sequence.targets;
        tokens += sequence.valid;
        if (mine)
            sampler_announce(sampler, first + batch->rows + row);
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
