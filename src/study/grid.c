#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/integer.h"
#include "src/core/text.h"
#include "src/model/model.h"
#include "src/study/scale.h"

enum { AXES = 4, RANKS_MOST = 1 << 24, LIST_MOST = 64, WORD = 64, OVERRIDES_MOST = 80 };

static const char *const axis_names[AXES] = {"data", "pipeline", "context", "tensor"};

/* One axis that grows with the ranks, the others of fixed size. */
struct layout {
    char text[WORD];
    int64_t size[AXES];
    int growing; /* -1: none */
};

/* What the grid is made from. */
struct plan {
    struct context *context;
    const struct scale_options *options;
    struct config *config; /* of the present variant */
    int64_t ranks[LIST_MOST];
    int rank_count;
    struct layout layouts[LIST_MOST];
    int layout_count;
    struct scale_grid *grid;
};

/* -- Options -- */

/* The next item of a list with commas; false at its end, or when an item is too long. */
static bool next_item(const char **list, char item[ROW_TEXT])
{
    size_t length = strcspn(*list, ",");
    if (length == 0 || length >= ROW_TEXT)
        return false;
    memcpy(item, *list, length);
    item[length] = '\0';
    *list += length + ((*list)[length] == ',');
    return true;
}

static void choose_ranks(struct plan *plan)
{
    const char *tasks = getenv("SLURM_NTASKS");
    int64_t most = 0;
    if (!tasks || !text_to_integer(tasks, &most) || most < 1)
        most = sysconf(_SC_NPROCESSORS_ONLN) / integer_max(1, plan->config->compute.threads);
    for (int64_t ranks = 1; ranks <= integer_max(1, most) && plan->rank_count < LIST_MOST; ranks *= 2)
        plan->ranks[plan->rank_count++] = ranks;
}

static enum status read_ranks(struct plan *plan)
{
    const char *list = plan->options->ranks;
    char item[ROW_TEXT];
    if (!list)
        choose_ranks(plan);
    while (list && *list) {
        int64_t ranks = 0;
        bool good = plan->rank_count < LIST_MOST && next_item(&list, item) && text_to_integer(item, &ranks);
        if (!good || ranks < 1 || ranks > RANKS_MOST ||
            (plan->rank_count > 0 && ranks <= plan->ranks[plan->rank_count - 1]))
            return context_fail(plan->context, STATUS_USAGE,
                                "--ranks: expected up to %d numbers that grow, as in 1,2,4; got \"%s\"", LIST_MOST,
                                plan->options->ranks);
        plan->ranks[plan->rank_count++] = ranks;
    }
    return STATUS_OK;
}

/* "AXIS" or "AXIS=SIZE", of `length` bytes. */
static bool read_axis(const char *text, size_t length, struct layout *layout)
{
    char word[WORD];
    if (length >= sizeof word)
        return false;
    memcpy(word, text, length);
    word[length] = '\0';
    char *equals = strchr(word, '=');
    if (equals)
        *equals = '\0';
    for (int axis = 0; axis < AXES; axis++) {
        if (strcmp(word, axis_names[axis]) != 0 || layout->size[axis] != 0)
            continue;
        if (equals)
            return text_to_integer(equals + 1, &layout->size[axis]) && layout->size[axis] > 0 &&
                   layout->size[axis] <= RANKS_MOST;
        if (layout->growing >= 0)
            return false;
        layout->growing = axis;
        layout->size[axis] = 1;
        return true;
    }
    return false;
}

static bool read_layout(const char *text, struct layout *layout)
{
    *layout = (struct layout){.growing = -1};
    if (!text_copy(layout->text, sizeof layout->text, text))
        return false;
    for (const char *part = text;; part++) {
        size_t length = strcspn(part, "+");
        if (!read_axis(part, length, layout))
            return false;
        part += length;
        if (*part == '\0')
            break;
    }
    for (int axis = 0; axis < AXES; axis++)
        layout->size[axis] = integer_max(1, layout->size[axis]);
    return true;
}

/* Each axis alone, and the mixtures that are usual: small axes inside, the outer one grows. */
static const char usual_layouts[] =
    "data,tensor,pipeline,context,data+tensor=2,data+pipeline=2,data+context=2,pipeline+tensor=2";

