#include "src/evolve/trial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/evolve/store.h"
#include "src/evolve/trial_model.h"
#include "src/session/save.h"

/* -- Sizes -- */

static void set_classes(struct model_config *model, int64_t classes)
{
    if (model->family == FAMILY_DECODER)
        model->classes = classes;
    else
        model->vocabulary = classes;
    model->image.classes = classes;
}

static enum status sum_part(const struct trial *trial, enum part part, int64_t extent, int64_t *sum)
{
    struct model_config model = trial->config->model;
    struct parameter_list list;
    enum part of;
    int layer;
    *sum = 0;
    if (part == PART_ADAPTER)
        snprintf(model.adapters, sizeof model.adapters, "%lld", (long long)extent);
    else
        set_classes(&model, integer_max(1, extent));
    parameter_list_create(trial->context, &list);
    enum status status = model_find(&model)->describe(trial->context, &model, &list);
    for (int i = 0; status == STATUS_OK && i < list.count; i++)
        if (parameter_counts(list.item[i]) && store_part(list.item[i]->spec.name, &of, &layer) && of == part &&
            layer == 0)
            *sum += parameter_elements(&list.item[i]->spec);
    parameter_list_destroy(&list);
    return status;
}

int64_t trial_elements(void *self, enum part part, int64_t extent)
{
    const struct trial *trial = self;
    int64_t sum;
    context_keep(trial->context, sum_part(trial, part, extent, &sum));
    return sum;
}

double trial_flops(void *self, int64_t layers, int64_t adapters, int64_t classes)
{
    const struct trial *trial = self;
    struct model_config model = trial->config->model;
    int64_t length = trial->config->training.sequence_length;
    model.layers = layers;
    snprintf(model.adapters, sizeof model.adapters, "%lld", (long long)adapters);
    set_classes(&model, classes);
    /* Of a step: forward, and backward with two products for each of it. */
    return model_find(&model)->flops(&model, length, 0.0, NULL) * (double)length / 3.0;
}

static enum status evaluate_model(struct trial_model *model, struct evaluator *evaluator, int64_t most,
                                  double *accuracy)
{
    struct evaluation evaluation;
    struct evaluation_plan plan = {.batches = most ? integer_divide_up(most, model->config->training.batch) : 0};
    CHECK(model->source.ops->evaluate(&model->source, evaluator, &plan, &evaluation));
    *accuracy = evaluation.accuracy;
    return STATUS_OK;
}

/* -- Training -- */

/* The best values so far of what is trained. */
struct copy {
    struct state_list list;
    float *values;
};

static int64_t copy_elements(const struct copy *copy)
{
    int64_t count = 0;
    for (int a = 0; a < copy->list.count; a++)
        for (int p = 0; p < copy->list.arrays[a].piece_count; p++)
            count += box_count(&copy->list.arrays[a].pieces[p].box, copy->list.arrays[a].rank);
    return count;
}

static enum status copy_create(struct trial_model *model, struct copy *copy)
{
    const struct system *system = model->trial->system;
    *copy = (struct copy){.list.context = model->trial->context};
    for (int i = 0; i < model->path->count; i++) {
        const struct component *component = system_component(system, model->path->component[i]);
        if (!component_locked(system, component->id, model->path->task))
            CHECK(store_list(model->session, trial_model_momentum(model), component, true, &copy->list));
    }
    state_list_settle(&copy->list);
    copy->values = memory_allocate(copy->list.context, (size_t)copy_elements(copy) * sizeof(float), MEMORY_OTHER);
    return copy->values ? STATUS_OK : STATUS_MEMORY;
}

static void copy_move(struct copy *copy, bool back)
{
    float *values = copy->values;
    for (int a = 0; a < copy->list.count; a++)
        for (int p = 0; p < copy->list.arrays[a].piece_count; p++) {
            const struct state_piece *piece = &copy->list.arrays[a].pieces[p];
            int64_t count = box_count(&piece->box, copy->list.arrays[a].rank);
            memcpy(back ? piece->data : values, back ? values : piece->data, (size_t)count * sizeof(float));
            values += count;
        }
}

