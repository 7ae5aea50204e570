#include <math.h>
#include <stdio.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/bench/step_private.h"

static const char *plural(int count)
{
    return count == 1 ? "" : "s";
}

static double useful(const struct step_report *report)
{
    return report->useful_per_token * (double)report->tokens;
}

/* Of a rate in the measured peak; 0 where the system let nobody measure it. On a machine whose speed varies a step may
 * have reached more than the looks before and after: that was possible, then. */
static double share_of_peak(const struct step_report *report, double rate)
{
    double peak = fmax(report->peak_before, report->peak_after);
    double reached = fmax(useful(report), report->executed) / report->least;
    return peak > 0.0 ? rate / fmax(peak, reached) : 0.0;
}

static void print_run(const struct step_report *report)
{
    const struct mesh_config *mesh = mesh_config(report->mesh);
    const struct training_config *training = &report->config->training;
    int ranks = mesh_size(report->mesh, MESH_TEAM);
    int threads = report->engine->threads;
    bool of_images = family_of_images(report->config->model.family);
    char rows[40] = "images";
    if (!of_images)
        snprintf(rows, sizeof rows, "x %lld tokens", (long long)training->sequence_length);
    printf("%-12s %.2f million parameters in %s; batch %lld %s in micro-batches of %lld\n", "model",
           1e-6 * (double)report->parameters, report->config->compute.type == COMPUTE_BF16 ? "bf16" : "fp32",
           (long long)training->batch, rows, (long long)training->micro_batch);
    printf("%-12s data %lld x pipeline %lld x context %lld x tensor %lld; %d rank%s of %d thread%s, %s kernels\n",
           "mesh", (long long)mesh->data, (long long)mesh->pipeline, (long long)mesh->context, (long long)mesh->tensor,
           ranks, plural(ranks), threads, plural(threads), report->engine->isa);
    printf("%-12s %.1f GFLOP/s before the steps, %.1f after, by %s on all ranks at once\n", "peak",
           1e-9 * report->peak_before, 1e-9 * report->peak_after, report->instruction);
    printf("%-12s %s, the median of %lld (%.4g to %.4g s; at least %.4g s of processor time); %.1f %s/s; "
           "loss %.4f\n\n",
           "step", show_seconds(report->seconds).text, (long long)report->options->steps, report->least, report->most,
           report->processor, (double)(of_images ? training->batch : report->tokens) / report->seconds,
           of_images ? "images" : "tokens", report->loss);
}

static void print_split(const struct step_report *report)
{
    char slowest[40];
    snprintf(slowest, sizeof slowest, "busiest rank (%d)", report->slowest);
    printf("%-24s %12s %9s   %18s\n", "time of the median step", "rank 0", "share", slowest);
    for (int i = 0; i < TIME_KINDS; i++)
        printf("%-24s %12s %7.1f %%   %18s\n", time_rows[i].words, show_seconds(report->part[time_rows[i].kind]).text,
               100.0 * report->part[time_rows[i].kind] / report->seconds,
               show_seconds(report->slowest_part[time_rows[i].kind]).text);
    if (mesh_config(report->mesh)->pipeline > 1)
        printf(
            "Of the communication %s a rank, in the mean, is waiting for other stages; the schedule leaves them idle "
            "for %.1f %% of the time.\n",
            show_seconds(report->waiting).text, 100.0 * report->bubble);
}

static void print_flops(const struct step_report *report)
{
    double datasheet = report->options->datasheet;
    const struct {
        const char *words;
        double flops;
    } rows[] = {{"useful", useful(report)}, {"executed", report->executed}};
    printf("\n%-24s %12s %13s %14s", "arithmetic", "TFLOP a step", "GFLOP/s", "measured peak");
    printf(datasheet > 0.0 ? " %15s\n" : "\n", "datasheet peak");
    for (int i = 0; i < 2; i++) {
        double rate = rows[i].flops / report->seconds;
        printf("%-24s %12.4g %13.4g %12.1f %%", rows[i].words, 1e-12 * rows[i].flops, 1e-9 * rate,
               100.0 * share_of_peak(report, rate));
        if (datasheet > 0.0)
            printf(" %13.1f %%", 100.0 * rate / datasheet);
        printf("\n");
    }
    printf("The useful row's shares are MFU. Executed counts what ran: recomputation too.\n");
}