static enum status read_layouts(struct plan *plan)
{
    const char *list = plan->options->layouts ? plan->options->layouts : usual_layouts;
    char item[ROW_TEXT];
    while (*list) {
        if (plan->layout_count == LIST_MOST || !next_item(&list, item) ||
            !read_layout(item, &plan->layouts[plan->layout_count++]))
            return context_fail(
                plan->context, STATUS_USAGE,
                "--meshes: expected axes (data, pipeline, context, tensor), joined by + and all but one "
                "with a size, as in data,tensor,data+tensor=2; got \"%s\"",
                plan->options->layouts);
    }
    return STATUS_OK;
}

/* -- The runs -- */

static void skip(struct plan *plan, const struct scale_run *run, const char *reason)
{
    context_log(plan->context, "skipped: %s, %d rank%s, %s%s%s: %s", run->weak ? "weak" : "strong", run->ranks,
                run->ranks == 1 ? "" : "s", run->layout, run->setting[0] ? ", " : "", run->setting, reason);
}

static bool layout_resolve(const struct layout *layout, int64_t ranks, struct mesh_config *mesh)
{
    int64_t fixed = 1;
    int64_t size[AXES];
    for (int axis = 0; axis < AXES; axis++)
        fixed *= size[axis] = layout->size[axis];
    if (layout->growing >= 0 && ranks % fixed == 0)
        size[layout->growing] = ranks / fixed;
    else if (fixed != ranks)
        return false;
    *mesh = (struct mesh_config){.data = size[0], .pipeline = size[1], .context = size[2], .tensor = size[3]};
    return true;
}

static bool is_same(const struct scale_run *a, const struct scale_run *b)
{
    return a->weak == b->weak && a->variant == b->variant && memcmp(&a->mesh, &b->mesh, sizeof a->mesh) == 0;
}

static bool is_known(const struct scale_grid *grid, const struct scale_run *run)
{
    for (int i = 0; i < grid->count; i++)
        if (is_same(&grid->runs[i], run))
            return true;
    return false;
}

/* Why this model or this batch cannot be split so, or would leave ranks without work; NULL when it can. */
static const char *find_obstacle(struct plan *plan, const struct scale_run *run)
{
    const struct config *config = plan->config;
    int64_t length = config->training.sequence_length;
    int64_t parts = config->model.attention.kind == ATTENTION_INFINI
                        ? integer_divide_up(length, config->model.attention.segment)
                        : length / 2;
    if (run->batch == 0)
        return "the batch of the smallest number of ranks does not grow to a whole number of sequences";
    if (run->mesh.data > run->batch)
        return "more data ranks than sequences in a batch";
    if (run->mesh.context > 1 && run->mesh.context > parts)
        return "more context ranks than parts of a sequence";
    if (model_find(&config->model)->check(plan->context, &config->model, &run->mesh) != STATUS_OK)
        return plan->context->text;
    return NULL;
}

static void add_run(struct plan *plan, const struct layout *layout, const struct scale_run *like)
{
    struct scale_grid *grid = plan->grid;
    struct scale_run run = *like;
    text_copy(run.layout, sizeof run.layout, run.ranks == 1 ? "one" : layout->text);
    if (!layout_resolve(layout, run.ranks, &run.mesh)) {
        if (plan->options->layouts)
            skip(plan, &run, "the sizes do not multiply to so many ranks");
        return;
    }
    run.mesh.virtual_stages = run.mesh.pipeline > 1 ? plan->config->mesh.virtual_stages : 1;
    if (is_known(grid, &run))
        return;
    const char *obstacle = find_obstacle(plan, &run);
    if (!obstacle && grid->count < grid->most)
        grid->runs[grid->count++] = run;
    else if (obstacle)
        skip(plan, &run, obstacle);
    context_clear(plan->context);
}

static void add_study(struct plan *plan, bool weak, int variant, const char *setting)
{
    int64_t batch = plan->config->training.batch;
    for (int i = 0; i < plan->rank_count; i++) {
        int64_t grown = batch * plan->ranks[i];
        struct scale_run run = {.weak = weak, .ranks = (int)plan->ranks[i], .variant = variant, .repeat = 1};
        run.batch = !weak ? batch : grown % plan->ranks[0] == 0 ? grown / plan->ranks[0] : 0;
        text_copy(run.setting, sizeof run.setting, setting);
        for (int j = 0; j < plan->layout_count; j++)
            add_run(plan, &plan->layouts[j], &run);
    }
}

