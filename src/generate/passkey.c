#include "src/generate/passkey.h"

#include "src/core/clock.h"
#include "src/generate/generate.h"

/* Tokens of prompts that are held at once. */
enum { HELD_TOKENS = 1 << 23 };

/* A group of samples that are continued together. */
struct group {
    int64_t rows;
    struct continuation *continuations; /* [rows] */
    unsigned char *text;                /* [length] */
    int32_t *prompts;                   /* [rows, length], the answers behind them */
    int32_t *answers;                   /* [rows, digits] as the model gives them */
};

static enum status group_create(struct context *context, const struct passkey_task *task, struct group *group)
{
    size_t rows = (size_t)group->rows;
    group->continuations = memory_allocate(context, rows * sizeof *group->continuations, MEMORY_OTHER);
    group->text = memory_allocate(context, (size_t)task->length, MEMORY_OTHER);
    group->prompts = memory_allocate(context, rows * (size_t)task->length * sizeof *group->prompts, MEMORY_OTHER);
    group->answers = memory_allocate(context, rows * (size_t)task->digits * sizeof *group->answers, MEMORY_OTHER);
    return context->status;
}

static void group_destroy(struct context *context, struct group *group)
{
    memory_free(context, group->continuations);
    memory_free(context, group->text);
    memory_free(context, group->prompts);
    memory_free(context, group->answers);
}

static void fill_group(struct group *group, const struct passkey_task *task, int64_t first, int64_t count)
{
    for (int64_t row = 0; row < count; row++) {
        int32_t *prompt = group->prompts + row * task->length;
        passkey_sample(task, first + row, group->text);
        for (int64_t i = 0; i < task->length; i++)
            prompt[i] = group->text[i];
        group->continuations[row] = (struct continuation){.prompt = prompt,
                                                          .prompt_count = task->length - task->digits,
                                                          .count = task->digits,
                                                          .tokens = group->answers + row * task->digits};
    }
}

static void mark_group(const struct group *group, const struct passkey_task *task, int64_t count,
                       struct passkey_score *score)
{
    for (int64_t row = 0; row < count; row++) {
        const int32_t *expected = group->prompts + (row + 1) * task->length - task->digits;
        int64_t right = 0;
        for (int64_t i = 0; i < task->digits; i++)
            right += group->answers[row * task->digits + i] == expected[i];
        score->right += right == task->digits;
        score->right_digits += right;
    }
    score->samples += count;
    score->tokens += count * task->length;
}

enum status passkey_evaluate(struct session *session, const struct passkey_task *task, int64_t samples, int64_t rows,
                             bool memory_off, struct passkey_score *score)
{
    struct context *context = session->context;
    struct sampling greedy = {.temperature = 0.0, .top_p = 1.0, .memory_off = memory_off};
    struct group group = {.rows = integer_max(1, integer_min(rows, HELD_TOKENS / task->length))};
    double start = clock_seconds();
    enum status status;
    *score = (struct passkey_score){0};
    TRY(mesh_agree(session->mesh, context, group_create(context, task, &group)));
    for (int64_t first = 0; first < samples; first += group.rows) {
        int64_t count = integer_min(group.rows, samples - first);
        fill_group(&group, task, first, count);
        TRY(generate(session, &greedy, group.continuations, count, count, NULL, NULL));
        mark_group(&group, task, count, score);
    }
    score->seconds = clock_seconds() - start;
done:
    group_destroy(context, &group);
    return status;
}
