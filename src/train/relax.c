/* What a shared layer's mean leaves of the layers whose places it takes, as low-rank maps of the recursions
 * (src/model/README.md section 10). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/matrix/matrix.h"
#include "dist/matrix/svd.h"
#include "src/core/deal.h"
#include "src/model/layers.h"
#include "src/train/convert_private.h"

bool relax_applies(const struct conversion *conversion)
{
    const struct model_config *target = target_of(conversion);
    return !conversion->way->merges && target->depth.kind == DEPTH_MOR && target->depth.lora_rank > 0 &&
           conversion->way->initialization == CONVERT_AVERAGE;
}

/* -- Norms -- */

enum { NORMS = 2 };

static const char *const norm_names[NORMS] = {".input_layernorm.weight", ".post_attention_layernorm.weight"};

/* Which norm is in front of a matrix; -1: none. */
static int norm_before(const struct model_config *config, const char *rest)
{
    static const char *const behind_input[] = {".self_attn.q_proj.weight", ".self_attn.k_proj.weight",
                                               ".self_attn.v_proj.weight", ".self_attn.memory_write.weight"};
    for (size_t i = 0; i < sizeof behind_input / sizeof *behind_input; i++)
        if (strcmp(rest, behind_input[i]) == 0)
            return 0;
    if (strcmp(rest, ".mlp.gate_proj.weight") == 0 || strcmp(rest, ".mlp.up_proj.weight") == 0)
        return config->parallel_block ? 0 : 1;
    return -1;
}

static int norm_count(const struct model_config *config)
{
    return config->parallel_block ? 1 : NORMS;
}

static bool is_shared(const struct model_config *config, int64_t stored)
{
    return layers_use(config, convert_use(config, stored, 0)) >= 0;
}

const float *relax_scales(const struct conversion *conversion, int64_t stored, int64_t layer, const char *rest)
{
    const struct model_config *config = target_of(conversion);
    int norm = norm_before(config, rest);
    if (!conversion->norms || layer < 0 || norm < 0 || !is_shared(config, stored))
        return NULL;
    return conversion->norms + (layer * norm_count(config) + norm) * config->width;
}

bool relax_is_taken_in(const struct conversion *conversion, int64_t stored, const char *rest)
{
    bool is_norm = false;
    for (int i = 0; i < norm_count(target_of(conversion)); i++)
        is_norm = is_norm || strcmp(rest, norm_names[i]) == 0;
    return is_norm && conversion->norms && is_shared(target_of(conversion), stored);
}

enum status relax_norms(struct conversion *conversion)
{
    const struct model_config *config = target_of(conversion);
    int each = norm_count(config);
    int count = (int)conversion->from.model.layers * each;
    if (config->norm == NORM_LAYER && config->bias) /* whose product with a matrix depends on the layer */
        return STATUS_OK;
    size_t size = (size_t)(count * config->width) * sizeof *conversion->norms;
    float *norms = memory_allocate(conversion->context, size, MEMORY_OTHER);
    struct state_array *arrays = memory_allocate(conversion->context, (size_t)count * sizeof *arrays, MEMORY_OTHER);
    struct state_piece *pieces = memory_allocate(conversion->context, (size_t)count * sizeof *pieces, MEMORY_OTHER);
    enum status status;
    conversion->norms = norms;
    TRY(mesh_agree(conversion->mesh, conversion->context, norms && arrays && pieces ? STATUS_OK : STATUS_MEMORY));
    for (int i = 0; i < count; i++) {
        pieces[i] = (struct state_piece){.box.extent = {config->width}, .data = norms + i * config->width};
        arrays[i] = (struct state_array){.rank = 1, .shape = {config->width}, .pieces = &pieces[i], .piece_count = 1};
        snprintf(arrays[i].name, sizeof arrays[i].name, "/parameters/model.layers.%d%s", i / each,
                 norm_names[i % each]);
    }
    TRY(checkpoint_read(conversion->context, conversion->mesh, conversion->path, arrays, count));
done:
    memory_free(conversion->context, arrays);
    memory_free(conversion->context, pieces);
    return status;
}

/* -- Matrices, dealt to ranks -- */

/* A stored matrix and what is left for each of its uses. */
struct matrix {
    const struct parameter_spec *spec;
    int64_t stored;
    const char *rest;
    int64_t uses; /* that have maps of their own */
};

