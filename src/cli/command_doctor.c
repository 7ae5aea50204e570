#include "src/bench/measure.h"
#include "src/cli/command.h"
#include "src/core/text.h"
#include "src/doctor/doctor.h"

static enum status show(struct context *context, const struct doctor_facts *all, int ranks,
                        const struct doctor_findings *findings, const char *folder, bool json)
{
    if (json)
        return print_json(context, doctor_json(all, ranks, findings));
    doctor_print(all, ranks, findings, folder);
    return STATUS_OK;
}

/* A verdict of 1 for what is serious, which every rank has: it is found from the same facts. */
static enum status examine(struct command *command, const char *folder, bool json, struct doctor_facts *all,
                           struct doctor_findings *findings)
{
    struct context *context = &command->context;
    struct doctor_facts mine = {.threads = command->engine.threads, .threads_wanted = command->engine.threads_wanted};
    (void)text_copy(mine.isa, sizeof mine.isa, command->engine.isa);
    CHECK(doctor_gather(context, command->mesh, folder, &mine, all));
    doctor_check(all, command->ranks, findings);
    command->exit_code = findings->serious > 0;
    return command->rank == 0 ? show(context, all, command->ranks, findings, folder, json) : STATUS_OK;
}

/* Without MPI: what this process sees by itself. */
static enum status examine_stranded(struct command *command, const char *folder, bool json)
{
    char path[DOCTOR_PATH];
    struct doctor_findings findings;
    struct doctor_facts mine = {.ranks = 1};
    if (!doctor_find_folder(folder, path))
        return context_fail(&command->context, STATUS_USAGE, "--folder: the name is too long");
    doctor_look(path, &mine);
    (void)text_copy(mine.isa, sizeof mine.isa, mine.best);
    doctor_check(&mine, 1, &findings);
    command->exit_code = findings.serious > 0;
    return show(&command->context, &mine, 1, &findings, folder, json);
}

enum status command_doctor(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    const char *folder = ".";
    bool json = false;
    int others;
    const struct option_row rows[] = {{"--folder", &folder, NULL}, {"--json", NULL, &json}};
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, NULL, 0, &others));
    if (doctor_is_stranded())
        return examine_stranded(command, folder, json);
    const struct mesh_config mesh = {.data = 0, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
    const struct compute_config compute = {0};
    CHECK(command_start(command, &mesh, &compute));
    struct doctor_facts *all = memory_allocate(context, (size_t)command->ranks * sizeof *all, MEMORY_OTHER);
    struct doctor_findings *findings = memory_allocate(context, sizeof *findings, MEMORY_OTHER);
    enum status status = mesh_agree(command->mesh, context, all && findings ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = examine(command, folder, json, all, findings);
    memory_free(context, findings);
    memory_free(context, all);
    return status;
}
