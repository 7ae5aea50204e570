#include "src/model/model.h"

const struct model_ops *model_find(const struct model_config *config)
{
    static const struct model_ops *const families[] = {
        [FAMILY_DECODER] = &decoder_ops, [FAMILY_VIT] = &vit_ops, [FAMILY_RESNET] = &resnet_ops};
    return config->family == FAMILY_DECODER && config->classes > 0 ? &text_ops : families[config->family];
}

enum status model_create(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                         const struct model_ops *ops, struct parameter_list *parameters, struct model *model)
{
    *model = (struct model){.ops = ops ? ops : model_find(&config->model),
                            .context = context,
                            .mesh = mesh,
                            .engine = engine,
                            .config = config,
                            .parameters = parameters,
                            .dtype = config->compute.type == COMPUTE_BF16 ? DTYPE_BF16 : DTYPE_F32,
                            .chunks = 1};
    CHECK(model->ops->check(context, &config->model, mesh_config(mesh)));
    return model->ops->create(model);
}

void model_destroy(struct model *model)
{
    if (model->ops)
        model->ops->destroy(model);
    *model = (struct model){0};
}

bool model_carries(const struct model_ops *ops, const struct config *config)
{
    return ops->state && ops->state->carried(config);
}

/* -- What parameters are for -- */

const char *parameter_group_name(enum parameter_group group)
{
    static const char *const names[PARAMETER_GROUPS] = {
        [GROUP_EMBEDDINGS] = "embeddings",
        [GROUP_ATTENTION] = "attention",
        [GROUP_MLP] = "mlp",
        [GROUP_NORMS] = "norms",
        [GROUP_MEMORY_GATES] = "memory gates",
        [GROUP_ROUTERS] = "routers",
        [GROUP_CONVOLUTIONS] = "convolutions",
        [GROUP_PREDICTORS] = "predictors",
        [GROUP_RESIDUAL] = "residual",
        [GROUP_HEAD] = "head",
        [GROUP_LORA] = "lora",
        [GROUP_ADAPTERS] = "adapters",
    };
    return names[group];
}

struct parameter_totals parameter_totals(const struct parameter_list *list)
{
    struct parameter_totals totals = {0};
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        if (!parameter_counts(list->item[i]))
            continue;
        totals.stored[spec->group] += parameter_elements(spec);
        totals.unrolled[spec->group] += parameter_elements(spec) * integer_max(1, spec->repeats);
    }
    return totals;
}
