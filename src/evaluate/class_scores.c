#include "src/evaluate/class_scores.h"

#include <math.h>
#include <string.h>

enum status class_scores_create(struct evaluator *evaluator, struct class_scores *scores)
{
    const struct session *session = evaluator->session;
    *scores = (struct class_scores){.evaluator = evaluator, .classes = session->config->model.image.classes};
    size_t elements = (size_t)(evaluator->batch->rows * (scores->classes + 1));
    scores->row = memory_allocate(session->context, elements * sizeof *scores->row, MEMORY_BUFFERS);
    return scores->row ? STATUS_OK : STATUS_MEMORY;
}

void class_scores_destroy(struct class_scores *scores)
{
    if (scores->row)
        memory_free(scores->evaluator->session->context, scores->row);
    *scores = (struct class_scores){0};
}

/* Each rank puts in what it has. */
static void see_classes(void *self, int64_t row, int64_t first, const struct tensor *logits)
{
    struct class_scores *scores = self;
    const struct batch *batch = scores->evaluator->batch;
    const int32_t *labels = batch_field(batch, "labels");
    int64_t columns = tensor_columns(logits);
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        float *to = scores->row + (batch->mine.begin + row + n) * (scores->classes + 1);
        memcpy(to + first, (const float *)logits->data + n * columns, (size_t)columns * sizeof *to);
        if (mesh_rank(scores->evaluator->session->mesh, MESH_TENSOR) == 0)
            to[scores->classes] = (float)(labels[row + n] + 1);
    }
}

enum status class_scores_pass(struct class_scores *scores, struct pass_result *result)
{
    struct batch *batch = scores->evaluator->batch;
    int64_t elements = batch->rows * (scores->classes + 1);
    memset(scores->row, 0, (size_t)elements * sizeof *scores->row);
    batch->see_classes = see_classes;
    batch->see_self = scores;
    batch_ready(batch, batch->target_count, batch->token_count);
    enum status status = evaluator_pass(scores->evaluator, result);
    batch->see_classes = NULL;
    CHECK(status);
    mesh_all_reduce(scores->evaluator->session->mesh, MESH_TEAM, scores->row, elements, DTYPE_F32, MESH_SUM);
    return STATUS_OK;
}

static float comparable(float score)
{
    return isnan(score) ? -INFINITY : score;
}

int64_t class_scores_place(const struct class_scores *scores, int64_t row, int64_t class)
{
    const float *score = class_scores_row(scores, row);
    float own = comparable(score[class]);
    int64_t place = 0;
    for (int64_t c = 0; c < scores->classes; c++) {
        float other = comparable(score[c]);
        place += other > own || (other == own && c < class);
    }
    return place;
}
