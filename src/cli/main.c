/* The program: wiring of the subcommands, and the only place that exits. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/share.h"
#include "src/cli/usage.h"
#include "src/cli/version.h"
#include "src/core/suggest.h"
#include "src/core/text.h"
#include "src/doctor/doctor.h"
#include "src/train/requests.h"
#include "src/train/train.h"

struct subcommand {
    const char *name;
    enum status (*run)(struct command *command, int argc, char **argv);
    const char *summary;
    const char *help;
};

#define HELP_SET "  --set KEY=VALUE        override a setting (may be repeated); `cairn config` lists them\n"

static const struct subcommand subcommands[] = {
    {"train", command_train, "train a model",
     "usage: cairn train CONFIG [--set KEY=VALUE]... [--resume auto|none|FILE] [--anew] [--accept-changes]\n"
     "                   [--time-limit TIME]\n\n"
     "Trains as CONFIG says. A run whose folder holds a checkpoint is continued by itself.\n\n" HELP_SET
     "  --resume auto          continue from the newest good checkpoint of the run's folder, if there is one "
     "(default)\n"
     "  --resume none          start anew; what the folder holds is moved aside\n"
     "  --resume FILE          start from this checkpoint, of any mesh, or from the newest good one of a run's folder; "
     "what\n"
     "                         the run's own folder holds beyond it is moved aside\n"
     "  --anew                 follow none or FILE even if an earlier start of the same command has: without it such "
     "a\n"
     "                         start goes on from the checkpoints that came since, as a requeued job must\n"
     "  --accept-changes       go on with data, schedule or optimiser other than those of the checkpoint's run;\n"
     "                         config.yaml lists all changes with their steps\n"
     "  --time-limit TIME      save and stop before this time is over: job.time_limit\n\n"
     "USR1, USR2 or TERM to any process of the run, or a file RUN/stop (RUN is run.folder), stops it: the step under\n"
     "way is finished and saved by all ranks. An evaluation stops between two batches, and the next start does it\n"
     "anew. A second signal, more than a second after the first, ends the process at once. A file RUN/save asks for\n"
     "a checkpoint after the step under way. Both files are removed once that is done. To stop a run under mpirun\n"
     "signal a rank, or mpirun with USR1 or USR2: on TERM mpirun kills all ranks.\n\n"
     "Exit status: 0 finished; 1 failed; 2 wrong usage or configuration; 85 stopped, and saved: start it again with\n"
     "the same command to go on.\n"},
    {"data", command_data, "make token files of texts, write samples, look at sets of images",
     "usage: cairn data passkey FILE --length L --count N [--position start|middle|end|any] [--digits D] [--seed S]\n"
     "       cairn data images PATH... [--format auto|idx|cifar10|cifar100|folder|list] [--sheet FILE]\n"
     "       cairn data tokenize FILE... --tokenizer TOKENIZER --output PREFIX [--format auto|text|jsonl]\n"
     "                  [--field NAME] [--begin TOKEN] [--end TOKEN] [--skip-bad] [--special]\n\n"
     "passkey   writes samples of the passkey task, each L bytes with its answer; only the answers are targets\n"
     "images    says what a set of images holds: sizes, classes, mean and deviation of the channels, bad images. PATH "
     "is an\n"
     "          IDX or CIFAR file (or .gz), a folder that holds a folder of PNG and JPEG files for each class, or a "
     "list:\n"
     "          lines of a path, a tab or blank, and a class. Every image is read. Exit status: 1 if any is bad\n\n"
     "tokenize  makes PREFIX.bin and PREFIX.idx of texts, with all ranks; train takes PREFIX. A text is a document, or "
     "each\n"
     "          line of JSONL is. Files may be compressed by gzip or zstd. The order is that of the files; what was "
     "done "
     "is\n"
     "          not done again when the command is started again\n\n"
     "  --length L             bytes of a sample\n"
     "  --count N              samples\n"
     "  --position PLACE       of the key: start, middle, end or any (any)\n"
     "  --digits D             of the key (5)\n"
     "  --seed S               of keys and places (1)\n"
     "  --format FORMAT        of images or texts; auto goes by content, of texts by name: .jsonl, .ndjson (auto)\n"
     "  --tokenizer TOKENIZER  a tokenizer.json\n"
     "  --output PREFIX        of the files\n"
     "  --field NAME           of JSON that holds the text (text)\n"
     "  --begin TOKEN          in front of each document: its text or number, or none (none)\n"
     "  --end TOKEN            behind each document (the tokenizer's end of text, or none if it has none)\n"
     "  --skip-bad             leave out lines that are no JSON with a text, and count them\n"
     "  --special              special tokens that stand in the texts become themselves, not text\n"
     "  --sheet FILE           writes a contact sheet, a PNG with the first images of each class in a row\n"},
    {"tokenizer", command_tokenizer, "texts to tokens and back; look at a tokenizer, or learn one",
     "usage: cairn tokenizer encode TOKENIZER [FILE] [--text TEXT] [--special] [--frame] [--pieces]\n"
     "       cairn tokenizer decode TOKENIZER [FILE] [--ids IDS] [--special]\n"
     "       cairn tokenizer inspect TOKENIZER\n"
     "       cairn tokenizer train FILE... --size N --output TOKENIZER [--pattern gpt2|llama3|qwen2|EXPRESSION]\n"
     "                       [--specials TOKEN,TOKEN,...] [--least N] [--format auto|text|jsonl] [--field NAME] "
     "[--skip-bad]\n\n"
     "encode    prints the tokens of a text\n"
     "decode    prints the text of tokens, numbers between blanks\n"
     "inspect   says what a tokenizer does: model, pieces, special tokens, hash\n"
     "train     learns a BPE of bytes from texts, with all ranks; the same whatever their number\n\n"
     "TOKENIZER is a tokenizer.json of Hugging Face: BPE of bytes or characters, or Unigram. Ids are those of its "
     "library.\n"
     "FILE is read from standard input if it is not named. What is no UTF-8 is read as U+FFFD, and counted.\n\n"
     "  --text TEXT            instead of a file\n"
     "  --ids IDS              instead of a file\n"
     "  --special              encode: special tokens in the text become themselves; decode: they are shown\n"
     "  --frame                with the tokens that the tokenizer puts around a text\n"
     "  --pieces               a line for each token, with its text in the vocabulary\n"
     "  --size N               of the vocabulary, with special tokens and 256 bytes\n"
     "  --output TOKENIZER     the file\n"
     "  --pattern PATTERN      what texts are cut by: that of gpt2, llama3 or qwen2, or an expression (gpt2)\n"
     "  --specials TOKENS      special tokens, ids from 0 on (<|endoftext|>)\n"
     "  --least N              times that a pair has to occur (2)\n"
     "  --format FORMAT        of texts, as for `cairn data tokenize`; --field and --skip-bad likewise (auto)\n"
     "  --field NAME           of JSON that holds the text (text)\n"
     "  --skip-bad             leave out lines that are no JSON with a text\n"},
    {"eval", command_eval, "measure the loss of a checkpoint on text or images",
     "usage: cairn eval CONFIG [--checkpoint FILE] [--data FILE] [--context-length T] [--memory on|off]\n"
     "                  [--routing causal|whole] [--set KEY=VALUE]... [--json]\n"
     "       cairn eval CONFIG --task passkey --lengths L,L,... [--count N] [--digits D] [--seed S] [--checkpoint "
     "FILE]\n"
     "                  [--memory on|off] [--set KEY=VALUE]... [--json]\n\n"
     "Prints the mean loss in nats a token, perplexity, and bits a byte where a token is a byte; or how often the "
     "model\n"
     "gives back a number that was hidden at the start, in the middle and at the end of a long text. Of a model of\n"
     "images: its loss, and how often the label is its first choice and among its first five.\n\n"
     "  --checkpoint FILE      a checkpoint, or a run's folder (its newest); default: run.folder of CONFIG\n"
     "  --data FILE            text or images to measure on; default: the validation data of CONFIG\n"
     "  --context-length T     tokens a context has; default: training.sequence_length. Infini-attention reads longer\n"
     "                         ones in windows of that, and carries its memory from one to the next\n"
     "  --memory on|off        off: Infini-attention sees its own segment only, to show what the memory is worth\n"
     "  --routing causal|whole routers decide token by token, as when generating (default), or for whole windows,\n"
     "                         looking at later tokens as in training\n"
     "  --task passkey         the task instead of text; \"end\" needs no memory when the key is in the last segment\n"
     "  --lengths L,L,...      bytes of its samples\n"
     "  --count N              samples for each length and place (20)\n"
     "  --digits D             of the number (5)\n"
     "  --seed S               of the numbers (1)\n" HELP_SET "  --json                 one JSON object instead\n"},
    {"generate", command_generate, "continue a text",
     "usage: cairn generate --checkpoint FILE [--prompt TEXT|--file FILE] [--tokenizer TOKENIZER] [--tokens N]\n"
     "                      [--temperature X] [--top-k K] [--top-p P] [--seed S] [--set KEY=VALUE]...\n\n"
     "Prints the prompt and its continuation as it comes, up to the token that ends a text. The tokenizer is that "
     "beside the\n"
     "checkpoint (tokenizer.json in the run's folder) or of data.tokenizer. Without one a model whose tokens are not "
     "bytes\n"
     "takes and prints token numbers.\n\n"
     "  --checkpoint FILE      a checkpoint, or a run's folder (its newest)\n"
     "  --prompt TEXT          what to continue; without it and --file it is read from standard input\n"
     "  --file FILE            instead of --prompt\n"
     "  --tokenizer TOKENIZER  a tokenizer.json; it must be the one that the checkpoint was trained with\n"
     "  --tokens N             tokens to draw (200)\n"
     "  --temperature X        0 takes the most likely token (1)\n"
     "  --top-k K              draw among the K most likely; 0 is all (0)\n"
     "  --top-p P              draw among the most likely that make up the probability P (1)\n"
     "  --seed S               of the draws (1)\n" HELP_SET},
    {"predict", command_predict, "say what is on images",
     "usage: cairn predict CHECKPOINT IMAGE... [--top N] [--json] [--set KEY=VALUE]...\n\n"
     "Prints the most likely classes of PNG and JPEG files, with their probabilities. CHECKPOINT is a file of a run "
     "on\n"
     "images, or a run's folder (its newest), which says how images are normalised and what classes are called.\n\n"
     "  --top N                classes of each image (5)\n" HELP_SET
     "  --json                 one JSON list instead\n"},
    {"evolve", command_evolve, "let one system learn many tasks of images, whose paths share components",
     "usage: cairn evolve CONFIG|RUN [--add TASKS] [--set KEY=VALUE]...\n"
     "       cairn evolve RUN [--status] [--lineage FILE] [--report]\n"
     "       cairn evolve predict RUN --task TASK IMAGE... [--top N] [--json]\n"
     "       cairn evolve export RUN --task TASK FOLDER\n"
     "       cairn evolve remove RUN --task TASK\n\n"
     "Visits the tasks in turn: children of paths that there are, mutated, are trained by groups of ranks, each with "
     "the\n"
     "mesh of CONFIG, and the best is kept. What a task has learned never changes again. The same command goes on "
     "where\n"
     "it was stopped, or killed. RUN is a system's folder (run.folder), which holds its settings.\n\n"
     "predict   says what is on images, as a task knows them\n"
     "export    writes a task's model as a checkpoint into a folder, for `cairn predict` and `cairn eval`\n"
     "remove    takes a task out; the others stay as they are\n\n"
     "  --add TASKS            a file of further tasks, in the form of evolve.tasks\n"
     "  --status               a table of the tasks: accuracy, sizes, who shares with whom\n"
     "  --lineage FILE         a graph of tasks and components, an SVG (needs graphviz)\n"
     "  --report               a page of them in RUN/report, with accuracy and size by visit (plots need gnuplot)\n"
     "  --task TASK            of predict, export and remove\n"
     "  --top N                predict: classes of each image (5)\n"
     "  --json                 predict: one JSON list instead\n" HELP_SET},
    {"checkpoint", command_checkpoint_tools, "look at checkpoints and convert them: inspect, verify, diff, convert",
     "usage: cairn checkpoint inspect FILE [--verbose]\n"
     "       cairn checkpoint verify FILE\n"
     "       cairn checkpoint diff FILE FILE [--tolerance X]\n"
     "       cairn checkpoint convert SOURCE OUTPUT --to CONFIG [--initialization stepwise|average|lower|upper]\n"
     "                                [--rank N | --energy E] [--set KEY=VALUE]...\n"
     "       cairn checkpoint convert SOURCE OUTPUT --merge-lora [--set KEY=VALUE]...\n\n"
     "inspect   what a checkpoint holds; its memories by layer, with --verbose each stream and head\n"
     "verify    recomputes every hash; exits with 1 if anything is damaged\n"
     "diff      compares two checkpoints; exits with 1 if they differ by more than the tolerance (0), norm-wise\n"
     "convert   makes a trained model of fixed depth the beginning of the model of CONFIG: a recursive one (depth.kind "
     "mor),\n"
     "          or the same with memory, learned residuals, routed layers (mod) or LoRA maps (model.lora)\n\n"
     "SOURCE is a checkpoint, or a run's folder (its newest); OUTPUT is the folder of a run that is new. What the "
     "source\n"
     "lacks begins as in any new model. The optimiser begins anew at step 0: `cairn train CONFIG --set "
     "run.folder=OUTPUT`\n"
     "goes on from there. It runs on any mesh that can train the model, as CONFIG says.\n\n"
     "FILE is a checkpoint, or a run's folder (its newest, good or damaged).\n\n"
     "  --to CONFIG            the new model and its training\n"
     "  --initialization HOW   of shared layers, from the layers whose places they take (stepwise):\n"
     "                         stepwise  evenly spaced ones, the first and the last included; of any number of layers\n"
     "                         average   the mean of those that a layer takes the place of; as many as CONFIG's, "
     "unrolled\n"
     "                         lower     the first ones; as many as CONFIG stores, or more\n"
     "                         upper     the last ones; the same\n"
     "  --rank N               with means: model.depth.lora_rank, of maps that give back the most of what means leave\n"
     "  --energy E             the same with the least rank that keeps the share E of that, the largest of all "
     "matrices\n"
     "  --merge-lora           the model of SOURCE with its LoRA maps (model.lora) in the matrices\n" HELP_SET},
    {"export", command_export, "write a model for other programs: a folder of Hugging Face",
     "usage: cairn export CHECKPOINT FOLDER [--type fp32|bf16] [--shard-size BYTES] [--set KEY=VALUE]...\n\n"
     "Writes safetensors, config.json and a card that transformers (decoders in the forms of Llama, Qwen2 and GPT-2) "
     "or "
     "timm\n"
     "and torchvision (ViT, ResNet) load. FOLDER is made; it may not hold a model. A model with Infini-attention, "
     "LAuReL,\n"
     "Mixture-of-Depths or recursions is refused: no other program computes it.\n\n"
     "CHECKPOINT is a checkpoint, or a run's folder (its newest).\n\n"
     "  --type TYPE            of the weights: fp32 or bf16 (fp32)\n"
     "  --shard-size BYTES     of a file at most, unless a tensor is larger (5000000000)\n" HELP_SET},
    {"import", command_import, "make a model of another program the beginning of a run",
     "usage: cairn import FOLDER OUTPUT [--set KEY=VALUE]...\n\n"
     "Reads safetensors and config.json of Llama, SmolLM2, TinyLlama, Mistral, Qwen2 and GPT-2 as transformers saves "
     "them, and\n"
     "of timm's ViT and ResNet. OUTPUT is the folder of a run that is new: it gets a checkpoint of step 0 and a "
     "config.yaml,\n"
     "with which `cairn train OUTPUT/config.yaml --set data.train=FILE` goes on. It runs on any mesh that can train "
     "the\n"
     "model; no rank holds all of it. What the decoder does not compute is refused by its name in "
     "config.json.\n\n" HELP_SET},
    {"bench", command_bench, "measure operations, collectives, training steps or generation",
     "usage: cairn bench kernels [--type fp32|bf16] [--quick] [--json]\n"
     "       cairn bench collectives [--quick] [--json]\n"
     "       cairn bench step CONFIG [--steps N] [--warmup N] [--peak-gflops X] [--set KEY=VALUE]... [--quick] "
     "[--json]\n"
     "       cairn bench generate CONFIG [--rows N] [--prompt N] [--tokens N] [--requests N]\n"
     "                            [--routing trained|balanced] [--batching depthwise|step] [--warmup N]\n"
     "                            [--set KEY=VALUE]... [--json]\n\n"
     "kernels       every operation at the shapes of GPT-2 124M, beside the ceilings of this machine\n"
     "collectives   every collective of training over all ranks, by size (mpirun -n 2 or more)\n"
     "step          training steps on generated tokens: where the time goes, FLOPs, memory\n"
     "generate      generation by a model with its initial parameters: tokens a second, layers that a token takes\n\n"
     "  --type TYPE            of kernels: fp32 or bf16 (bf16)\n"
     "  --steps N              steps that are measured (5)\n"
     "  --warmup N             steps before them (2), or runs of generate (1)\n"
     "  --rows N               sequences that are generated side by side (32)\n"
     "  --prompt N             tokens that each starts from (64)\n"
     "  --tokens N             tokens drawn for each (64)\n"
     "  --requests N           sequences in all: one that is finished makes room for the next (as many as rows)\n"
     "  --batching WAY         of MoR: depthwise batches tokens of different depths; with step all rows pass a layer\n"
     "                         together (depthwise where the mesh allows it)\n"
     "  --routing WAY          of MoD and MoR: trained asks the routers, which have learned nothing yet; balanced "
     "lets\n"
     "                         in the shares of tokens that training aims at, drawn by position (trained)\n"
     "  --peak-gflops X        what the makers say all ranks' cores can do together: a second MFU\n" HELP_SET
     "  --quick                tiny sizes and short looks, to see that it runs; the numbers mean nothing\n"
     "  --json                 one JSON object instead of tables\n"},
    {"plan", command_plan, "say what a run will hold, send and take on a mesh, without running it",
     "usage: cairn plan CONFIG [--ranks N] [--all-meshes] [--network FILE|KEY=VALUE,...] [--sbatch FILE]\n"
     "                  [--set KEY=VALUE]... [--json]\n"
     "       mpirun -n N cairn plan CONFIG --measure [--all-meshes] [--steps N] [--set KEY=VALUE]... [--json]\n"
     "       cairn plan CONFIG --parameters [--set KEY=VALUE]... [--json]\n\n"
     "Memory by kind and traffic by communicator are counted, for each rank as a run would have it, and exact; the "
     "time of\n"
     "a step is simulated from a few seconds of measurement on this machine. One process is enough for any number of "
     "ranks.\n\n"
     "  --ranks N              of the mesh; one of its sizes may be auto (default: the product of the mesh's sizes)\n"
     "  --all-meshes           every mesh of that many ranks, the fastest first, and why others cannot split the "
     "model\n"
     "  --network WHAT         messages: latency and bandwidth between hosts, host_latency and host_bandwidth within "
     "one,\n"
     "                         ranks_per_host; seconds and bytes a second, as in latency=2e-6,bandwidth=12e9; or a "
     "file\n"
     "                         with such lines. `cairn bench collectives` measures them\n"
     "  --sbatch FILE          writes a job file for the mesh, of all meshes for the fastest\n"
     "  --measure              measures messages between the ranks and real steps, and shows the plan beside them\n"
     "  --steps N              steps that --measure measures for each mesh (9)\n"
     "  --parameters           the parameters by what they are for, as stored and as if no layers were shared, and "
     "what\n"
     "                         memories, routers, learned residuals and shared layers change beside the plain "
     "model\n" HELP_SET "  --json                 one JSON object instead of tables\n"},
    {"scale", command_scale, "measure how training scales: a grid of meshes, tables, plots and a page",
     "usage: cairn scale CONFIG [--ranks N,N,...] [--meshes MESH,MESH,...] [--strong] [--weak] [--vary KEY=V,V,...]\n"
     "                   [--repeats N] [--output FOLDER] [--set KEY=VALUE]... [--list | --run I | --report]\n\n"
     "Runs `cairn bench step CONFIG` on each mesh and number of ranks, through a launcher; it is itself started once,\n"
     "without one. Each run gives a row of FOLDER/scaling.csv; efficiency.csv, plots/ (SVG, PNG) and index.html say "
     "what\n"
     "they mean, and the table is printed. A run that fails is a row with its reason. What was measured already is "
     "not\n"
     "measured again.\n\n"
     "  --ranks N,N,...        numbers of ranks (powers of two up to the cores of this host, or the tasks of the job)\n"
     "  --meshes MESH,...      axes joined by +, all but one with a size; that one takes the rest of the ranks\n"
     "                         (data,tensor,pipeline,context,data+tensor=2,data+pipeline=2,data+context=2,\n"
     "                         pipeline+tensor=2, as far as the model permits)\n"
     "  --strong               the batch stays as it is (default)\n"
     "  --weak                 the batch is that of the smallest number of ranks, and grows with them\n"
     "  --vary KEY=V,V,...     the whole study for each value of a setting, as in model.width=256,512\n"
     "  --repeats N            of each run (3); all runs once, then all again\n"
     "  --steps N              that each measures (10), after --warmup N (2)\n"
     "  --launcher WORDS       what starts the ranks, %n of them (\"mpirun -n %n\"); in a job also \"srun -n %n\"\n"
     "  --limit SECONDS        that a run may take (3600)\n"
     "  --peak-gflops X        what the makers say one core can do: a second MFU\n"
     "  --output FOLDER        for all of it (runs/scaling)\n"
     "  --again                measure everything anew\n" HELP_SET
     "  --quick                short looks at the peak, to see that it runs\n\n"
     "One run at a time, as by an array of jobs (slurm/scaling.sh):\n"
     "  --list                 the runs, one a line, and stop\n"
     "  --run I                only the run of line I of that list\n"
     "  --report               tables, plots and page of the rows that are there; CONFIG is not needed\n"},
    {"doctor", command_doctor, "say what would hurt a run on these hosts, and the remedy",
     "usage: mpirun -n N cairn doctor [--folder FOLDER] [--json]        (or srun, started as the run will be)\n\n"
     "Looks at cores, threads, NUMA, instructions, launcher, MPI-IO, memory, limits, shared memory, clocks and the "
     "file\n"
     "system, on all hosts. Exit status: 0 nothing serious, 1 something serious.\n\n"
     "  --folder FOLDER        of the run; one that does not exist yet stands for the nearest above it (.)\n"
     "  --json                 one JSON object instead\n"},
    {"report", command_report, "plots and a page of the metrics of one or several runs",
     "usage: cairn report RUN... [--output FOLDER]\n\n"
     "RUN is a run's folder, or a metrics.jsonl. Draws losses, rates, speed, memory, gates and routers of all runs "
     "over\n"
     "each other, and compares their settings. Files of any length are read; where many steps share a place of the "
     "plot,\n"
     "it shows their mean and their range.\n\n"
     "  --output FOLDER        for index.html and plots/ (the folder `report` in the first RUN)\n"},
    {"analyze", command_analyze, "singular values of a checkpoint's matrices, and how far training moved them",
     "usage: cairn analyze FILE [FILE2] [--match PATTERN] [--directions N] [--output FOLDER] [--json]\n"
     "       cairn analyze RUN --all [--match PATTERN] [--output FOLDER] [--json]\n\n"
     "For each matrix, and each layer's memories: norm, largest and smallest singular value, condition, rank,\n"
     "stable and effective rank, how many values have 90 % of the squares. Beside FILE2: how far each moved as a\n"
     "share of its norm, the effective rank of that, angles between the first left and right singular directions.\n"
     "Matrices are dealt to all ranks.\n\n"
     "FILE, FILE2 and RUN are checkpoints, or runs' folders (their newest).\n\n"
     "  --all                  every checkpoint of the run: spectra through time\n"
     "  --match PATTERN        only matrices that are named so, as in 'model.layers.[0-3].*'\n"
     "  --directions N         that angles are between (8)\n"
     "  --output FOLDER        matrices.csv, singular_values.csv, plots/ (SVG, PNG) and index.html\n"
     "  --json                 one JSON object, with all singular values, instead of the table\n"},
    {"config", command_config, "explain all settings, or show the resolved settings of a file",
     "usage: cairn config [CONFIG [--set KEY=VALUE]...]\n"
     "       cairn help config KEY\n\n"
     "Without CONFIG: every key with its type, default and meaning; KEY explains one, or a section. With CONFIG: the\n"
     "settings a run would have.\n\n" HELP_SET},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

/* These run without MPI, in the first process only; a plan only if it is not to be measured. */
static const char *const alone[] = {"config", "scale", "report", "plan", "tokenizer"};

