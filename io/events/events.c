#include "io/events/events.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/core/text.h"

enum { BUCKETS = 30, SPARES = 16 };

/* Bytes that lines made before have grown to what they need: later ones allocate nothing. */
struct spare {
    unsigned char *data;
    size_t room;
};

/* Bytes of a message. */
struct message {
    struct events *events;
    unsigned char *data;
    size_t size, room;
    bool failed; /* memory is out */
};

struct events {
    struct context *context;
    FILE *file;
    char path[4096];
    uint32_t table[256]; /* of the sums */
    struct message settings;
    struct spare spare[SPARES];
    int spares;
};

/* -- Sums -- */

/* Castagnoli's polynomial, lowest bit first. */
static void fill_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t sum = i;
        for (int bit = 0; bit < 8; bit++)
            sum = sum & 1 ? sum >> 1 ^ 0x82f63b78U : sum >> 1;
        table[i] = sum;
    }
}

static uint32_t masked_sum(const struct events *events, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint32_t sum = ~0U;
    for (size_t i = 0; i < size; i++)
        sum = events->table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
    sum = ~sum;
    return (sum >> 15 | sum << 17) + 0xa282ead8U;
}

/* -- Protocol buffers -- */

static struct message new_message(struct events *events)
{
    struct message message = {.events = events};
    if (events->spares > 0) {
        const struct spare *spare = &events->spare[--events->spares];
        message.data = spare->data;
        message.room = spare->room;
    }
    return message;
}

static void end_message(struct message *message)
{
    struct events *events = message->events;
    if (message->data && events->spares < SPARES)
        events->spare[events->spares++] = (struct spare){.data = message->data, .room = message->room};
    else
        memory_free(events->context, message->data);
    *message = (struct message){.events = events};
}

static void put_bytes(struct message *message, const void *data, size_t size)
{
    if (message->size + size > message->room) {
        size_t room = 2 * (message->size + size) + 256;
        struct context *context = message->events->context;
        unsigned char *grown = memory_allocate(context, room, MEMORY_OTHER);
        message->failed = message->failed || !grown;
        if (!grown)
            return;
        if (message->size > 0)
            memcpy(grown, message->data, message->size);
        memory_free(context, message->data);
        message->data = grown;
        message->room = room;
    }
    if (size > 0)
        memcpy(message->data + message->size, data, size);
    message->size += size;
}

static void put_varint(struct message *message, uint64_t value)
{
    unsigned char bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (unsigned char)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
    } while (value > 0);
    put_bytes(message, bytes, count);
}

enum wire { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };

static void put_key(struct message *message, unsigned field, enum wire wire)
{
    put_varint(message, (uint64_t)field << 3 | wire);
}

/* Little-endian, whatever this machine is. */
static void put_little(struct message *message, uint64_t bits, size_t size)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(bits >> 8 * i);
    put_bytes(message, bytes, size);
}

static void put_integer(struct message *message, unsigned field, int64_t value)
{
    put_key(message, field, WIRE_VARINT);
    put_varint(message, (uint64_t)value);
}

static void put_double_alone(struct message *message, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_little(message, bits, sizeof bits);
}

static void put_double(struct message *message, unsigned field, double value)
{
    put_key(message, field, WIRE_DOUBLE);
    put_double_alone(message, value);
}

static void put_float(struct message *message, unsigned field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(message, field, WIRE_FLOAT);
    put_little(message, bits, sizeof bits);
}

static void put_part(struct message *message, unsigned field, const void *data, size_t size)
{
    put_key(message, field, WIRE_BYTES);
    put_varint(message, size);
    put_bytes(message, data, size);
}

static void put_text(struct message *message, unsigned field, const char *text)
{
    put_part(message, field, text, strlen(text));
}

/* Puts a message into another, and ends it. */
static void put_message(struct message *message, unsigned field, struct message *part)
{
    put_part(message, field, part->data, part->size);
    message->failed = message->failed || part->failed;
    end_message(part);
}

/* -- Records -- */

static void give_up(struct events *events)
{
    context_log(events->context, "%s: cannot be written; no more events are (metrics.jsonl goes on)", events->path);
    if (events->file)
        fclose(events->file);
    events->file = NULL;
}