struct relaxation {
    struct conversion *conversion;
    struct convert_ranks *ranks;
    int count;
    struct matrix *matrices; /* [count] */
    double *cost, *load;     /* [count], [ranks] */
    int *home;               /* [count] the rank of the mesh that decomposes it */
    int *next;               /* [ranks] how far each has come */
    int *now;                /* [ranks] which it has; -1: none */
    struct state_array *arrays;
    struct state_piece *pieces;
    double left, kept; /* squares on this rank: of what the means leave, and of what the ranks keep of that */

    /* Of this rank's matrix: the layers [recursions, rows, columns], their mean, and the maps of each use, down [rank,
     * columns] and up [rows, rank] one behind the other, of which the first kept_rank[use] count. */
    float *layers, *mean;
    double *residual, *values, *left_factor, *right_factor, *work;
    float *maps;
    int64_t *kept_rank;       /* [recursions] */
    int64_t *kept_rank_given; /* [recursions] of another rank's */
};

static int64_t rank_of(const struct relaxation *relaxation)
{
    return target_of(relaxation->conversion)->depth.lora_rank;
}

static int64_t recursions_of(const struct relaxation *relaxation)
{
    return target_of(relaxation->conversion)->depth.recursions;
}

static int64_t elements_of(const struct matrix *matrix)
{
    return matrix->spec->shape[0] * matrix->spec->shape[1];
}

static int64_t map_elements(const struct relaxation *relaxation, const struct matrix *matrix)
{
    return rank_of(relaxation) * (matrix->spec->shape[0] + matrix->spec->shape[1]);
}

/* The name of a use's map, `side` down or up. */
static void name_map(const struct matrix *matrix, int64_t use, const char *side, char name[PARAMETER_NAME])
{
    int stem = (int)(strlen(matrix->rest) - strlen(".weight"));
    snprintf(name, PARAMETER_NAME, "model.recursions.%lld.layers.%lld%.*s.lora_%s.weight", (long long)use,
             (long long)matrix->stored, stem, matrix->rest, side);
}

/* How many uses of a matrix have maps. */
static int64_t count_maps(const struct relaxation *relaxation, const struct matrix *matrix)
{
    char name[PARAMETER_NAME];
    int64_t uses = 0;
    for (; uses < recursions_of(relaxation); uses++) {
        name_map(matrix, uses, "down", name);
        if (!parameter_find(&relaxation->conversion->target, name))
            break;
    }
    return uses;
}

static enum status list_matrices(struct relaxation *relaxation)
{
    struct context *context = relaxation->conversion->context;
    const struct parameter_list *list = &relaxation->conversion->target;
    size_t room = (size_t)list->count;
    size_t ranks = (size_t)mesh_size(relaxation->conversion->mesh, MESH_TEAM);
    size_t arrays = ranks * (size_t)recursions_of(relaxation);
    relaxation->matrices = memory_allocate(context, room * sizeof *relaxation->matrices, MEMORY_OTHER);
    relaxation->cost = memory_allocate(context, room * sizeof *relaxation->cost, MEMORY_OTHER);
    relaxation->home = memory_allocate(context, room * sizeof *relaxation->home, MEMORY_OTHER);
    relaxation->load = memory_allocate(context, ranks * sizeof *relaxation->load, MEMORY_OTHER);
    relaxation->next = memory_allocate(context, ranks * sizeof *relaxation->next, MEMORY_OTHER);
    relaxation->now = memory_allocate(context, ranks * sizeof *relaxation->now, MEMORY_OTHER);
    relaxation->arrays = memory_allocate(context, arrays * sizeof *relaxation->arrays, MEMORY_OTHER);
    relaxation->pieces = memory_allocate(context, arrays * sizeof *relaxation->pieces, MEMORY_OTHER);
    relaxation->kept_rank =
        memory_allocate(context, (size_t)recursions_of(relaxation) * sizeof *relaxation->kept_rank, MEMORY_OTHER);
    relaxation->kept_rank_given =
        memory_allocate(context, (size_t)recursions_of(relaxation) * sizeof *relaxation->kept_rank_given, MEMORY_OTHER);
    CHECK(context->status);
    for (int i = 0; i < list->count; i++) {
        struct matrix matrix = {.spec = &list->item[i]->spec};
        if (matrix.spec->rank != 2 || !matrix.spec->is_matrix ||
            !convert_split_name(matrix.spec->name, &matrix.stored, &matrix.rest))
            continue;
        matrix.uses = count_maps(relaxation, &matrix);
        if (matrix.uses == 0)
            continue;
        CHECK(matrix_check(context, matrix.spec->name, matrix.spec->shape[0], matrix.spec->shape[1]));
        int64_t small = integer_min(matrix.spec->shape[0], matrix.spec->shape[1]);
        relaxation->cost[relaxation->count] = (double)matrix.uses * (double)elements_of(&matrix) * (double)small;
        relaxation->matrices[relaxation->count++] = matrix;
    }
    deal_by_cost(relaxation->cost, relaxation->count, (int)ranks, relaxation->home, relaxation->load);
    return STATUS_OK;
}

