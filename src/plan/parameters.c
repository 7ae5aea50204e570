/* The parameters of a model and the operations of a token, beside those of the plain model. */
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/model/model.h"
#include "src/plan/plan.h"

/* A model beside the same without memories, routers, learned residuals and shared layers. */
struct parameter_plan {
    const struct model_config *config;
    struct parameter_totals model;
    struct parameter_totals plain;
    int64_t length;            /* of a sequence */
    double flops, plain_flops; /* useful ones of a training step, for a token */
};

static int64_t sum_all(const int64_t *groups)
{
    int64_t sum = 0;
    for (int group = 0; group < PARAMETER_GROUPS; group++)
        sum += groups[group];
    return sum;
}

static int64_t sum_inner(const int64_t *groups)
{
    return sum_all(groups) - groups[GROUP_EMBEDDINGS] - groups[GROUP_HEAD];
}

/* What the model has more or fewer of, by cause. */
struct change {
    const char *cause;
    int64_t parameters;
    double percent; /* of the plain model */
};

enum { CHANGES = PARAMETER_GROUPS + 2 };

static void add_change(const struct parameter_plan *plan, struct change *changes, int *count, const char *cause,
                       int64_t parameters)
{
    if (parameters != 0)
        changes[(*count)++] =
            (struct change){cause, parameters, 100.0 * (double)parameters / (double)sum_all(plan->plain.stored)};
}

/* What the plain model has gets fewer where layers share it; the rest is new. The last is the sum; none without
 * changes. */
static int list_changes(const struct parameter_plan *plan, struct change changes[CHANGES])
{
    int count = 0;
    int64_t shared = 0;
    for (int group = 0; group < PARAMETER_GROUPS; group++)
        if (plan->plain.stored[group] > 0)
            shared += plan->model.stored[group] - plan->plain.stored[group];
    add_change(plan, changes, &count, "shared layers", shared);
    for (int group = 0; group < PARAMETER_GROUPS; group++)
        if (plan->plain.stored[group] == 0)
            add_change(plan, changes, &count, parameter_group_name((enum parameter_group)group),
                       plan->model.stored[group]);
    add_change(plan, changes, &count, "all", sum_all(plan->model.stored) - sum_all(plan->plain.stored));
    return count;
}

static void print_group(const char *name, int64_t stored, int64_t unrolled, const struct parameter_totals *totals)
{
    printf("%-24s %16lld %9.4f %% %16lld %9.4f %%\n", name, (long long)stored,
           100.0 * (double)stored / (double)sum_all(totals->stored), (long long)unrolled,
           100.0 * (double)unrolled / (double)sum_all(totals->unrolled));
}

static void print_table(const struct parameter_plan *plan)
{
    const struct parameter_totals *model = &plan->model;
    printf("%-24s %16s %11s %16s %11s\n", "parameters", "stored", "share", "unrolled", "share");
    for (int group = 0; group < PARAMETER_GROUPS; group++)
        if (model->unrolled[group] > 0)
            print_group(parameter_group_name((enum parameter_group)group), model->stored[group], model->unrolled[group],
                        model);
    print_group("all", sum_all(model->stored), sum_all(model->unrolled), model);
    print_group("without table and head", sum_inner(model->stored), sum_inner(model->unrolled), model);

    struct change changes[CHANGES];
    int count = list_changes(plan, changes);
    if (count > 0)
        printf("\nThe plain model of %lld layers has %lld parameters. Beside it:\n", (long long)plan->config->layers,
               (long long)sum_all(plan->plain.stored));
    for (int i = 0; i < count; i++)
        printf("%-24s %+16lld %+9.3g %%\n", changes[i].cause, (long long)changes[i].parameters, changes[i].percent);
    bool of_images = family_of_images(plan->config->family);
    double each = 1e-6 * (of_images ? (double)plan->length : 1.0);
    printf("\nA training step takes %.4g MFLOP %s", each * plan->flops, of_images ? "an image" : "a token");
    if (plan->length > 1)
        printf(" in sequences of %lld", (long long)plan->length);
    if (count > 0)
        printf(", the plain model %.4g: %.4f times", each * plan->plain_flops, plan->flops / plan->plain_flops);
    printf(".\n");
}

/* A table's words with underscores. */
static void set_key(json_t *object, const char *words, json_t *value)
{
    char key[32];
    snprintf(key, sizeof key, "%s", words);
    for (char *space = strchr(key, ' '); space; space = strchr(space, ' '))
        *space = '_';
    json_object_set_new(object, key, value);
}

static json_t *groups_json(const int64_t *groups)
{
    json_t *object = json_object();
    for (int group = 0; group < PARAMETER_GROUPS; group++)
        set_key(object, parameter_group_name((enum parameter_group)group), json_integer((json_int_t)groups[group]));
    set_key(object, "all", json_integer((json_int_t)sum_all(groups)));
    set_key(object, "without table and head", json_integer((json_int_t)sum_inner(groups)));
    return object;
}

static json_t *changes_json(const struct parameter_plan *plan)
{
    struct change changes[CHANGES];
    int count = list_changes(plan, changes);
    json_t *object = json_object();
    for (int i = 0; i < count; i++)
        set_key(
            object, changes[i].cause,
            json_form("{s:I, s:f}", "parameters", (json_int_t)changes[i].parameters, "percent", changes[i].percent));
    return object;
}

static enum status print_object(struct context *context, const struct parameter_plan *plan)
{
    json_t *object = json_form("{s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:f, s:f}", "plan", "parameters", "layers",
                               (json_int_t)plan->config->layers, "stored", groups_json(plan->model.stored), "unrolled",
                               groups_json(plan->model.unrolled), "plain", groups_json(plan->plain.stored), "changes",
                               changes_json(plan), "sequence_length", (json_int_t)plan->length, "flops_per_token",
                               plan->flops, "plain_flops_per_token", plan->plain_flops);
    return print_json(context, object);
}

static enum status count(struct context *context, const struct model_config *config, struct parameter_totals *totals)
{
    struct parameter_list list;
    parameter_list_create(context, &list);
    enum status status = model_find(config)->describe(context, config, &list);
    if (status == STATUS_OK)
        *totals = parameter_totals(&list);
    parameter_list_destroy(&list);
    return status;
}

enum status plan_parameters(struct context *context, const struct config *whole, bool json)
{
    const struct model_config *config = &whole->model;
    struct parameter_plan plan = {.config = config, .length = whole->training.sequence_length};
    struct model_config plain = *config;
    plain.attention.kind = ATTENTION_CAUSAL;
    plain.residual.kind = RESIDUAL_PLAIN;
    plain.depth.kind = DEPTH_FIXED;
    plain.lora.rank = 0;
    CHECK(count(context, config, &plan.model));
    CHECK(count(context, &plain, &plan.plain));
    plan.flops = model_find(config)->flops(config, plan.length, 0.0, NULL);
    plan.plain_flops = model_find(config)->flops(&plain, plan.length, 0.0, NULL);
    if (json)
        return print_object(context, &plan);
    print_table(&plan);
    return STATUS_OK;
}
