#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/new_run.h"
#include "src/core/integer.h"
#include "src/train/convert.h"
#include "src/train/state.h"

struct convert_run {
    struct command *command;
    const struct convert_options *options;
    struct convert_way way;
    char lora_rank[64]; /* an override */
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
    run->way.initialization = run->options->rank || run->options->energy ? CONVERT_AVERAGE : CONVERT_STEPWISE;
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (wanted && strcmp(wanted, words[i]) == 0) {
            run->way.initialization = (enum convert_initialization)i;
            return STATUS_OK;
        }
    if (!wanted)
        return STATUS_OK;
    return context_fail(&run->command->context, STATUS_USAGE,
                        "--initialization: expected stepwise, average, lower or upper, got \"%s\"", wanted);
}

/* A rank is that of the model; an energy tells it once the source is known. */
static enum status find_rank(struct convert_run *run)
{
    struct command *command = run->command;
    const struct convert_options *options = run->options;
    int64_t rank = 1;
    if (options->rank && options->energy)
        return context_fail(&command->context, STATUS_USAGE, "--rank and --energy: name one of the two");
    if (!options->rank && !options->energy)
        return STATUS_OK;
    if (run->way.initialization != CONVERT_AVERAGE)
        return context_fail(&command->context, STATUS_USAGE,
                            "%s: expected --initialization average, whose means leave something, got %s",
                            options->rank ? "--rank" : "--energy", options->initialization);
    CHECK(command_integer(command, "--rank", options->rank, 0, INT32_MAX, &rank));
    CHECK(command_real(command, "--energy", options->energy, 0.0, 1.0, &run->way.energy));
    if (options->energy && run->way.energy == 0.0)
        return context_fail(&command->context, STATUS_USAGE, "--energy: expected a share above 0, got %s",
                            options->energy);
    if (command->override_count == OVERRIDES)
        return context_fail(&command->context, STATUS_USAGE, "--set: at most %d", OVERRIDES - 1);
    snprintf(run->lora_rank, sizeof run->lora_rank, "model.depth.lora_rank=%lld", (long long)rank);
    command->overrides[command->override_count++] = run->lora_rank;
    return STATUS_OK;
}

static enum status prepare(struct convert_run *run)
{
    struct command *command = run->command;
    CHECK(find_initialization(run));
    CHECK(find_rank(run));
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

/* All maps of a model have one rank: the largest that a matrix needs. */
static enum status take_energy(struct convert_run *run)
{
    struct command *command = run->command;
    struct convert_ranks ranks;
    if (run->way.energy == 0.0)
        return STATUS_OK;
    CHECK(convert_find_ranks(&command->context, command->mesh, &run->config, run->source, &run->way, &ranks));
    run->config.model.depth.lora_rank = integer_max(1, ranks.most);
    return STATUS_OK;
}

static void tell(const struct convert_run *run)
{
    const struct convert_ranks *ranks = &run->counts.ranks;
    printf("%s/step-%08d.h5: %d parameters with values from %s, %d new ones\n", run->folder.folder, 0,
           run->counts.taken, run->source, run->counts.fresh);
    if (ranks->count == 0)
        return;
    printf("low-rank maps of %lld matrices: rank %lld to %lld, %.1f in the mean; they keep %.6g of the squares of what "
           "the means leave\n",
           (long long)ranks->count, (long long)ranks->least, (long long)ranks->most, ranks->mean, ranks->kept);
    printf("all are stored with rank %lld, what a matrix does not need of it as in a new model: train with --set "
           "model.depth.lora_rank=%lld\n",
           (long long)run->config.model.depth.lora_rank, (long long)run->config.model.depth.lora_rank);
}

static enum status check_merge(struct convert_run *run)
{
    const struct convert_options *options = run->options;
    struct context *context = &run->command->context;
    const char *option = options->rank             ? "--rank"
                         : options->energy         ? "--energy"
                         : options->initialization ? "--initialization"
                                                   : NULL;
    if (option)
        return context_fail(context, STATUS_USAGE, "%s: has no meaning with --merge-lora, which shares no layers",
                            option);
    run->way.merges = true;
    return new_run_find(context, options->output, &run->folder);
}

/* The configuration is the source's own, but for its LoRA maps. */
static enum status start_merge(struct convert_run *run)
{
    struct command *command = run->command;
    struct checkpoint_header *header = memory_allocate(&command->context, sizeof *header, MEMORY_OTHER);
    enum status status = team_agree(command->team, &command->context, header ? check_merge(run) : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = command_start_stored(command, run->options->source, &run->config, header, run->source);
    memory_free(&command->context, header);
    CHECK(status);
    if (run->config.model.lora.rank == 0)
        return mesh_agree(
            command->mesh, &command->context,
            context_fail(&command->context, STATUS_USAGE, "%s: has no LoRA maps: model.lora.rank is 0", run->source));
    run->config.model.lora.rank = run->config.model.lora.targets.count = 0;
    run->config.model.lora.alpha = 1.0;
    snprintf(run->config.run.folder, sizeof run->config.run.folder, "%s", run->options->output);
    return STATUS_OK;
}

static enum status start(struct convert_run *run)
{
    struct command *command = run->command;
    CHECK(team_agree(command->team, &command->context, prepare(run)));
    CHECK(command_start_with(command, &run->config));
    CHECK(checkpoint_named(&command->context, command->mesh, run->options->source, run->source));
    return take_energy(run);
}

static enum status run_conversion(struct convert_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct trainer *trainer = &run->trainer;
    CHECK(run->options->merge ? start_merge(run) : start(run));
    run->unfrozen = run->config;
    run->unfrozen.training.freeze.count = 0;
    run->unfrozen.training.train_only = (struct text_list){.count = 1, .item = {"*"}};
    CHECK(trainer_create(context, command->mesh, &command->engine, &run->unfrozen, trainer));
    CHECK(convert_load(trainer, run->source, &run->way, &run->counts));
    trainer->config = &run->config;
    CHECK(mesh_agree(command->mesh, context, create_state(run)));
    CHECK(mesh_agree(command->mesh, context, command->rank == 0 ? new_run_take(context, &run->folder) : STATUS_OK));
    CHECK(state_save(trainer, run->carried, run->folder.folder));
    if (command->rank == 0)
        tell(run);
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
