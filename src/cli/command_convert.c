#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/new_run.h"
#include "src/train/convert.h"
#include "src/train/state.h"

struct convert_run {
    struct command *command;
    const struct convert_options *options;
    enum convert_initialization initialization;
    struct new_run folder;
    char source[CHECKPOINT_PATH];
    struct config config;
    struct config unfrozen; /* the same: also what a run will leave alone gets values */
    struct trainer trainer;
    struct model_state *carried; /* empty memories, where runs of the configuration carry some */
    struct conversion_counts counts;
};

static enum status find_initialization(struct convert_run *run)
{
    static const char *const words[] = {[CONVERT_STEPWISE] = "stepwise",
                                        [CONVERT_AVERAGE] = "average",
                                        [CONVERT_LOWER] = "lower",
                                        [CONVERT_UPPER] = "upper"};
    const char *wanted = run->options->initialization;
    run->initialization = CONVERT_STEPWISE;
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (!wanted || strcmp(wanted, words[i]) == 0) {
            run->initialization = (enum convert_initialization)i;
            return STATUS_OK;
        }
    return context_fail(&run->command->context, STATUS_USAGE,
                        "--initialization: expected stepwise, average, lower or upper, got \"%s\"", wanted);
}

static enum status prepare(struct convert_run *run)
{
    struct command *command = run->command;
    CHECK(find_initialization(run));
    CHECK(new_run_find(&command->context, run->options->output, &run->folder));
    return config_load(&command->context, run->options->config, command->overrides, command->override_count,
                       &run->config);
}

static enum status create_state(struct convert_run *run)
{
    struct trainer *trainer = &run->trainer;
    const struct model_ops *model = trainer->model->ops;
    return model_carries(model, &run->config) ? model->state->create(&trainer->batch, &run->carried) : STATUS_OK;
}

static enum status run_conversion(struct convert_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct trainer *trainer = &run->trainer;
    CHECK(team_agree(command->team, context, prepare(run)));
    CHECK(command_start_with(command, &run->config));
    CHECK(checkpoint_named(context, command->mesh, run->options->source, run->source));
    run->unfrozen = run->config;
    run->unfrozen.training.freeze.count = run->unfrozen.training.train_only.count = 0;
    CHECK(trainer_create(context, command->mesh, &command->engine, &run->unfrozen, trainer));
    CHECK(convert_load(trainer, run->source, run->initialization, &run->counts));
    trainer->config = &run->config;
    CHECK(mesh_agree(command->mesh, context, create_state(run)));
    CHECK(mesh_agree(command->mesh, context, command->rank == 0 ? new_run_take(context, &run->folder) : STATUS_OK));
    CHECK(state_save(trainer, run->carried, run->folder.folder));
    if (command->rank == 0)
        printf("%s/step-%08d.h5: %d parameters with values from %s, %d new ones\n", run->folder.folder, 0,
               run->counts.taken, run->source, run->counts.fresh);
    return STATUS_OK;
}

enum status command_convert(struct command *command, const struct convert_options *options)
{
    struct context *context = &command->context;
    struct convert_run *run = memory_allocate(context, sizeof *run, MEMORY_OTHER);
    if (!run)
        return STATUS_MEMORY;
    run->command = command;
    run->options = options;
    run->trainer.context = context;
    enum status status = run_conversion(run);
    new_run_release(&run->folder);
    if (run->carried)
        run->trainer.model->ops->state->destroy(&run->carried);
    trainer_destroy(&run->trainer);
    memory_free(context, run);
    return status;
}
