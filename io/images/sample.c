/* Sample n of a run: which image it is, read, augmented and mixed with its partner. */
#include "io/images/loader_private.h"

#include "src/core/random.h"
#include "src/core/text.h"

#include <string.h>

int64_t image_loader_index(const struct image_loader *loader, int64_t n, int64_t *epoch)
{
    int64_t count = loader->options.set->facts.count;
    int64_t which = loader->options.evaluation ? 0 : n / count;
    if (epoch)
        *epoch = which;
    if (loader->options.evaluation)
        return n < count ? n : -1;
    return random_permute(random_bits(loader->order_key, (uint64_t)which), n % count, count);
}

int64_t loader_partner(const struct image_loader *loader, int64_t n)
{
    int64_t count = loader->options.set->facts.count;
    int64_t place = n % count;
    int64_t other = place ^ 1;
    if (other >= count)
        other = place > 0 ? place - 1 : 0;
    return n - place + other;
}

/* The image of a sample alone. A bad one is replaced by the next good one of the set. */
static enum status make_alone(struct worker *worker, int64_t n, float *output, int32_t *label, bool *bad)
{
    const struct image_loader *loader = worker->loader;
    const struct image_loader_options *options = &loader->options;
    int64_t count = options->set->facts.count;
    int64_t epoch;
    int64_t index = image_loader_index(loader, n, &epoch);
    struct image image;
    struct image_choices choices;
    *label = -1;
    if (index < 0)
        return STATUS_OK;
    if (options->labels_only && !options->skip_bad) {
        *label = image_set_label(options->set, index);
        return STATUS_OK;
    }
    enum status status = image_reader_read(worker->reader, index, &image);
    int64_t found = index;
    for (int64_t i = 1; status == STATUS_FILE && options->skip_bad && i < count; i++) {
        *bad = true;
        context_clear(&worker->context);
        if (options->evaluation)
            return STATUS_OK;
        found = (index + i) % count;
        status = image_reader_read(worker->reader, found, &image);
    }
    if (status != STATUS_OK)
        return status;
    if (options->evaluation)
        image_choose_centre(&loader->augmentation, image.rows, image.columns, &choices);
    else
        image_choose(&loader->augmentation, options->seed, epoch, index, image.rows, image.columns, &choices);
    image_apply(worker->workspace, &image, &choices, !options->evaluation, output);
    *label = image_set_label(options->set, found);
    return STATUS_OK;
}

bool loader_is_mixing(const struct image_loader *loader)
{
    return !loader->options.evaluation && (loader->augmentation.mixup > 0.0 || loader->augmentation.cutmix > 0.0);
}

static struct image_mixing mixing_of(const struct image_loader *loader, int64_t n)
{
    struct image_mixing mixing = {0};
    int64_t epoch;
    int64_t index = image_loader_index(loader, n, &epoch);
    if (loader_is_mixing(loader))
        image_mixing_choose(&loader->augmentation, loader->options.seed, epoch, index, &mixing);
    return mixing;
}

/* The target of a slot whose image was mixed. A partner that does not count cannot be mixed in: none is in training. */
static void slot_mix(const struct image_loader *loader, struct slot *slot, const struct image_mixing *mixing,
                     const float *other, int32_t other_label)
{
    image_mix(mixing, loader->augmentation.channels, loader->augmentation.size, slot->image, other);
    slot->mixed_label = other_label;
    slot->mixing = (float)mixing->amount;
}

static void slot_fail(struct worker *worker, struct slot *slot, enum status status)
{
    slot->status = status;
    (void)text_copy(slot->error, ERROR_BYTES, worker->context.text);
    context_clear(&worker->context);
}

void sample_make(struct worker *worker, struct slot *slot)
{
    const struct image_loader *loader = worker->loader;
    memset(slot->image, 0, sizeof *slot->image * (size_t)loader->image_floats);
    slot->bad = false;
    slot->mixing = 0.0F;
    slot->status = STATUS_OK;
    enum status status = make_alone(worker, slot->n, slot->image, &slot->label, &slot->bad);
    slot->mixed_label = slot->label;
    struct image_mixing mixing = mixing_of(loader, slot->n);
    if (status == STATUS_OK && mixing.amount > 0.0) {
        int32_t label;
        status = make_alone(worker, loader_partner(loader, slot->n), worker->other, &label, &slot->bad);
        if (status == STATUS_OK)
            slot_mix(loader, slot, &mixing, worker->other, label);
    }
    if (status != STATUS_OK)
        slot_fail(worker, slot, status);
}

void sample_make_pair(struct worker *worker, struct slot *a, struct slot *b)
{
    const struct image_loader *loader = worker->loader;
    enum status status = STATUS_OK;
    bool bad = false;
    struct slot *const both[] = {a, b};
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        both[i]->status = STATUS_OK;
        both[i]->bad = false;
        both[i]->mixing = 0.0F;
        status = make_alone(worker, both[i]->n, both[i]->image, &both[i]->label, &both[i]->bad);
        both[i]->mixed_label = both[i]->label;
        bad = bad || both[i]->bad;
    }
    if (status != STATUS_OK || bad) { /* which of them it is, and what follows, is told as for each alone */
        context_clear(&worker->context);
        sample_make(worker, a);
        sample_make(worker, b);
        return;
    }
    struct image_mixing mixing_a = mixing_of(loader, a->n);
    struct image_mixing mixing_b = mixing_of(loader, b->n);
    memcpy(worker->other, a->image, sizeof *a->image * (size_t)loader->image_floats);
    if (mixing_a.amount > 0.0)
        slot_mix(loader, a, &mixing_a, b->image, b->label);
    if (mixing_b.amount > 0.0)
        slot_mix(loader, b, &mixing_b, worker->other, a->label);
}