static void copy_destroy(struct copy *copy)
{
    if (!copy->list.context)
        return;
    memory_free(copy->list.context, copy->values);
    state_list_destroy(&copy->list);
}

static enum status train_interval(struct trial_model *model, struct trial_result *result)
{
    int64_t steps = trial_interval(model->trial, model->path);
    for (int64_t i = 0; i < steps && result->finite; i++) {
        struct step_result step;
        CHECK(model->source.ops->fill(&model->source, &model->trainer.batch, model->trainer.sequences, NULL));
        CHECK(trainer_step(&model->trainer, &step));
        result->finite = !step.skipped;
        result->steps++;
    }
    return STATUS_OK;
}

/* Keeps values whenever the score is at least the best before it. */
static enum status train(struct trial_model *model, const struct child *child, struct copy *copy,
                         struct trial_result *result)
{
    const struct evolve_config *evolve = &model->trial->config->evolve;
    double factor = path_factor(model->trial->system, &child->path);
    double best = child->bar;
    result->finite = true;
    for (int64_t i = 0; i < evolve->intervals; i++) {
        double quality;
        CHECK(train_interval(model, result));
        if (!result->finite)
            break;
        CHECK(evaluate_model(model, &model->trainer.evaluator, evolve->validation_samples, &quality));
        if (quality * factor >= best) {
            best = quality * factor;
            copy_move(copy, false);
            result->kept = true;
            result->quality = quality;
        } else if (!result->kept) {
            result->quality = fmax(result->quality, quality);
        }
    }
    result->kept = result->kept && result->finite;
    return STATUS_OK;
}

static enum status write_components(struct trial_model *model, struct copy *copy)
{
    const struct trial *trial = model->trial;
    copy_move(copy, true);
    for (int i = 0; i < model->path->count; i++) {
        const struct component *component = system_component(trial->system, model->path->component[i]);
        if (!component_locked(trial->system, component->id, model->path->task))
            CHECK(store_write(model->session, trial_model_momentum(model), trial->config->run.folder, trial->group,
                              component));
    }
    return STATUS_OK;
}

enum status trial_run(const struct trial *trial, const struct visit *visit, int index, const struct child *child,
                      struct trial_result *result)
{
    const struct trial_wishes wishes = {.validation = trial->system->tasks[child->path.task].validation,
                                        .trains = true,
                                        .seed = visit_key(visit, index, "new components"),
                                        .data_seed = visit_key(visit, 0, "samples")};
    struct trial_model model;
    struct copy copy = {0};
    double begin = clock_seconds();
    double processor_begin = clock_process_seconds();
    enum status status;
    *result = (struct trial_result){.group = trial->group};
    TRY(trial_model_open(trial, &child->path, &wishes, &model));
    TRY(mesh_agree(trial->mesh, trial->context, copy_create(&model, &copy)));
    TRY(train(&model, child, &copy, result));
    if (result->kept)
        TRY(write_components(&model, &copy));
    result->seconds = clock_seconds() - begin;
    result->processor_seconds = clock_process_seconds() - processor_begin;
done:
    copy_destroy(&copy);
    trial_model_close(&model);
    return status;
}

/* -- What is done with paths beside -- */

enum status trial_measure(const struct trial *trial, const struct path *path, const char *images, double *accuracy)
{
    const struct trial_wishes wishes = {.validation = images};
    struct trial_model model;
    enum status status;
    TRY(trial_model_open(trial, path, &wishes, &model));
    TRY(evaluator_create(&model.own, NULL, &model.evaluator));
    status = evaluate_model(&model, &model.evaluator, 0, accuracy);
done:
    trial_model_close(&model);
    return status;
}

enum status trial_export(const struct trial *trial, const struct path *path, const char *folder)
{
    const struct trial_wishes wishes = {.seed = 2 * trial->config->training.seed};
    struct trial_model model;
    enum status status;
    TRY(trial_model_open(trial, path, &wishes, &model));
    status = session_save(&model.own, model.source.data_facts, folder);
done:
    trial_model_close(&model);
    return status;
}
