#include "src/train/source.h"

enum status source_open(struct context *context, struct mesh *mesh, const struct config *config, int threads,
                        struct source *source)
{
    static const struct source_ops *const families[FAMILIES] = {
        [FAMILY_DECODER] = &token_source_ops, [FAMILY_VIT] = &image_source_ops, [FAMILY_RESNET] = &image_source_ops};
    const struct source_ops *ops = families[config->model.family];
    if (config->model.family == FAMILY_DECODER && config->model.classes > 0)
        ops = &label_source_ops;
    *source = (struct source){.ops = ops, .context = context, .mesh = mesh, .config = config};
    return source->ops->open(source, threads);
}

void source_close(struct source *source)
{
    if (source->ops)
        source->ops->close(source);
    *source = (struct source){0};
}
