/* What a classifier says of all rows of a batch, brought together on every rank. */
#ifndef CAIRN_EVALUATE_CLASS_SCORES_H
#define CAIRN_EVALUATE_CLASS_SCORES_H

#include "src/evaluate/evaluator.h"

struct class_scores {
    struct evaluator *evaluator;
    int64_t classes;
    float *row; /* [rows of the step, classes + 1]: logits, and behind them the label + 1; 0: it does not count */
};

/* Local; to be destroyed whatever comes back. */
enum status class_scores_create(struct evaluator *evaluator, struct class_scores *scores) MUST_USE;
void class_scores_destroy(struct class_scores *scores);

/* Passes the evaluator's batch forward. Collective; agreed status. */
enum status class_scores_pass(struct class_scores *scores, struct pass_result *result) MUST_USE;

static inline const float *class_scores_row(const struct class_scores *scores, int64_t row)
{
    return scores->row + row * (scores->classes + 1);
}

/* How many classes come before one: those with a larger score, and of equal ones those in front of it. What is not a
 * number is less than any. */
int64_t class_scores_place(const struct class_scores *scores, int64_t row, int64_t class);

#endif