static void forget_matrix(struct relaxation *relaxation)
{
    struct context *context = relaxation->conversion->context;
    void *owned[] = {relaxation->layers,      relaxation->mean,         relaxation->residual, relaxation->values,
                     relaxation->left_factor, relaxation->right_factor, relaxation->work,     relaxation->maps};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    relaxation->layers = relaxation->mean = relaxation->maps = NULL;
    relaxation->residual = relaxation->values = relaxation->left_factor = relaxation->right_factor = NULL;
    relaxation->work = NULL;
}

static void destroy(struct relaxation *relaxation)
{
    struct context *context = relaxation->conversion->context;
    void *owned[] = {relaxation->matrices,       relaxation->cost,   relaxation->home,
                     relaxation->load,           relaxation->next,   relaxation->now,
                     relaxation->arrays,         relaxation->pieces, relaxation->kept_rank,
                     relaxation->kept_rank_given};
    forget_matrix(relaxation);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
}

/* Room for a rank's own matrix; what others broadcast only needs the maps. */
static enum status make_room(struct relaxation *relaxation, const struct matrix *matrix)
{
    struct context *context = relaxation->conversion->context;
    size_t elements = (size_t)elements_of(matrix);
    size_t rows = (size_t)matrix->spec->shape[0];
    size_t columns = (size_t)matrix->spec->shape[1];
    size_t small = rows < columns ? rows : columns;
    size_t work = matrix_svd_work((int64_t)rows, (int64_t)columns, true);
    relaxation->layers = memory_allocate(
        context, (size_t)recursions_of(relaxation) * elements * sizeof *relaxation->layers, MEMORY_OTHER);
    relaxation->mean = memory_allocate(context, elements * sizeof *relaxation->mean, MEMORY_OTHER);
    relaxation->residual = memory_allocate(context, elements * sizeof *relaxation->residual, MEMORY_OTHER);
    relaxation->values = memory_allocate(context, small * sizeof *relaxation->values, MEMORY_OTHER);
    relaxation->left_factor = memory_allocate(context, rows * small * sizeof *relaxation->left_factor, MEMORY_OTHER);
    relaxation->right_factor =
        memory_allocate(context, small * columns * sizeof *relaxation->right_factor, MEMORY_OTHER);
    relaxation->work = memory_allocate(context, work * sizeof *relaxation->work, MEMORY_OTHER);
    size_t maps = (size_t)(matrix->uses * map_elements(relaxation, matrix));
    relaxation->maps = memory_allocate(context, maps * sizeof *relaxation->maps, MEMORY_OTHER);
    return context->status;
}

/* Every rank names the arrays of all ranks' matrices, and wants those of its own. */
static enum status read_layers(struct relaxation *relaxation)
{
    const struct conversion *conversion = relaxation->conversion;
    int own = mesh_rank(conversion->mesh, MESH_TEAM);
    int count = 0;
    for (int rank = 0; rank < mesh_size(conversion->mesh, MESH_TEAM); rank++) {
        if (relaxation->now[rank] < 0)
            continue;
        const struct matrix *matrix = &relaxation->matrices[relaxation->now[rank]];
        const int64_t *shape = matrix->spec->shape;
        for (int64_t use = 0; use < recursions_of(relaxation); use++) {
            struct state_array *array = &relaxation->arrays[count];
            struct state_piece *piece = &relaxation->pieces[count++];
            *piece = (struct state_piece){.box.extent = {shape[0], shape[1]},
                                          .data = relaxation->layers + use * elements_of(matrix)};
            *array = (struct state_array){
                .rank = 2, .shape = {shape[0], shape[1]}, .pieces = piece, .piece_count = rank == own};
            snprintf(array->name, sizeof array->name, "/parameters/model.layers.%lld%s",
                     (long long)convert_origin(conversion, matrix->stored, use), matrix->rest);
        }
    }
    return checkpoint_read(conversion->context, conversion->mesh, conversion->path, relaxation->arrays, count);
}

/* -- What is left -- */