static void print_memory(const struct step_report *report)
{
    printf("\n%-24s %12s\n", "memory of rank 0", "held");
    for (int kind = 0; kind < MEMORY_KINDS; kind++)
        printf("%-24s %12s\n", memory_kind_name((enum memory_kind)kind), show_bytes(report->memory[kind]).text);
    printf("%-24s %12s\n", "most held at once", show_bytes(report->memory_peak).text);
    printf("%-24s %12s   (of any rank %s)\n", "most resident", show_bytes(report->resident_peak).text,
           show_bytes(report->resident_most).text);
}

void step_print(const struct step_report *report)
{
    print_run(report);
    print_split(report);
    print_flops(report);
    print_memory(report);
}

static json_t *memory_json(const struct step_report *report)
{
    json_t *object = json_object();
    for (int kind = 0; kind < MEMORY_KINDS; kind++)
        json_object_set_new(object, memory_kind_name((enum memory_kind)kind),
                            json_integer((json_int_t)report->memory[kind]));
    json_object_set_new(object, "held_peak", json_integer((json_int_t)report->memory_peak));
    json_object_set_new(object, "resident_peak", json_integer((json_int_t)report->resident_peak));
    json_object_set_new(object, "resident_peak_of_any_rank", json_integer((json_int_t)report->resident_most));
    return object;
}

static json_t *flops_json(const struct step_report *report)
{
    double rate = useful(report) / report->seconds;
    double executed = report->executed / report->seconds;
    double datasheet = report->options->datasheet;
    json_t *object = json_form("{s:f, s:f, s:f, s:f, s:f}", "useful_per_token", report->useful_per_token, "useful",
                               useful(report), "executed", report->executed, "mfu", share_of_peak(report, rate),
                               "executed_share", share_of_peak(report, executed));
    if (object && datasheet > 0.0)
        json_set_number(object, "mfu_of_datasheet", rate / datasheet);
    return object;
}

enum status step_print_json(struct context *context, const struct step_report *report)
{
    const struct mesh_config *mesh = mesh_config(report->mesh);
    const struct training_config *training = &report->config->training;
    json_t *object =
        json_form("{s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:I}", "bench", "step", "type",
                  report->config->compute.type == COMPUTE_BF16 ? "bf16" : "fp32", "isa", report->engine->isa, "ranks",
                  mesh_size(report->mesh, MESH_TEAM), "threads", report->engine->threads, "parameters",
                  (json_int_t)report->parameters, "batch", (json_int_t)training->batch, "micro_batch",
                  (json_int_t)training->micro_batch, "sequence_length", (json_int_t)training->sequence_length);
    json_t *rest = json_form(
        "{s:{s:I, s:I, s:I, s:I}, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:{s:s, s:f, s:f}, s:o, s:{s:o, s:i, "
        "s:o, s:o, s:f}, s:f, "
        "s:i, s:s, s:I, s:I, s:o}",
        "mesh", "data", (json_int_t)mesh->data, "pipeline", (json_int_t)mesh->pipeline, "context",
        (json_int_t)mesh->context, "tensor", (json_int_t)mesh->tensor, "tokens", (json_int_t)report->tokens, "seconds",
        report->seconds, "seconds_least", report->least, "seconds_most", report->most, "seconds_p95", report->high,
        "processor_seconds", report->processor, "tokens_per_second", (double)report->tokens / report->seconds, "loss",
        report->loss, "peak", "instruction", report->instruction, "gflops_before", 1e-9 * report->peak_before,
        "gflops_after", 1e-9 * report->peak_after, "flops", flops_json(report), "seconds_by_kind", "rank_0",
        time_json(report->part), "busiest_rank", report->slowest, "busiest", time_json(report->slowest_part), "mean",
        time_json(report->mean), "waiting_for_stages", report->waiting, "schedule_idle", report->bubble, "nodes",
        report->nodes, "hosts", report->hosts, "steps", (json_int_t)report->options->steps, "warmup",
        (json_int_t)report->options->warmup, "memory_bytes", memory_json(report));
    if (object && rest)
        json_object_update(object, rest);
    json_decref(rest);
    if (object && family_of_images(report->config->model.family))
        json_set_number(object, "images_per_second", (double)training->batch / report->seconds);
    return print_json(context, object);
}
