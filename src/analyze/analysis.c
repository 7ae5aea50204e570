#include "src/analyze/analysis.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/matrix/matrix.h"
#include "src/analyze/spectra.h"
#include "src/core/deal.h"
#include "src/core/integer.h"
#include "src/core/text.h"

const char *measure_name(enum measure measure)
{
    static const char *const names[MEASURES] = {
        "norm",        "largest",         "smallest",           "condition",       "rank",
        "stable_rank", "effective_rank",  "rank_of_90_percent", "moved",           "moved_effective_rank",
        "left_angle",  "left_angle_mean", "right_angle",        "right_angle_mean"};
    return names[measure];
}

const double *analysis_values(const struct analysis *analysis, const struct analyzed *matrix)
{
    return analysis->values + matrix->first;
}

/* -- Which matrices there are -- */

static const char parameters[] = "/parameters/";
static const char memory[] = "/memory/";

/* As people name it: without /parameters/. */
static const char *name_of(const struct analyzed *matrix)
{
    size_t prefix = sizeof parameters - 1;
    return strncmp(matrix->name, parameters, prefix) == 0 ? matrix->name + prefix : matrix->name + 1;
}

/* "model.layers.3.self_attn.q_proj.weight" is self_attn.q_proj of layer 3: numbers stand for layers, the last for the
 * layer itself. */
static void find_kind(struct analyzed *matrix)
{
    static const char plain[] = "model.layers.";
    char text[STATE_NAME];
    size_t used = 0;
    matrix->layer = -1;
    text_copy(text, sizeof text, name_of(matrix));
    size_t length = strlen(text);
    for (const char *end = ".weight"; length > strlen(end) && strcmp(text + length - strlen(end), end) == 0;)
        text[length -= strlen(end)] = '\0';
    for (const char *word = text; *word && used + 1 < sizeof matrix->kind;) {
        size_t size = strcspn(word, "./");
        size_t digits = strspn(word, "0123456789");
        if (digits == size && size > 0)
            matrix->layer = strtoll(word, NULL, 10);
        else
            used += (size_t)snprintf(matrix->kind + used, sizeof matrix->kind - used, "%s%.*s", used ? "." : "",
                                     (int)size, word);
        word += size + (word[size] != '\0');
    }
    if (strncmp(matrix->kind, plain, sizeof plain - 1) == 0)
        memmove(matrix->kind, matrix->kind + sizeof plain - 1, strlen(matrix->kind + sizeof plain - 1) + 1);
}

/* False for what is no matrix, or stack of them. */
static bool describe(const struct checkpoint_dataset *dataset, struct analyzed *matrix)
{
    const int64_t *shape = dataset->shape;
    int rank = dataset->rank;
    size_t length = strlen(dataset->name);
    bool parameter = strncmp(dataset->name, parameters, sizeof parameters - 1) == 0;
    bool state = strncmp(dataset->name, memory, sizeof memory - 1) == 0 && length > 6 &&
                 strcmp(dataset->name + length - 6, "/state") == 0;
    if ((!parameter && !state) || dataset->doubles || rank < 2)
        return false;
    *matrix = (struct analyzed){.rank = rank, .stack = 1, .rows = shape[rank - 2], .columns = shape[rank - 1]};
    memcpy(matrix->shape, shape, sizeof matrix->shape);
    text_copy(matrix->name, sizeof matrix->name, dataset->name);
    for (int d = 0; d < rank - 2; d++)
        matrix->stack *= shape[d];
    if (parameter && rank == 4) { /* a convolution is one map of its inputs' pixels */
        matrix->stack = 1;
        matrix->rows = shape[0];
        matrix->columns = shape[1] * shape[2] * shape[3];
    }
    find_kind(matrix);
    return matrix->stack > 0 && matrix->rows > 1 && matrix->columns > 1;
}

static bool has_alike(const struct checkpoint_dataset *datasets, int count, const struct analyzed *matrix)
{
    for (int i = 0; i < count; i++) {
        bool same = datasets[i].rank == matrix->rank && strcmp(datasets[i].name, matrix->name) == 0;
        for (int d = 0; same && d < matrix->rank; d++)
            same = datasets[i].shape[d] == matrix->shape[d];
        if (same)
            return true;
    }
    return false;
}

static enum status refuse_pattern(const struct analysis *analysis, const char *pattern, const char *first)
{
    if (!first)
        return context_fail(analysis->context, STATUS_USAGE, "%s: holds no matrix", analysis->path);
    return context_fail(analysis->context, STATUS_USAGE,
                        "--match: no matrix of %s is named like \"%s\"; the first is %s (`cairn checkpoint inspect` "
                        "lists all)",
                        analysis->path, pattern, first);
}

