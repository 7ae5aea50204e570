#include "src/ops/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "src/ops/kernels/kernels.h"
#include "src/ops/matmul_plans.h"
#include "src/ops/peak.h"
#include "src/ops/threads.h"

/* The best that this compiler could make. */
#ifdef CAIRN_KERNELS_BF16
#define KERNELS_BF16 kernels_bf16
#else
#define KERNELS_BF16 kernels_avx512
#endif
#ifdef CAIRN_KERNELS_AMX
#define KERNELS_AMX kernels_amx
#else
#define KERNELS_AMX KERNELS_BF16
#endif

/* What a machine may be treated as, best first. */
struct machine {
    const char *name;
    const struct kernels *kernels;
    dnnl_cpu_isa_t library; /* the most that oneDNN may use */
    bool native;            /* oneDNN multiplies BF16 where it can */
    bool plain;             /* no oneDNN at all */
};

static const struct machine machines[] = {
#ifdef CAIRN_KERNELS_X86
    {"amx", &KERNELS_AMX, dnnl_cpu_isa_avx512_core_amx, true, false},
    {"bf16", &KERNELS_BF16, dnnl_cpu_isa_avx512_core_bf16, true, false},
    {"avx512", &kernels_avx512, dnnl_cpu_isa_avx512_core, true, false},
    {"avx2", &kernels_avx2, dnnl_cpu_isa_avx2, false, false},
#endif
    {"portable", &kernels_reference, dnnl_cpu_isa_all, true, false},
    {"reference", &kernels_reference, dnnl_cpu_isa_all, false, true},
};

enum { MACHINES = sizeof machines / sizeof machines[0] };

#ifdef CAIRN_KERNELS_X86
/* Linux gives a process the registers of AMX only when it asks; it may ask again. */
static bool matrix_permitted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}
#endif

static bool machine_available(const struct machine *machine)
{
#ifdef CAIRN_KERNELS_X86
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                __builtin_cpu_supports("bmi2");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
    bool half = avx512 && __builtin_cpu_supports("avx512bf16");
    bool matrix =
        half && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && matrix_permitted();
    switch (machine->library) {
    case dnnl_cpu_isa_avx512_core_amx:
        return matrix;
    case dnnl_cpu_isa_avx512_core_bf16:
        return half;
    case dnnl_cpu_isa_avx512_core:
        return avx512;
    case dnnl_cpu_isa_avx2:
        return avx2;
    default:
        return true;
    }
#else
    (void)machine;
    return true;
#endif
}

/* The best machine this one can be, or the one that `name` asks for. */
static enum status machine_choose(struct context *context, const char *name, const struct machine **chosen)
{
    char available[128] = "";
    size_t used = 0;
    *chosen = NULL;
    for (int i = 0; i < MACHINES; i++) {
        const struct machine *machine = &machines[i];
        if (!machine_available(machine))
            continue;
        used += (size_t)snprintf(available + used, sizeof available - used, "%s%s", used ? ", " : "", machine->name);
        if (!*chosen && (!name || strcmp(name, machine->name) == 0))
            *chosen = machine;
    }
    if (*chosen)
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE, "CAIRN_CPU=%s: this machine can be one of %s", name, available);
}

enum status engine_rank(struct context *context, int *rank)
{
    const char *name = getenv("CAIRN_CPU");
    const struct machine *machine;
    CHECK(machine_choose(context, name && *name ? name : NULL, &machine));
    *rank = (int)(machine - machines);
    return STATUS_OK;
}

const char *engine_name(int rank)
{
    return machines[rank].name;
}

void engine_library_version(char *text, size_t size)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, size, "%d.%d.%d", version->major, version->minor, version->patch);
}

enum status engine_create_as(struct context *context, int threads, const char *name, struct engine *engine)
{
    *engine = (struct engine){.context = context, .threads = threads, .threads_wanted = threads, .cache = peak_cache()};
    const struct machine *machine;
    CHECK(machine_choose(context, name, &machine));
    if (threads < 1)
        return context_fail(context, STATUS_USAGE, "a rank needs at least one thread, not %d", threads);
    engine->kernels = context->dry ? kernels_dry(machine->kernels) : machine->kernels;
    engine->isa = machine->name;
    /* Kernels and library divide products by this number, so it has to be what regions get. A plan computes nothing,
     * and may be for another machine. */
    if (!context->dry)
        engine->threads = threads_granted(threads);
    /* Once for a process and before its first product; a second engine has to live with the first one's choice. */
    if (name && machine->library != dnnl_cpu_isa_all)
        (void)dnnl_set_max_cpu_isa(machine->library);
    enum status status = plans_create(context, &engine->plans);
    if (status != STATUS_OK) {
        engine_destroy(engine);
        return status;
    }
    engine->plans->plain = machine->plain;
    engine->plans->native = machine->native;
    return STATUS_OK;
}

enum status engine_create(struct context *context, int threads, struct engine *engine)
{
    const char *name = getenv("CAIRN_CPU");
    return engine_create_as(context, threads, name && *name ? name : NULL, engine);
}

void engine_destroy(struct engine *engine)
{
    plans_destroy(engine->context, engine->plans);
    memory_free(engine->context, engine->scratch);
    memory_free(engine->context, engine->padded);
    engine->plans = NULL;
    engine->padded = NULL;
    engine->padded_count = 0;
    engine->scratch = NULL;
    engine->scratch_size = 0;
}

void engine_forget(struct engine *engine)
{
    engine->plans->epoch++;
}

void *engine_scratch(struct engine *engine, size_t bytes, size_t *stride)
{
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > engine->scratch_size || !engine->scratch) {
        memory_free(engine->context, engine->scratch);
        engine->scratch_size = 0;
        engine->scratch = memory_allocate(engine->context, bytes * (size_t)engine->threads, MEMORY_BUFFERS);
        if (!engine->scratch)
            return NULL;
        engine->scratch_size = bytes;
    }
    *stride = engine->scratch_size;
    return engine->scratch;
}
