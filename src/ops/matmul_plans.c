#include "src/ops/matmul_plans.h"

#include <string.h>

#include "src/ops/convolution_plans.h"
#include "src/ops/kernels/kernels.h"
#include "src/ops/packed.h"

/* Routed models may bring a new shape each step; beyond this many the plans start over. */
enum { PLANS_LIMIT = 2048, PLANS_FIRST = 64, KEY_PARTS = 7 };

struct plan {
    int64_t key[KEY_PARTS];
    bool used;
    dnnl_primitive_t primitive; /* NULL when the library cannot do it */
    dnnl_memory_t a, b, c;
    bool packs;               /* b is in the library's own layout */
    bool panels;              /* which is that of plans_panels */
    dnnl_memory_desc_t plain; /* of b as it comes */
};

static void key_fill(int64_t key[KEY_PARTS], const struct matmul *p)
{
    int64_t flags =
        p->a_transposed | p->b_transposed << 1 | (p->beta != 0.0f) << 2 | (int)p->c_type << 3 | p->b_lasts << 8;
    int64_t parts[KEY_PARTS] = {p->m, p->n, p->k, p->lda, p->ldb, p->ldc, flags};
    memcpy(key, parts, sizeof parts);
}

static uint64_t key_hash(const int64_t key[KEY_PARTS])
{
    uint64_t hash = 0;
    for (int i = 0; i < KEY_PARTS; i++) {
        hash = (hash ^ (uint64_t)key[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* The place of a key: its plan, or the free place where it belongs. */
static struct plan *plans_find(struct plan *table, int64_t capacity, const int64_t key[KEY_PARTS])
{
    int64_t place = (int64_t)(key_hash(key) & (uint64_t)(capacity - 1));
    while (table[place].used && memcmp(table[place].key, key, sizeof table[place].key) != 0)
        place = (place + 1) & (capacity - 1);
    return &table[place];
}

static void plans_clear(struct matmul_plans *plans)
{
    for (int64_t i = 0; i < plans->capacity; i++) {
        struct plan *plan = &plans->table[i];
        if (plan->primitive) {
            dnnl_primitive_destroy(plan->primitive);
            dnnl_memory_destroy(plan->a);
            dnnl_memory_destroy(plan->b);
            dnnl_memory_destroy(plan->c);
        }
        memset(plan, 0, sizeof *plan);
    }
    plans->count = 0;
}

static enum status plans_grow(struct context *context, struct matmul_plans *plans)
{
    if (plans->count >= PLANS_LIMIT)
        plans_clear(plans);
    if (2 * (plans->count + 1) <= plans->capacity)
        return STATUS_OK;
    int64_t capacity = plans->capacity ? 2 * plans->capacity : PLANS_FIRST;
    struct plan *table = memory_allocate(context, (size_t)capacity * sizeof *table, MEMORY_OTHER);
    if (!table)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < plans->capacity; i++)
        if (plans->table[i].used)
            *plans_find(table, capacity, plans->table[i].key) = plans->table[i];
    memory_free(context, plans->table);
    plans->table = table;
    plans->capacity = capacity;
    return STATUS_OK;
}

enum status plans_create(struct context *context, struct matmul_plans **created)
{
    struct matmul_plans *plans = memory_allocate(context, sizeof *plans, MEMORY_OTHER);
    *created = plans;
    if (!plans)
        return STATUS_MEMORY;
    if (dnnl_engine_create(&plans->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&plans->stream, plans->engine, dnnl_stream_default_flags) != dnnl_success)
        return context_fail(context, STATUS_INTERNAL, "oneDNN cannot be started on this CPU");
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    plans->rows_differ = isa == dnnl_cpu_isa_avx2 || isa == dnnl_cpu_isa_avx2_vnni;
    return STATUS_OK;
}

void plans_destroy(struct context *context, struct matmul_plans *plans)
{
    if (!plans)
        return;
    plans_clear(plans);
    packed_destroy_all(context, plans);
    convolution_plans_destroy(context, plans);
    memory_free(context, plans->table);
    if (plans->stream)
        dnnl_stream_destroy(plans->stream);
    if (plans->engine)
        dnnl_engine_destroy(plans->engine);
    memory_free(context, plans);
}

/* A row-major matrix, or one that is stored as its transpose. */
static dnnl_status_t matrix_describe(dnnl_memory_desc_t *description, int64_t rows, int64_t columns, int64_t leading,
                                     bool transposed, enum dtype dtype)
{
    dnnl_dims_t shape = {rows, columns};
    dnnl_dims_t strides = {transposed ? 1 : leading, transposed ? leading : 1};
    return dnnl_memory_desc_init_by_strides(description, 2, shape, dtype == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32, strides);
}

static bool is_called(const_dnnl_primitive_desc_t prepared, const char *name)
{
    const char *found = "";
    return dnnl_primitive_desc_query(prepared, dnnl_query_impl_info_str, 0, &found) == dnnl_success &&
           strcmp(found, name) == 0;
}

/* The library's first choice, but for a gradient of weights on AVX-512: there its first choice turns blocks of the
 * transposed A again for every block of B, while the product it has besides packs both operands once. */
static dnnl_status_t primitive_choose(dnnl_engine_t engine, const dnnl_matmul_desc_t *description,
                                      const_dnnl_primitive_attr_t attributes, bool weight_gradient,
                                      dnnl_primitive_desc_t *chosen)
{
    dnnl_status_t status = dnnl_primitive_desc_create(chosen, description, attributes, engine, NULL);
    if (status != dnnl_success || !weight_gradient || !is_called(*chosen, "brg:avx512_core_bf16"))
        return status;
    dnnl_primitive_desc_iterator_t others;
    if (dnnl_primitive_desc_iterator_create(&others, description, attributes, engine, NULL) != dnnl_success)
        return dnnl_success;
    bool found = false;
    while (!found && dnnl_primitive_desc_iterator_next(others) == dnnl_success) {
        dnnl_primitive_desc_t other = dnnl_primitive_desc_iterator_fetch(others);
        found = is_called(other, "gemm:jit");
        dnnl_primitive_desc_destroy(found ? *chosen : other);
        if (found)
            *chosen = other;
    }
    dnnl_primitive_desc_iterator_destroy(others);
    return dnnl_success;
}

/* `weights` becomes the layout in which the primitive wants B. */
static dnnl_status_t primitive_create(dnnl_engine_t engine, const dnnl_matmul_desc_t *description, bool sum,
                                      bool weight_gradient, dnnl_primitive_t *primitive, dnnl_memory_desc_t *weights)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t prepared = NULL;
    dnnl_status_t status = attributes_create(sum, &attributes);
    if (status == dnnl_success)
        status = primitive_choose(engine, description, attributes, weight_gradient, &prepared);
    if (status == dnnl_success)
        *weights = *dnnl_primitive_desc_query_md(prepared, dnnl_query_weights_md, 0);
    if (status == dnnl_success)
        status = dnnl_primitive_create(primitive, prepared);
    if (prepared)
        dnnl_primitive_desc_destroy(prepared);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

static bool lies_in_panels(const dnnl_memory_desc_t *b, const struct matmul *p)
{
    const dnnl_blocking_desc_t *blocks = &b->format_desc.blocking;
    return b->format_kind == dnnl_blocked && b->offset0 == 0 && p->k % BF16_DEPTH == 0 && blocks->inner_nblks == 3 &&
           blocks->inner_idxs[0] == 0 && blocks->inner_blks[0] == BF16_DEPTH / 2 && blocks->inner_idxs[1] == 1 &&
           blocks->inner_blks[1] == PANEL_COLUMNS && blocks->inner_idxs[2] == 0 && blocks->inner_blks[2] == 2 &&
           blocks->strides[0] == BF16_DEPTH * PANEL_COLUMNS && blocks->strides[1] == p->k * PANEL_COLUMNS;
}

static dnnl_status_t plan_prepare(struct matmul_plans *plans, const struct matmul *p, struct plan *plan)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t description;
    dnnl_dims_t shape = {p->k, p->n};
    plan->packs = p->b_lasts; /* a few rows, too: generation passes them a hundred times with the same parameters */
    dnnl_status_t status = matrix_describe(&a, p->m, p->k, p->lda, p->a_transposed, p->type);
    if (status == dnnl_success)
        status = matrix_describe(&plan->plain, p->k, p->n, p->ldb, p->b_transposed, p->type);
    b = plan->plain;
    if (status == dnnl_success && plan->packs)
        status = dnnl_memory_desc_init_by_tag(&b, 2, shape, dnnl_bf16, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = matrix_describe(&c, p->m, p->n, p->ldc, false, p->c_type);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&description, &a, &b, NULL, &c);
    if (status == dnnl_success)
        status = primitive_create(plans->engine, &description, p->beta != 0.0f,
                                  p->a_transposed && p->c_type == DTYPE_F32, &plan->primitive, &b);
    if (status == dnnl_success)
        status = dnnl_memory_create(&plan->a, &a, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&plan->b, &b, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&plan->c, &c, plans->engine, DNNL_MEMORY_NONE);
    plan->panels = status == dnnl_success && plan->packs && lies_in_panels(&b, p);
    return status;
}

/* Leaves plan->primitive NULL when the library refuses. */
static enum status plan_fill(struct context *context, struct matmul_plans *plans, const struct matmul *p,
                             struct plan *plan)
{
    dnnl_status_t status = plan_prepare(plans, p, plan);
    if (status == dnnl_unimplemented) {
        plan->primitive = NULL;
        return STATUS_OK;
    }
    if (status != dnnl_success)
        return context_fail(context, STATUS_INTERNAL,
                            "oneDNN cannot prepare a product of %lld x %lld x %lld: status %d", (long long)p->m,
                            (long long)p->n, (long long)p->k, (int)status);
    return STATUS_OK;
}

/* The plan of a product, prepared if it is the first of its shape. */
static enum status plan_obtain(struct context *context, struct matmul_plans *plans, const struct matmul *p,
                               struct plan **obtained)
{
    int64_t key[KEY_PARTS];
    key_fill(key, p);
    struct plan *plan = plans->capacity ? plans_find(plans->table, plans->capacity, key) : NULL;
    if (!plan || !plan->used) {
        CHECK(plans_grow(context, plans));
        plan = plans_find(plans->table, plans->capacity, key);
        CHECK(plan_fill(context, plans, p, plan));
        memcpy(plan->key, key, sizeof key);
        plan->used = true;
        plans->count++;
    }
    *obtained = plan;
    return STATUS_OK;
}

/* In which it wants B. */
static const dnnl_memory_desc_t *plan_layout(const struct plan *plan)
{
    const dnnl_memory_desc_t *layout;
    dnnl_memory_get_memory_desc(plan->b, &layout);
    return layout;
}

enum status plans_panels(struct context *context, struct matmul_plans *plans, const struct matmul *p,
                         const uint32_t **panels)
{
    struct plan *plan;
    dnnl_memory_t packed;
    void *data = NULL;
    *panels = NULL;
    CHECK(plan_obtain(context, plans, p, &plan));
    if (!plan->primitive || !plan->panels)
        return STATUS_OK;
    CHECK(packed_find(context, plans, &plan->plain, plan_layout(plan), p->b, &packed));
    dnnl_memory_get_data_handle(packed, &data);
    *panels = data;
    return STATUS_OK;
}

enum status plans_run(struct context *context, struct matmul_plans *plans, const struct matmul *p, bool *done)
{
    struct plan *plan;
    CHECK(plan_obtain(context, plans, p, &plan));
    *done = plan->primitive != NULL;
    if (!*done)
        return STATUS_OK;
    /* The library takes inputs through pointers to data that is not const, and only reads them. */
    dnnl_memory_set_data_handle(plan->a, (void *)(uintptr_t)p->a);
    dnnl_memory_t b = plan->b;
    if (plan->packs)
        CHECK(packed_find(context, plans, &plan->plain, plan_layout(plan), p->b, &b));
    else
        dnnl_memory_set_data_handle(b, (void *)(uintptr_t)p->b);
    dnnl_memory_set_data_handle(plan->c, p->c);
    if (context->dry)
        return STATUS_OK;
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, plan->a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, plan->c}};
    dnnl_status_t status = dnnl_primitive_execute(plan->primitive, plans->stream, 3, arguments);
    if (status != dnnl_success)
        return context_fail(context, STATUS_INTERNAL, "oneDNN failed in a product of %lld x %lld x %lld: status %d",
                            (long long)p->m, (long long)p->n, (long long)p->k, (int)status);
    return STATUS_OK;
}