/* Those that count, in the order of the file; others: NULL without another file. */
static enum status choose(struct analysis *analysis, const struct analysis_wish *wish,
                          const struct checkpoint_dataset *datasets, int count, const struct checkpoint_dataset *others,
                          int other_count)
{
    struct analyzed first = {0};
    bool named = false;
    analysis->matrices = memory_allocate(analysis->context, (size_t)count * sizeof *analysis->matrices, MEMORY_OTHER);
    if (!analysis->matrices)
        return STATUS_MEMORY;
    for (int i = 0; i < count; i++) {
        struct analyzed matrix;
        if (!describe(&datasets[i], &matrix))
            continue;
        if (!first.name[0])
            first = matrix;
        if (wish->pattern && fnmatch(wish->pattern, name_of(&matrix), 0) != 0)
            continue;
        named = true;
        if (others && !has_alike(others, other_count, &matrix)) {
            analysis->left_out++;
            continue;
        }
        CHECK(matrix_check(analysis->context, matrix.name, matrix.rows, matrix.columns));
        matrix.first = analysis->value_count;
        analysis->value_count += integer_min(matrix.rows, matrix.columns);
        analysis->matrices[analysis->count++] = matrix;
    }
    if (!named)
        return refuse_pattern(analysis, wish->pattern, first.name[0] ? name_of(&first) : NULL);
    if (analysis->count == 0)
        return context_fail(analysis->context, STATUS_USAGE, "%s has none of the %d matrices of %s in the same shape",
                            analysis->other, analysis->left_out, analysis->path);
    analysis->values =
        memory_allocate(analysis->context, (size_t)analysis->value_count * sizeof *analysis->values, MEMORY_OTHER);
    return analysis->values ? STATUS_OK : STATUS_MEMORY;
}

/* Collective; agreed. */
static enum status list_matrices(struct analysis *analysis, struct mesh *mesh, const struct analysis_wish *wish)
{
    struct context *context = analysis->context;
    struct checkpoint_dataset *datasets = NULL;
    struct checkpoint_dataset *others = NULL;
    int count = 0;
    int other_count = 0;
    enum status status;
    TRY(checkpoint_list(context, mesh, analysis->path, &datasets, &count));
    if (analysis->other[0])
        TRY(checkpoint_list(context, mesh, analysis->other, &others, &other_count));
    TRY(mesh_agree(mesh, context, choose(analysis, wish, datasets, count, others, other_count)));
done:
    memory_free(context, datasets);
    memory_free(context, others);
    return status;
}

/* -- On many ranks -- */

struct work {
    struct analysis *analysis;
    struct mesh *mesh;
    int ranks;
    double *cost, *load; /* [count], [ranks] */
    int *home;           /* [count] */
    int *next, *now;     /* [ranks] */
    struct state_array *arrays;
    struct state_piece *pieces; /* [ranks] */
    float *a, *b;               /* this rank's stack, in both files */
};

static int64_t elements_of(const struct analyzed *matrix)
{
    return matrix->stack * matrix->rows * matrix->columns;
}

static enum status deal(struct work *work)
{
    const struct analysis *analysis = work->analysis;
    struct context *context = analysis->context;
    size_t count = (size_t)analysis->count;
    size_t ranks = (size_t)work->ranks;
    work->cost = memory_allocate(context, count * sizeof *work->cost, MEMORY_OTHER);
    work->home = memory_allocate(context, count * sizeof *work->home, MEMORY_OTHER);
    work->load = memory_allocate(context, ranks * sizeof *work->load, MEMORY_OTHER);
    work->next = memory_allocate(context, ranks * sizeof *work->next, MEMORY_OTHER);
    work->now = memory_allocate(context, ranks * sizeof *work->now, MEMORY_OTHER);
    work->arrays = memory_allocate(context, ranks * sizeof *work->arrays, MEMORY_OTHER);
    work->pieces = memory_allocate(context, ranks * sizeof *work->pieces, MEMORY_OTHER);
    CHECK(context->status);
    for (int i = 0; i < analysis->count; i++) {
        const struct analyzed *matrix = &analysis->matrices[i];
        work->cost[i] = (double)elements_of(matrix) * (double)integer_min(matrix->rows, matrix->columns);
    }
    deal_by_cost(work->cost, analysis->count, work->ranks, work->home, work->load);
    return STATUS_OK;
}

static void destroy(struct work *work)
{
    struct context *context = work->analysis->context;
    void *owned[] = {work->cost, work->load,   work->home,   work->next, work->now,
                     work->a,    work->arrays, work->pieces, work->b};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
}

