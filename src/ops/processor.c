#include "src/ops/processor.h"

#include <stdbool.h>
#include <stdio.h>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static void append(char *text, size_t size, size_t *used, const char *name, bool present)
{
    if (!present || *used >= size)
        return;
    int length = snprintf(text + *used, size - *used, "%s%s", *used ? " " : "", name);
    *used += length > 0 ? (size_t)length : 0;
}

void processor_instructions(char *text, size_t size)
{
    size_t used = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#define ASK(name) append(text, size, &used, name, __builtin_cpu_supports(name))
    ASK("sse4.2");
    ASK("avx");
    ASK("f16c");
    ASK("fma");
    ASK("avx2");
    ASK("bmi2");
    ASK("avx512f");
    ASK("avx512bw");
    ASK("avx512cd");
    ASK("avx512dq");
    ASK("avx512vl");
    ASK("avx512vnni");
    ASK("avx512bf16");
    ASK("amx-tile");
    ASK("amx-int8");
    ASK("amx-bf16");
#undef ASK
#elif defined(__aarch64__) && defined(__linux__)
    unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    append(text, size, &used, "asimd", first & HWCAP_ASIMD);
    append(text, size, &used, "asimdhp", first & HWCAP_ASIMDHP);
    append(text, size, &used, "asimddp", first & HWCAP_ASIMDDP);
    append(text, size, &used, "sve", first & HWCAP_SVE);
    append(text, size, &used, "sve2", second & HWCAP2_SVE2);
    append(text, size, &used, "i8mm", second & HWCAP2_I8MM);
    append(text, size, &used, "bf16", second & HWCAP2_BF16);
#else
    append(text, size, &used, "unknown", true);
#endif
    if (used == 0 && size > 0)
        text[0] = '\0';
}
