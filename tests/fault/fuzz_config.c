/* Feeds arbitrary bytes to the configuration parser. The text in front of the first zero byte is a file, what follows
 * an override. Whatever is accepted has to survive being written and read again. */
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"

enum { FORMAT_SIZE = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(struct context *context, const struct config *config, struct config *again, char *text)
{
    size_t length = config_format(config, text, FORMAT_SIZE);
    if (length >= FORMAT_SIZE || config_parse(context, "again", text, length, NULL, 0, again) != STATUS_OK ||
        memcmp(config, again, sizeof *config) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct context context;
    struct config *configs = malloc(2 * sizeof *configs);
    char *text = malloc(FORMAT_SIZE);
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t length = end ? (size_t)(end - data) : size;
    char *override = malloc(size - length + 1);
    if (!configs || !text || !override)
        abort();
    if (end)
        memcpy(override, end + 1, size - length - 1);
    override[end ? size - length - 1 : 0] = '\0';
    context_create(&context);
    const char *const overrides[] = {override};
    enum status status =
        config_parse(&context, "fuzz", (const char *)data, length, overrides, end ? 1 : 0, &configs[0]);
    if (status == STATUS_OK)
        check_round_trip(&context, &configs[0], &configs[1], text);
    else if (status != STATUS_USAGE || context.text[0] == '\0' || context.memory.bytes_total != 0)
        abort();
    free(override);
    free(text);
    free(configs);
    return 0;
}