/* Every rank names the matrices of all in this round, and wants its own. */
static enum status read_round(struct work *work, const char *path, float *data)
{
    struct analysis *analysis = work->analysis;
    int own = mesh_rank(work->mesh, MESH_TEAM);
    int count = 0;
    for (int rank = 0; rank < work->ranks; rank++) {
        if (work->now[rank] < 0)
            continue;
        const struct analyzed *matrix = &analysis->matrices[work->now[rank]];
        struct state_piece *piece = &work->pieces[count];
        struct state_array *array = &work->arrays[count++];
        *piece = (struct state_piece){.data = data};
        *array = (struct state_array){.rank = matrix->rank, .pieces = piece, .piece_count = rank == own};
        memcpy(piece->box.extent, matrix->shape, sizeof piece->box.extent);
        memcpy(array->shape, matrix->shape, sizeof array->shape);
        text_copy(array->name, sizeof array->name, matrix->name);
    }
    return checkpoint_read(analysis->context, work->mesh, path, work->arrays, count);
}

static enum status take_room(struct work *work, const struct analyzed *matrix)
{
    struct context *context = work->analysis->context;
    size_t bytes = (size_t)elements_of(matrix) * sizeof *work->a;
    work->a = memory_allocate(context, bytes, MEMORY_OTHER);
    if (work->analysis->other[0])
        work->b = memory_allocate(context, bytes, MEMORY_OTHER);
    return context->status;
}

static enum status measure(struct work *work, struct analyzed *matrix)
{
    struct analysis *analysis = work->analysis;
    char what[2][CHECKPOINT_PATH + STATE_NAME + 8];
    snprintf(what[0], sizeof what[0], "%s: %s", analysis->path, name_of(matrix));
    snprintf(what[1], sizeof what[1], "%s: %s", analysis->other, name_of(matrix));
    return spectra_of_stack(analysis->context, (const char *const[2]){what[0], what[1]}, matrix, analysis->directions,
                            work->a, work->b, matrix->measure, analysis->values + matrix->first);
}

static enum status run_round(struct work *work)
{
    struct analysis *analysis = work->analysis;
    struct context *context = analysis->context;
    int own = work->now[mesh_rank(work->mesh, MESH_TEAM)];
    struct analyzed *matrix = own >= 0 ? &analysis->matrices[own] : NULL;
    CHECK(mesh_agree(work->mesh, context, matrix ? take_room(work, matrix) : STATUS_OK));
    CHECK(read_round(work, analysis->path, work->a));
    if (analysis->other[0])
        CHECK(read_round(work, analysis->other, work->b));
    CHECK(mesh_agree(work->mesh, context, matrix ? measure(work, matrix) : STATUS_OK));
    memory_free(context, work->a);
    memory_free(context, work->b);
    work->a = work->b = NULL;
    return STATUS_OK;
}

/* What each rank has found, on all. */
static void join(const struct work *work)
{
    struct analysis *analysis = work->analysis;
    for (int i = 0; i < analysis->count; i++)
        mesh_broadcast(work->mesh, MESH_TEAM, work->home[i], analysis->matrices[i].measure, MEASURES, DTYPE_F64);
    mesh_all_reduce(work->mesh, MESH_TEAM, analysis->values, analysis->value_count, DTYPE_F64, MESH_SUM);
}

static enum status run(struct analysis *analysis, struct mesh *mesh)
{
    struct work work = {.analysis = analysis, .mesh = mesh, .ranks = mesh_size(mesh, MESH_TEAM)};
    enum status status;
    TRY(mesh_agree(mesh, analysis->context, deal(&work)));
    while (deal_next(work.home, analysis->count, work.ranks, work.next, work.now))
        TRY(run_round(&work));
    join(&work);
done:
    destroy(&work);
    return status;
}

enum status analysis_create(struct context *context, struct mesh *mesh, const char *path, const char *other,
                            const struct analysis_wish *wish, struct analysis *analysis)
{
    *analysis = (struct analysis){.context = context, .directions = wish->directions};
    text_copy(analysis->path, sizeof analysis->path, path);
    text_copy(analysis->other, sizeof analysis->other, other ? other : "");
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    enum status status = mesh_agree(mesh, context, header ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = checkpoint_read_header(context, mesh, path, header);
    analysis->step = status == STATUS_OK ? header->step : -1;
    memory_free(context, header);
    CHECK(status);
    CHECK(list_matrices(analysis, mesh, wish));
    return run(analysis, mesh);
}

void analysis_destroy(struct analysis *analysis)
{
    if (!analysis->context)
        return;
    memory_free(analysis->context, analysis->matrices);
    memory_free(analysis->context, analysis->values);
    *analysis = (struct analysis){0};
}
