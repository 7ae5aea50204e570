#include "src/session/freeze.h"

#include <fnmatch.h>

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

enum status freeze_parameters(struct context *context, const struct training_config *training,
                              struct parameter_list *list)
{
    const struct text_list *only = &training->train_only;
    CHECK(check_patterns(context, "training.freeze", &training->freeze, list));
    CHECK(check_patterns(context, "training.train_only", only, list));
    bool learns = list->count == 0;
    for (int i = 0; i < list->count; i++) {
        struct parameter *parameter = list->item[i];
        if (matches(&training->freeze, parameter->spec.name) ||
            (only->count > 0 && !matches(only, parameter->spec.name)))
            parameter->frozen = true;
        learns = learns || parameter_learns(parameter);
    }
    if (learns)
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE,
                        "training.freeze%s: every parameter is frozen, so there is nothing to train",
                        only->count > 0 ? ", training.train_only" : "");
}