/* The mean as the shards have it. */
static void take_mean(struct relaxation *relaxation, const struct matrix *matrix)
{
    const struct conversion *conversion = relaxation->conversion;
    int64_t columns = matrix->spec->shape[1];
    for (int64_t use = 0; use < recursions_of(relaxation); use++) {
        int64_t layer = convert_origin(conversion, matrix->stored, use);
        const float *scales = relax_scales(conversion, matrix->stored, layer, matrix->rest);
        float *values = relaxation->layers + use * elements_of(matrix);
        for (int64_t e = 0; e < elements_of(matrix); e++) {
            if (scales)
                values[e] *= scales[e % columns];
            relaxation->mean[e] = convert_mean(relaxation->mean[e], values[e], use);
        }
    }
}

/* How many singular values are kept, and what that leaves; nothing of a matrix that is the mean itself. */
static int64_t choose_rank(struct relaxation *relaxation, int64_t small)
{
    double energy = relaxation->conversion->way->energy;
    int64_t most = integer_min(small, energy > 0.0 ? small : rank_of(relaxation));
    double all = 0.0;
    double sum = 0.0;
    for (int64_t i = 0; i < small; i++)
        all += relaxation->values[i] * relaxation->values[i];
    int64_t rank = 0;
    while (rank < most && (energy > 0.0 ? sum < energy * all : all > 0.0)) {
        sum += relaxation->values[rank] * relaxation->values[rank];
        rank++;
    }
    relaxation->left += all;
    relaxation->kept += sum;
    return rank;
}

/* up = P S, down = Q^T of the residual P S Q^T. */
static void fill_maps(struct relaxation *relaxation, const struct matrix *matrix, int64_t use)
{
    int64_t rank = rank_of(relaxation);
    int64_t rows = matrix->spec->shape[0];
    int64_t columns = matrix->spec->shape[1];
    int64_t small = integer_min(rows, columns);
    float *down = relaxation->maps + use * map_elements(relaxation, matrix);
    float *up = down + rank * columns;
    for (int64_t k = 0; k < relaxation->kept_rank[use]; k++) {
        for (int64_t j = 0; j < columns; j++)
            down[k * columns + j] = (float)relaxation->right_factor[k * columns + j];
        for (int64_t i = 0; i < rows; i++)
            up[i * rank + k] = (float)(relaxation->left_factor[i * small + k] * relaxation->values[k]);
    }
}

static void note_rank(struct convert_ranks *ranks, int64_t rank)
{
    ranks->least = ranks->count == 0 ? rank : integer_min(ranks->least, rank);
    ranks->most = integer_max(ranks->most, rank);
    ranks->mean += (double)rank; /* the sum, until all ranks are through */
    ranks->count++;
}

static enum status decompose(struct relaxation *relaxation, const struct matrix *matrix)
{
    struct context *context = relaxation->conversion->context;
    int64_t rows = matrix->spec->shape[0];
    int64_t columns = matrix->spec->shape[1];
    take_mean(relaxation, matrix);
    for (int64_t use = 0; use < matrix->uses; use++) {
        const float *layer = relaxation->layers + use * elements_of(matrix);
        char what[CHECKPOINT_PATH + PARAMETER_NAME];
        for (int64_t e = 0; e < elements_of(matrix); e++)
            relaxation->residual[e] = (double)layer[e] - (double)relaxation->mean[e];
        snprintf(what, sizeof what, "%s: %s, less the mean, for recursion %lld", relaxation->conversion->path,
                 matrix->spec->name, (long long)use);
        CHECK(matrix_svd(context, what, rows, columns, relaxation->residual, relaxation->values,
                         relaxation->left_factor, relaxation->right_factor, relaxation->work));
        relaxation->kept_rank[use] = choose_rank(relaxation, integer_min(rows, columns));
        note_rank(relaxation->ranks, relaxation->kept_rank[use]);
        if (relaxation->conversion->trainer)
            fill_maps(relaxation, matrix, use);
    }
    return STATUS_OK;
}

/* -- Into the model -- */

/* A map [rows, columns], of which the first `limit` of the axis count: the rest begins as in any new model. */
static void put(const struct conversion *conversion, const char *name, const float *map, int axis, int64_t limit)
{
    int count;
    const struct shard *shards = replica_shards(conversion->trainer->session.replica, &count);
    for (int i = 0; i < count; i++) {
        const struct parameter *parameter = shards[i].parameter;
        struct box block = parameter_box(parameter);
        if (strcmp(parameter->spec.name, name) != 0)
            continue;
        for (int64_t e = 0; e < shards[i].flat.count; e++) {
            int64_t local = shards[i].flat.begin + e;
            int64_t at[2] = {block.offset[0] + local / block.extent[1], block.offset[1] + local % block.extent[1]};
            if (at[axis] < limit)
                shards[i].master[e] = map[at[0] * parameter->spec.shape[1] + at[1]];
        }
    }
}

