/* The subcommands of `cairn`, and what they share. All ranks run them; only rank 0 prints. */
#ifndef CAIRN_CLI_COMMAND_H
#define CAIRN_CLI_COMMAND_H

#include "dist/mesh/mesh.h"
#include "io/checkpoint/checkpoint.h"
#include "src/core/config.h"
#include "src/ops/engine.h"

enum { OVERRIDES = 64 };

/* A path of the command line that was written with ~. */
struct command_path {
    struct command_path *next;
    char text[];
};

struct command {
    struct context context;
    int rank;
    int ranks;
    struct team *team; /* of all ranks */
    struct mesh *mesh;
    struct engine engine;
    bool engine_ready;
    const char *overrides[OVERRIDES];
    int override_count;
    struct command_path *paths;
    int exit_code; /* of a command that did its work and has a verdict, as diff has */
};

/* One option of a subcommand; NULL value: it takes none, and *present is set. */
struct option_row {
    const char *name; /* with its dashes */
    const char **value;
    bool *present;
};

/* Takes arguments apart: options by the rows, `--set` into overrides, up to `most` others into `others`. A ~ in front
 * of a path is the home directory. USAGE error for anything else. Collective where there are several ranks; agreed. */
enum status command_parse(struct command *command, int argc, char **argv, const struct option_row *rows, int row_count,
                          const char **others, int most, int *other_count) MUST_USE;

/* Releases what command_parse made for paths. */
void command_forget_paths(struct command *command);

/* Makes mesh and engine, and says who runs on which cores. Collective. */
enum status command_start(struct command *command, const struct mesh_config *mesh,
                          const struct compute_config *compute) MUST_USE;

/* The same for a configuration, which all ranks must have alike, with its data. */
enum status command_start_with(struct command *command, const struct config *config) MUST_USE;

/* The same for the model of a checkpoint, which is verified and whose settings and header come back: the mesh is what
 * the ranks make, unless overrides say otherwise. Collective; agreed. */
enum status command_start_stored(struct command *command, const char *name, struct config *config,
                                 struct checkpoint_header *header, char path[CHECKPOINT_PATH]) MUST_USE;

/* Numbers on the command line: USAGE error that names the option. NULL text leaves the value. */
enum status command_integer(struct command *command, const char *option, const char *text, int64_t low, int64_t high,
                            int64_t *value) MUST_USE;
enum status command_real(struct command *command, const char *option, const char *text, double low, double high,
                         double *value) MUST_USE;

enum status command_train(struct command *command, int argc, char **argv) MUST_USE;
enum status command_evolve(struct command *command, int argc, char **argv) MUST_USE;
enum status command_data(struct command *command, int argc, char **argv) MUST_USE;

/* `cairn data tokenize`, `cairn data images`. */
enum status command_data_tokenize(struct command *command, int argc, char **argv) MUST_USE;
enum status command_data_images(struct command *command, int argc, char **argv) MUST_USE;
/* `cairn tokenizer train`. Collective. */
enum status command_tokenizer_train(struct command *command, int argc, char **argv) MUST_USE;
enum status command_tokenizer(struct command *command, int argc, char **argv) MUST_USE;
enum status command_eval(struct command *command, int argc, char **argv) MUST_USE;
enum status command_predict(struct command *command, int argc, char **argv) MUST_USE;
enum status command_generate(struct command *command, int argc, char **argv) MUST_USE;
enum status command_checkpoint_tools(struct command *command, int argc, char **argv) MUST_USE;

/* `cairn checkpoint convert`. Collective. */
struct convert_options {
    const char *source, *output;
    const char *config;         /* --to */
    const char *initialization; /* NULL: stepwise, with a rank or energy average */
    const char *rank, *energy;  /* NULL: model.depth.lora_rank of the configuration */
    bool merge;                 /* no configuration: the source's own without its LoRA maps */
};
enum status command_convert(struct command *command, const struct convert_options *options) MUST_USE;

enum status command_export(struct command *command, int argc, char **argv) MUST_USE;
enum status command_import(struct command *command, int argc, char **argv) MUST_USE;
enum status command_bench(struct command *command, int argc, char **argv) MUST_USE;
enum status command_plan(struct command *command, int argc, char **argv) MUST_USE;
enum status command_scale(struct command *command, int argc, char **argv) MUST_USE;
enum status command_doctor(struct command *command, int argc, char **argv) MUST_USE;
enum status command_report(struct command *command, int argc, char **argv) MUST_USE;
enum status command_analyze(struct command *command, int argc, char **argv) MUST_USE;
enum status command_config(struct command *command, int argc, char **argv) MUST_USE;

#endif