static void print_help(FILE *out)
{
    fprintf(out, "usage: cairn COMMAND [ARGUMENT]...\n\n"
                 "Trains transformers on clusters of CPUs: mpirun -n RANKS cairn train CONFIG\n\n");
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(out, "  %-12s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(
        out,
        "\n`cairn COMMAND --help` and `cairn help COMMAND` say more; `cairn help config KEY` explains a setting.\n");
}

static const struct subcommand *find_subcommand(const char *name)
{
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    return NULL;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static enum status refuse_command(struct context *context, const char *name)
{
    const char *names[SUBCOMMANDS];
    for (int i = 0; i < SUBCOMMANDS; i++)
        names[i] = subcommands[i].name;
    const char *meant = suggest_name(name, names, SUBCOMMANDS);
    if (meant)
        return context_fail(context, STATUS_USAGE, "%s: unknown command; did you mean %s?", name, meant);
    return context_fail(context, STATUS_USAGE, "%s: unknown command; see `cairn --help`", name);
}

/* `cairn help WORD...`: a command, a tool of one, or a setting behind `config`. */
static enum status help(struct context *context, int count, char **words)
{
    if (count == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    const struct subcommand *subcommand = find_subcommand(words[0]);
    if (!subcommand)
        return refuse_command(context, words[0]);
    if (subcommand->run == command_config && count > 1)
        return config_describe(context, stdout, words[1]);
    fputs(subcommand->help, stdout);
    return STATUS_OK;
}

static bool runs_alone(const struct subcommand *subcommand, int argc, char **argv)
{
    if (subcommand->run == command_tokenizer && argc > 2 && strcmp(argv[2], "train") == 0)
        return false;
    if (subcommand->run == command_plan && usage_has_option(subcommand->help, argc, argv, "--measure"))
        return false;
    if (subcommand->run == command_doctor && doctor_is_stranded()) /* MPI would end it before it can say why */
        return true;
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        if (strcmp(subcommand->name, alone[i]) == 0)
            return true;
    return false;
}

static bool asks_for_help(const struct subcommand *subcommand, int argc, char **argv)
{
    return usage_has_option(subcommand->help, argc, argv, "--help") ||
           usage_has_option(subcommand->help, argc, argv, "-h");
}

static enum status dispatch(struct command *command, const struct subcommand *subcommand, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    /* Only the first process comes here without MPI: what needs none is said once. */
    if (is_help(name) || strcmp(name, "help") == 0)
        return help(&command->context, argc - 2, argv + 2);
    if (strcmp(name, "--version") == 0)
        return version_print(&command->context);
    if (!subcommand) {
        if (argc > 1)
            return refuse_command(&command->context, name);
        print_help(stderr);
        return context_fail(&command->context, STATUS_USAGE, "name a command");
    }
    if (asks_for_help(subcommand, argc, argv)) {
        fputs(subcommand->help, stdout);
        return STATUS_OK;
    }
    if (command->ranks > 1)
        CHECK(share_command(command, subcommand->help, argc, argv));
    return subcommand->run(command, argc - 2, argv + 2);
}

static int exit_code_of(enum status status)
{
    return status == STATUS_OK ? 0 : status == STATUS_USAGE ? 2 : status == STATUS_AGAIN ? TRAIN_AGAIN : 1;
}

/* Which of the processes that mpirun or srun started this is, for a program that does not ask MPI. */
static int rank_of_environment(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        int64_t rank;
        if (value && text_to_integer(value, &rank))
            return (int)rank;
    }
    return 0;
}

/* What was printed is not done before it has been taken: a full disk shows itself no earlier than here. */
static bool close_output(void)
{
    bool failed = ferror(stdout) != 0;
    int code = failed ? errno : 0;
    if (fflush(stdout) != 0) {
        failed = true;
        code = errno;
    }
    /* A stream that was closed before the program began takes nothing, and nobody waits for it. */
    if (failed && code != EBADF)
        fprintf(stderr, "cairn: standard output cannot be written: %s\n", code ? strerror(code) : "an error before");
    return !failed || code == EBADF;
}

int main(int argc, char **argv)
{
    const struct subcommand *subcommand = find_subcommand(argc > 1 ? argv[1] : "");
    bool with_mpi = subcommand && !runs_alone(subcommand, argc, argv) && !asks_for_help(subcommand, argc, argv);
    /* Not even a failure: mpirun would end the process that is to say why. */
    if (!with_mpi && rank_of_environment() > 0)
        return 0;
    struct command *command = calloc(1, sizeof *command);
    if (!command)
        return 1;
    context_create(&command->context);
    /* A run takes signals as wishes; MPI's threads must not, so they are held back before there are any. */
    if (subcommand && subcommand->run == command_train)
        requests_hold_signals();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of its write */
    enum status status = STATUS_OK;
    if (with_mpi) /* a process that has started it must not start mpirun */
        status = team_start(&command->context, &argc, &argv, &command->team);
    else
        status = team_alone(&command->context, &command->team);
    if (status != STATUS_OK) {
        fprintf(stderr, "cairn: %s\n", command->context.text);
        return exit_code_of(status);
    }
    command->rank = team_rank(command->team);
    command->ranks = team_size(command->team);
    command->context.quiet = command->rank != 0;
    status = dispatch(command, subcommand, argc, argv);
    if (status != STATUS_OK && !command->context.agreed && command->ranks > 1 && status != STATUS_USAGE) {
        fprintf(stderr, "cairn: rank %d: %s\n", command->rank, command->context.text);
        team_abort(exit_code_of(status));
    }
    if (status != STATUS_OK && command->rank == 0)
        fprintf(stderr, "cairn: %s\n", command->context.text);
    if (command->engine_ready)
        engine_destroy(&command->engine);
    mesh_destroy(&command->mesh);
    command_forget_paths(command);
    int code = status == STATUS_OK ? command->exit_code : exit_code_of(status);
    if (!close_output() && code == 0)
        code = 1;
    team_destroy(&command->team);
    free(command);
    return code;
}
