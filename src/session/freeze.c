#include "src/session/freeze.h"

#include <fnmatch.h>

#include "src/model/model.h"

static bool matches(const struct text_list *patterns, const char *name)
{
    for (int i = 0; i < patterns->count; i++)
        if (fnmatch(patterns->item[i], name, 0) == 0)
            return true;
    return false;
}

static enum status check_patterns(struct context *context, const char *key, const struct text_list *patterns,
                                  const struct parameter_list *list)
{
    for (int i = 0; i < patterns->count; i++) {
        bool used = false;
        for (int p = 0; p < list->count && !used; p++)
            used = fnmatch(patterns->item[i], list->item[p]->spec.name, 0) == 0;
        if (!used)
            return context_fail(
                context, STATUS_USAGE,
                "%s: no parameter is named like \"%s\"; the first is %s, the last %s (`cairn checkpoint "
                "inspect` lists those of a run)",
                key, patterns->item[i], list->count ? list->item[0]->spec.name : "none",
                list->count ? list->item[list->count - 1]->spec.name : "none");
    }
    return STATUS_OK;
}

/* LoRA maps learn where there are any, and nothing beside them that is not named. */
static bool learns_unasked(const struct config *config, const struct parameter_spec *spec)
{
    if (config->model.lora.rank > 0)
        return spec->group == GROUP_LORA;
    return config->training.train_only.count == 0;
}

enum status freeze_parameters(struct context *context, const struct config *config, struct parameter_list *list)
{
    const struct training_config *training = &config->training;
    const struct text_list *only = &training->train_only;
    CHECK(check_patterns(context, "training.freeze", &training->freeze, list));
    CHECK(check_patterns(context, "training.train_only", only, list));
    bool learns = list->count == 0;
    for (int i = 0; i < list->count; i++) {
        struct parameter *parameter = list->item[i];
        if (matches(&training->freeze, parameter->spec.name) ||
            !(learns_unasked(config, &parameter->spec) || matches(only, parameter->spec.name)))
            parameter->frozen = true;
        learns = learns || parameter_learns(parameter);
    }
    if (learns)
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE,
                        "training.freeze%s: every parameter is frozen, so there is nothing to train",
                        only->count > 0 ? ", training.train_only" : "");
}
