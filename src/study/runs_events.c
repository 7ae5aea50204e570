/* Metrics of runs as event files of TensorBoard. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/config/config.h"
#include "io/events/events.h"
#include "io/records/records.h"
#include "io/report/report.h"
#include "src/core/folder.h"
#include "src/core/text.h"
#include "src/study/run.h"
#include "src/study/runs.h"

struct writing {
    struct events *events;
    int64_t last; /* step */
};

/* Where the steps go back, the run did. */
static bool write_line(void *self, const struct record_piece *piece)
{
    struct writing *writing = self;
    const json_t *step = json_object_get(piece->object, "step");
    if (!json_is_integer(step))
        return true;
    if (json_integer_value(step) < writing->last)
        events_restart(writing->events, json_integer_value(step) + 1);
    writing->last = json_integer_value(step);
    events_line(writing->events, piece->object);
    return true;
}

static void write_setting(void *self, const char *key, const char *value)
{
    events_setting(self, key, value);
}

static enum status write_run(struct run *run, const char *folder)
{
    struct context *context = run->context;
    char lines[REPORT_PATH + 16];
    char own[REPORT_PATH];
    struct stat entry;
    const char *slash = strrchr(run->name, '/');
    const char *name = slash && slash[1] ? slash + 1 : run->name;
    bool is_file = stat(run->name, &entry) == 0 && S_ISREG(entry.st_mode);
    snprintf(lines, sizeof lines, "%s%s", run->name, is_file ? "" : "/metrics.jsonl");
    if (snprintf(own, sizeof own, "%s/%s", folder, strspn(name, ".") == strlen(name) ? "run" : name) >= REPORT_PATH)
        return context_fail(context, STATUS_FILE, "%s: the name is too long", folder);
    CHECK(folder_make(context, "", own));
    struct writing writing = {.last = -1};
    enum status status = events_create(context, own, 0, &writing.events);
    if (status == STATUS_OK && run->has_config) {
        config_visit(&run->config, write_setting, writing.events);
        events_settings_end(writing.events);
    }
    if (status == STATUS_OK)
        status = records_read(context, lines, write_line, &writing);
    events_destroy(&writing.events);
    return status;
}

enum status runs_events(struct context *context, const char *const *names, int count, const char *folder)
{
    for (int i = 0; i < count; i++) {
        struct run *run = memory_allocate(context, sizeof *run, MEMORY_OTHER);
        if (!run)
            return STATUS_MEMORY;
        enum status status = run_read(context, names[i], run);
        if (status == STATUS_OK)
            status = write_run(run, folder);
        run_destroy(run);
        memory_free(context, run);
        CHECK(status);
    }
    return STATUS_OK;
}