/* Each rank's maps of this round to all. */
static enum status give_maps(struct relaxation *relaxation)
{
    const struct conversion *conversion = relaxation->conversion;
    struct mesh *mesh = conversion->mesh;
    for (int rank = 0; rank < mesh_size(mesh, MESH_TEAM); rank++) {
        if (relaxation->now[rank] < 0)
            continue;
        const struct matrix *matrix = &relaxation->matrices[relaxation->now[rank]];
        int64_t each = map_elements(relaxation, matrix);
        bool own = rank == mesh_rank(mesh, MESH_TEAM);
        float *maps =
            own ? relaxation->maps
                : memory_allocate(conversion->context, (size_t)(matrix->uses * each) * sizeof *maps, MEMORY_OTHER);
        int64_t *kept = own ? relaxation->kept_rank : relaxation->kept_rank_given;
        CHECK(mesh_agree(mesh, conversion->context, maps ? STATUS_OK : STATUS_MEMORY));
        mesh_broadcast(mesh, MESH_TEAM, rank, kept, matrix->uses, DTYPE_I64);
        mesh_broadcast(mesh, MESH_TEAM, rank, maps, matrix->uses * each, DTYPE_F32);
        for (int64_t use = 0; use < matrix->uses; use++) {
            char name[PARAMETER_NAME];
            const float *down = maps + use * each;
            name_map(matrix, use, "down", name);
            put(conversion, name, down, 0, kept[use]);
            name_map(matrix, use, "up", name);
            put(conversion, name, down + rank_of(relaxation) * matrix->spec->shape[1], 1, kept[use]);
        }
        if (!own)
            memory_free(conversion->context, maps);
    }
    return STATUS_OK;
}

static enum status run_round(struct relaxation *relaxation)
{
    struct conversion *conversion = relaxation->conversion;
    int own = relaxation->now[mesh_rank(conversion->mesh, MESH_TEAM)];
    const struct matrix *matrix = own >= 0 ? &relaxation->matrices[own] : NULL;
    CHECK(mesh_agree(conversion->mesh, conversion->context, matrix ? make_room(relaxation, matrix) : STATUS_OK));
    CHECK(read_layers(relaxation));
    CHECK(mesh_agree(conversion->mesh, conversion->context, matrix ? decompose(relaxation, matrix) : STATUS_OK));
    if (conversion->trainer)
        CHECK(give_maps(relaxation));
    forget_matrix(relaxation);
    return STATUS_OK;
}

static void join_ranks(const struct relaxation *relaxation)
{
    struct convert_ranks *ranks = relaxation->ranks;
    struct mesh *mesh = relaxation->conversion->mesh;
    int64_t bounds[2] = {ranks->most, ranks->count > 0 ? -ranks->least : -INT64_MAX};
    double sums[4] = {(double)ranks->count, ranks->mean, relaxation->left, relaxation->kept};
    mesh_all_reduce(mesh, MESH_TEAM, bounds, 2, DTYPE_I64, MESH_MAX);
    mesh_all_reduce(mesh, MESH_TEAM, sums, 4, DTYPE_F64, MESH_SUM);
    *ranks = (struct convert_ranks){.count = (int64_t)sums[0],
                                    .least = -bounds[1],
                                    .most = bounds[0],
                                    .mean = sums[1] / fmax(1.0, sums[0]),
                                    .kept = sums[2] > 0.0 ? sums[3] / sums[2] : 1.0};
}

enum status relax_residuals(struct conversion *conversion, struct convert_ranks *ranks)
{
    struct relaxation relaxation = {.conversion = conversion, .ranks = ranks};
    enum status status;
    *ranks = (struct convert_ranks){0};
    TRY(mesh_agree(conversion->mesh, conversion->context, list_matrices(&relaxation)));
    while (deal_next(relaxation.home, relaxation.count, mesh_size(conversion->mesh, MESH_TEAM), relaxation.next,
                     relaxation.now))
        TRY(run_round(&relaxation));
    join_ranks(&relaxation);
done:
    destroy(&relaxation);
    return status;
}
