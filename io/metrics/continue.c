#include "io/metrics/continue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/records/records.h"

enum { PATH_LENGTH = 1024 };

/* What becomes of a piece of the file. */
enum lot { LOT_KEPT, LOT_LATER, LOT_DAMAGED, LOTS };

struct continuing {
    int64_t step;
    json_t *last;
    int64_t count[LOTS];
    bool simple;    /* all that is kept comes first, in lines as they should be */
    int64_t end;    /* of what is kept, if simple */
    int64_t needed; /* end of what is not of later steps */
    FILE *to[LOTS]; /* NULL: it goes nowhere */
    bool failed;
};

int64_t metrics_step(const json_t *object)
{
    const json_t *value = json_object_get(object, "step");
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Half a line that names a later step will be written anew. */
static bool torn_later(const struct continuing *continuing, const struct record_piece *piece)
{
    char text[64] = "";
    int64_t step = -1;
    char next = '\0';
    memcpy(text, piece->text, piece->length < sizeof text ? piece->length : sizeof text - 1);
    return sscanf(text, "{\"step\":%18" SCNd64 "%c", &step, &next) == 2 && next == ',' && step > continuing->step;
}

static enum lot lot_of(const struct continuing *continuing, const struct record_piece *piece)
{
    int64_t step = metrics_step(piece->object);
    if (step < 0)
        return torn_later(continuing, piece) ? LOT_LATER : LOT_DAMAGED;
    return step > continuing->step ? LOT_LATER : LOT_KEPT;
}

static bool look(void *self, const struct record_piece *piece)
{
    struct continuing *continuing = self;
    enum lot lot = lot_of(continuing, piece);
    bool first = continuing->count[LOT_LATER] + continuing->count[LOT_DAMAGED] == 0;
    continuing->count[lot]++;
    if (lot != LOT_LATER)
        continuing->needed = piece->end;
    if (lot != LOT_KEPT)
        return true;
    continuing->simple = continuing->simple && first && (piece->line || piece->torn);
    continuing->end = piece->end;
    if (metrics_step(piece->object) == continuing->step)
        json_object_update(continuing->last, piece->object);
    return true;
}

static bool divide(void *self, const struct record_piece *piece)
{
    struct continuing *continuing = self;
    FILE *to = continuing->to[lot_of(continuing, piece)];
    if (to && (fwrite(piece->text, 1, piece->length, to) != piece->length || fputc('\n', to) == EOF))
        continuing->failed = true;
    return !continuing->failed;
}

static bool close_written(FILE *file)
{
    if (!file)
        return true;
    bool written = fflush(file) == 0 && fsync(fileno(file)) == 0;
    return fclose(file) == 0 && written;
}

/* Divides the file: what is kept takes its place, the rest is added to the files of its lot. Nothing is lost when that
 * fails half-way. */
static bool rewrite(struct context *context, const char *path, struct continuing *continuing, const char *later,
                    const char *damaged)
{
    char partial[PATH_LENGTH + 16];
    snprintf(partial, sizeof partial, "%s.partial", path);
    FILE **to = continuing->to;
    to[LOT_KEPT] = fopen(partial, "w");
    to[LOT_LATER] = later && continuing->count[LOT_LATER] > 0 ? fopen(later, "a") : NULL;
    to[LOT_DAMAGED] = continuing->count[LOT_DAMAGED] > 0 ? fopen(damaged, "a") : NULL;
    bool written = to[LOT_KEPT] && (to[LOT_LATER] || !later || continuing->count[LOT_LATER] == 0) &&
                   (to[LOT_DAMAGED] || continuing->count[LOT_DAMAGED] == 0);
    written = written && records_read(context, path, divide, continuing) == STATUS_OK && !continuing->failed;
    for (int lot = LOTS - 1; lot >= 0; lot--)
        written = close_written(to[lot]) && written;
    context_clear(context);
    if (written && rename(partial, path) == 0)
        return true;
    int code = errno;
    unlink(partial);
    errno = code;
    return false;
}

static void tell(struct context *context, const char *path, const struct continuing *continuing, const char *later,
                 const char *damaged)
{
    if (continuing->count[LOT_DAMAGED] > 0)
        context_log(context, "%s: %" PRId64 " damaged lines are kept in %s; the others stay", path,
                    continuing->count[LOT_DAMAGED], damaged);
    if (later && continuing->count[LOT_LATER] > 0)
        context_log(context, "%s: %" PRId64 " lines of steps after %" PRId64 " are kept in %s", path,
                    continuing->count[LOT_LATER], continuing->step, later);
}

enum status metrics_continue(struct context *context, const char *path, int64_t step, const char *aside, json_t *last)
{
    char damaged[PATH_LENGTH + 16];
    struct continuing continuing = {.step = step, .last = last, .simple = true};
    if (access(path, F_OK) != 0)
        return STATUS_OK;
    CHECK(records_read(context, path, look, &continuing));
    snprintf(damaged, sizeof damaged, "%s.damaged", path);
    bool whole = continuing.count[LOT_LATER] + continuing.count[LOT_DAMAGED] == 0;
    bool cut = continuing.simple && continuing.count[LOT_DAMAGED] == 0 && !(aside && continuing.count[LOT_LATER] > 0);
    if (whole && continuing.simple)
        return STATUS_OK;
    if (!cut && rewrite(context, path, &continuing, aside, damaged)) {
        tell(context, path, &continuing, aside, damaged);
        return STATUS_OK;
    }
    /* On a full disk the file stays as it is, up to the steps that will be done anew. */
    if (!cut)
        context_log(context, "%s: cannot be written anew: %s; lines that are damaged or of later steps stay in it",
                    path, strerror(errno));
    if (aside && !cut && continuing.count[LOT_LATER] > 0)
        return STATUS_OK;
    if (truncate(path, cut ? continuing.end : continuing.needed) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot shorten it: %s", path, strerror(errno));
    return STATUS_OK;
}