/* A record: the length and its sum, the data and their sum. */
static void write_record(struct events *events, struct message *event)
{
    struct message frame = new_message(events);
    put_little(&frame, event->size, 8);
    put_little(&frame, masked_sum(events, frame.data, frame.data ? 8 : 0), 4);
    put_bytes(&frame, event->data, event->size);
    put_little(&frame, masked_sum(events, event->data, event->size), 4);
    bool good = events->file && !frame.failed && !event->failed;
    if (events->file &&
        (!good || fwrite(frame.data, 1, frame.size, events->file) != frame.size || fflush(events->file) != 0))
        give_up(events);
    end_message(&frame);
    end_message(event);
}

static struct message event_of(struct events *events, double seconds, int64_t step)
{
    struct message event = new_message(events);
    put_double(&event, 1, seconds);
    put_integer(&event, 2, step);
    return event;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum status events_create(struct context *context, const char *folder, int64_t step, struct events **events)
{
    char host[256] = "";
    struct events *made = *events = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->settings.events = made;
    fill_table(made->table);
    (void)gethostname(host, sizeof host - 1);
    double seconds = now();
    if (snprintf(made->path, sizeof made->path, "%s/events.out.tfevents.%010lld.%s.%d.%lld", folder, (long long)seconds,
                 host, (int)getpid(), (long long)step) >= (int)sizeof made->path)
        return context_fail(context, STATUS_FILE, "%s: the name is too long", folder);
    made->file = fopen(made->path, "wb");
    if (!made->file)
        return context_fail(context, STATUS_FILE, "%s: cannot be made; check permissions and space", made->path);
    struct message first = new_message(made);
    put_double(&first, 1, seconds);
    put_text(&first, 3, "brain.Event:2");
    write_record(made, &first);
    events_restart(made, step);
    return STATUS_OK;
}

void events_destroy(struct events **events)
{
    struct events *old = *events;
    if (!old)
        return;
    if (old->file && fclose(old->file) != 0) {
        old->file = NULL;
        give_up(old);
    }
    memory_free(old->context, old->settings.data);
    while (old->spares > 0)
        memory_free(old->context, old->spare[--old->spares].data);
    memory_free(old->context, old);
    *events = NULL;
}

/* SessionLog with the status START. */
void events_restart(struct events *events, int64_t step)
{
    struct message event = event_of(events, now(), step);
    struct message session = new_message(events);
    put_integer(&session, 1, 1);
    put_message(&event, 7, &session);
    write_record(events, &event);
}

/* -- Values of a summary -- */

enum { TYPE_FLOAT = 1, TYPE_STRING = 7, CLASS_TENSOR = 2 };

/* SummaryMetadata of a plugin. */
static void put_plugin(struct message *value, const char *plugin, struct message *content)
{
    struct message data = new_message(value->events);
    struct message metadata = new_message(value->events);
    put_text(&data, 1, plugin);
    if (content->size > 0)
        put_message(&data, 2, content);
    else
        end_message(content);
    put_message(&metadata, 1, &data);
    put_integer(&metadata, 4, CLASS_TENSOR);
    put_message(value, 9, &metadata);
}

static void put_scalar(struct events *events, struct message *summary, const char *name, double number)
{
    struct message value = new_message(events);
    put_text(&value, 1, name);
    put_float(&value, 2, (float)number);
    put_message(summary, 1, &value);
}

static void put_words(struct events *events, struct message *summary, const char *name, const char *text)
{
    struct message value = new_message(events);
    struct message tensor = new_message(events);
    struct message content = new_message(events);
    put_text(&value, 1, name);
    put_integer(&tensor, 1, TYPE_STRING);
    put_part(&tensor, 2, NULL, 0); /* the shape of one */
    put_text(&tensor, 8, text);
    put_message(&value, 8, &tensor);
    put_plugin(&value, "text", &content);
    put_message(summary, 1, &value);
}

struct spread {
    double least, most, sum, squares;
    int64_t count;
    double buckets[BUCKETS];
};

static double bucket_end(const struct spread *spread, int bucket)
{
    if (bucket == BUCKETS - 1)
        return spread->most;
    return spread->least + (spread->most - spread->least) * (bucket + 1) / BUCKETS;
}

static void spread_of(const json_t *list, struct spread *spread)
{
    size_t i;
    json_t *item;
    *spread = (struct spread){.least = INFINITY, .most = -INFINITY};
    json_array_foreach(list, i, item)
    {
        double value = json_number_value(item);
        if (!json_is_number(item))
            continue;
        spread->least = fmin(spread->least, value);
        spread->most = fmax(spread->most, value);
        spread->sum += value;
        spread->squares += value * value;
        spread->count++;
    }
    json_array_foreach(list, i, item)
    {
        double value = json_number_value(item);
        int bucket = 0;
        while (json_is_number(item) && bucket < BUCKETS - 1 && value > bucket_end(spread, bucket))
            bucket++;
        spread->buckets[bucket] += json_is_number(item);
    }
}

/* HistogramProto; the ends of buckets are packed, and so are their counts. */
static void put_histogram(struct events *events, struct message *summary, const char *name, const json_t *list)
{
    struct spread spread;
    spread_of(list, &spread);
    if (spread.count == 0)
        return;
    struct message value = new_message(events);
    struct message histogram = new_message(events);
    struct message ends = new_message(events);
    struct message counts = new_message(events);
    put_text(&value, 1, name);
    put_double(&histogram, 1, spread.least);
    put_double(&histogram, 2, spread.most);
    put_double(&histogram, 3, (double)spread.count);
    put_double(&histogram, 4, spread.sum);
    put_double(&histogram, 5, spread.squares);
    for (int i = 0; i < BUCKETS; i++) {
        put_double_alone(&ends, bucket_end(&spread, i));
        put_double_alone(&counts, spread.buckets[i]);
    }
    put_message(&histogram, 6, &ends);
    put_message(&histogram, 7, &counts);
    put_message(&value, 5, &histogram);
    put_message(summary, 1, &value);
}

/* "2026-01-31T12:00:00.123Z" */
static bool seconds_of(const char *text, double *seconds)
{
    struct tm utc = {0};
    double second;
    if (!text || sscanf(text, "%d-%d-%dT%d:%d:%lf", &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour, &utc.tm_min,
                        &second) != 6)
        return false;
    utc.tm_year -= 1900;
    utc.tm_mon--;
    *seconds = (double)timegm(&utc) + second;
    return true;
}

void events_line(struct events *events, const json_t *object)
{
    const char *name;
    json_t *field;
    double seconds;
    const json_t *step = json_object_get(object, "step");
    if (!events->file || !json_is_integer(step) ||
        !seconds_of(json_string_value(json_object_get(object, "time")), &seconds))
        return;
    struct message event = event_of(events, seconds, json_integer_value(step));
    struct message summary = new_message(events);
    json_object_foreach((json_t *)object, name, field)
    {
        if (strcmp(name, "step") == 0 || strcmp(name, "time") == 0)
            continue;
        if (json_is_number(field))
            put_scalar(events, &summary, name, json_number_value(field));
        else if (json_is_array(field))
            put_histogram(events, &summary, name, field);
        else if (json_is_string(field))
            put_words(events, &summary, name, json_string_value(field));
    }
    put_message(&event, 5, &summary);
    write_record(events, &event);
}

/* -- Settings: HParamsPluginData with a SessionStartInfo -- */

/* google.protobuf.Value. */
void events_setting(struct events *events, const char *key, const char *value)
{
    struct message wrapped = new_message(events);
    struct message entry = new_message(events);
    json_t *typed =
        json_loads(value, JSON_DECODE_ANY, NULL); /* a number, a truth value, a quoted text; words are none */
    if (json_is_number(typed))
        put_double(&wrapped, 2, json_number_value(typed));
    else if (json_is_boolean(typed))
        put_integer(&wrapped, 4, json_is_true(typed));
    else
        put_text(&wrapped, 3, json_is_string(typed) ? json_string_value(typed) : value);
    json_decref(typed);
    put_text(&entry, 1, key);
    put_message(&entry, 2, &wrapped);
    put_message(&events->settings, 1, &entry);
}

void events_settings_end(struct events *events)
{
    struct message event = event_of(events, now(), 0);
    struct message summary = new_message(events);
    struct message value = new_message(events);
    struct message tensor = new_message(events);
    struct message shape = new_message(events);
    struct message content = new_message(events);
    put_double(&events->settings, 5, now());
    put_integer(&content, 1, 0);
    put_message(&content, 3, &events->settings);
    put_part(&shape, 2, NULL, 0); /* one dimension, of nothing */
    put_integer(&tensor, 1, TYPE_FLOAT);
    put_message(&tensor, 2, &shape);
    put_text(&value, 1, "_hparams_/session_start_info");
    put_message(&value, 8, &tensor);
    put_plugin(&value, "hparams", &content);
    put_message(&summary, 1, &value);
    put_message(&event, 5, &summary);
    write_record(events, &event);
}