static enum status load_variant(struct plan *plan, const char *setting)
{
    const struct scale_options *options = plan->options;
    const char *overrides[OVERRIDES_MOST];
    int count = 0;
    for (; count < options->override_count && count < OVERRIDES_MOST - 1; count++)
        overrides[count] = options->overrides[count];
    if (setting[0])
        overrides[count++] = setting;
    return config_load(plan->context, options->config, overrides, count, plan->config);
}

static enum status add_variant(struct plan *plan, int variant, const char *setting)
{
    CHECK(load_variant(plan, setting));
    if (plan->options->strong)
        add_study(plan, false, variant, setting);
    if (plan->options->weak)
        add_study(plan, true, variant, setting);
    return STATUS_OK;
}

static enum status add_variants(struct plan *plan)
{
    const char *vary = plan->options->vary;
    char value[ROW_TEXT];
    char setting[ROW_TEXT];
    int variant = 0;
    if (!vary)
        return add_variant(plan, 0, "");
    const char *list = strchr(vary, '=');
    if (!list || list == vary || !list[1])
        return context_fail(plan->context, STATUS_USAGE,
                            "--vary: expected KEY=VALUE,VALUE..., as in model.width=256,512; got \"%s\"", vary);
    int key = (int)(list++ - vary);
    while (*list) {
        if (!next_item(&list, value) ||
            snprintf(setting, sizeof setting, "%.*s=%s", key, vary, value) >= (int)sizeof setting)
            return context_fail(plan->context, STATUS_USAGE, "--vary: \"%s\" has an item that is empty or too long",
                                vary);
        CHECK(add_variant(plan, variant++, setting));
    }
    return STATUS_OK;
}

static enum status fill_grid(struct plan *plan)
{
    struct scale_grid *grid = plan->grid;
    CHECK(load_variant(plan, ""));
    CHECK(read_ranks(plan));
    CHECK(read_layouts(plan));
    CHECK(add_variants(plan));
    if (grid->count == 0)
        return context_fail(plan->context, STATUS_USAGE, "%s: no run of the grid is possible; see above",
                            plan->options->config);
    int once = grid->count;
    for (int64_t repeat = 2; repeat <= plan->options->repeats; repeat++)
        for (int i = 0; i < once && grid->count < grid->most; i++) {
            grid->runs[grid->count] = grid->runs[i];
            grid->runs[grid->count++].repeat = (int)repeat;
        }
    return STATUS_OK;
}

enum status scale_grid_create(struct context *context, const struct scale_options *options, struct scale_grid *grid)
{
    enum { MOST = 20000 };
    *grid = (struct scale_grid){.context = context, .most = MOST};
    struct plan *plan = memory_allocate(context, sizeof *plan, MEMORY_OTHER);
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    grid->runs = memory_allocate(context, MOST * sizeof *grid->runs, MEMORY_OTHER);
    enum status status = STATUS_MEMORY;
    if (plan && config && grid->runs) {
        *plan = (struct plan){.context = context, .options = options, .config = config, .grid = grid};
        status = fill_grid(plan);
    }
    memory_free(context, plan);
    memory_free(context, config);
    return status;
}

void scale_grid_destroy(struct scale_grid *grid)
{
    if (grid->context)
        memory_free(grid->context, grid->runs);
    *grid = (struct scale_grid){0};
}

void scale_grid_print(const struct scale_grid *grid, FILE *out)
{
    for (int i = 0; i < grid->count; i++) {
        const struct scale_run *run = &grid->runs[i];
        fprintf(out, "%d %s ranks=%d data=%lld pipeline=%lld context=%lld tensor=%lld batch=%lld repeat=%d%s%s\n",
                i + 1, run->weak ? "weak" : "strong", run->ranks, (long long)run->mesh.data,
                (long long)run->mesh.pipeline, (long long)run->mesh.context, (long long)run->mesh.tensor,
                (long long)run->batch, run->repeat, run->setting[0] ? " " : "", run->setting);
    }
}
