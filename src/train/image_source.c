#include "src/train/image_source.h"

#include <stdio.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "src/evaluate/evaluate_images.h"
#include "src/train/image_facts.h"
#include "src/train/source.h"

/* Images of which the normalisation is measured: so many say it to three digits. */
enum { MEASURED = 10000 };

struct images {
    struct image_set *train;
    struct image_set *validation; /* NULL: there is none */
    struct image_augmentation augmentation;
    struct image_loader *loader;
    int threads;
    char *facts;
    int64_t announced; /* samples from the beginning of the run up to which all of this rank's are */
    double waited;     /* for samples, in the step before */
};

/* -- Settings -- */

struct image_augmentation image_augmentation_of(const struct config *config, const struct image_moments *moments)
{
    const struct augment_config *augment = &config->data.augment;
    struct image_augmentation augmentation = {.size = config->model.image.size,
                                              .channels = config->model.image.channels,
                                              .crop_share = config->data.crop_share,
                                              .crop = (enum image_crop)augment->crop,
                                              .crop_padding = augment->crop_padding,
                                              .crop_reflect = augment->crop_reflect,
                                              .scale_low = augment->scale_low,
                                              .scale_high = augment->scale_high,
                                              .ratio_low = augment->ratio_low,
                                              .ratio_high = augment->ratio_high,
                                              .flip = (enum image_flip)augment->flip,
                                              .rotation = augment->rotation,
                                              .brightness = augment->brightness,
                                              .contrast = augment->contrast,
                                              .saturation = augment->saturation,
                                              .hue = augment->hue,
                                              .cutout = augment->cutout,
                                              .mixup = augment->mixup,
                                              .cutmix = augment->cutmix,
                                              .mixing = augment->mixing};
    for (int64_t c = 0; c < IMAGE_CHANNELS; c++) {
        augmentation.mean[c] = moments->mean[c];
        /* A channel that never changes is all zeros then. */
        augmentation.deviation[c] = moments->deviation[c] > 0.0 ? moments->deviation[c] : 1.0;
    }
    return augmentation;
}

enum status images_open(struct context *context, const struct config *config, const struct text_list *names,
                        struct image_set **set)
{
    static const enum image_format formats[] = {
        [DATA_AUTO] = IMAGES_AUTO,         [DATA_IDX] = IMAGES_IDX,       [DATA_CIFAR10] = IMAGES_CIFAR10,
        [DATA_CIFAR100] = IMAGES_CIFAR100, [DATA_FOLDER] = IMAGES_FOLDER, [DATA_LIST] = IMAGES_LIST};
    CHECK(image_set_open(context, names, formats[config->data.format], config->data.skip_bad, set));
    int64_t classes = image_set_facts(*set)->classes;
    if (classes > config->model.image.classes)
        return context_fail(context, STATUS_USAGE, "%s: images of %lld classes, but model.image.classes is %lld",
                            names->item[0], (long long)classes, (long long)config->model.image.classes);
    return STATUS_OK;
}

static enum status pass_on(struct mesh *mesh, struct context *context, void *packed, int64_t bytes,
                           struct image_set **set)
{
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    CHECK(mesh_agree(mesh, context, packed ? STATUS_OK : STATUS_MEMORY));
    if (first)
        image_set_pack(*set, packed);
    mesh_broadcast(mesh, MESH_TEAM, 0, packed, bytes, DTYPE_BYTE);
    enum status status = first ? STATUS_OK : image_set_unpack(context, packed, set);
    return mesh_agree(mesh, context, status);
}

enum status images_open_shared(struct mesh *mesh, struct context *context, const struct config *config,
                               const struct text_list *names, struct image_set **set)
{
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    *set = NULL;
    CHECK(mesh_agree(mesh, context, first ? images_open(context, config, names, set) : STATUS_OK));
    int64_t bytes = first ? image_set_packed_bytes(*set) : 0;
    mesh_broadcast(mesh, MESH_TEAM, 0, &bytes, (int64_t)sizeof bytes, DTYPE_BYTE);
    if (bytes == 0)
        return mesh_agree(mesh, context, first ? STATUS_OK : images_open(context, config, names, set));
    void *packed = memory_allocate(context, (size_t)bytes, MEMORY_OTHER);
    enum status status = pass_on(mesh, context, packed, bytes, set);
    memory_free(context, packed);
    return status;
}

bool images_labels_only(const struct config *config, const struct mesh *mesh)
{
    return mesh_rank(mesh, MESH_PIPELINE) > 0 && !config->data.skip_bad;
}

int images_threads(const struct config *config, const struct image_set *set, int threads)
{
    enum image_format format = image_set_facts(set)->format;
    bool in_memory = format == IMAGES_IDX || format == IMAGES_CIFAR10 || format == IMAGES_CIFAR100;
    if (config->data.threads >= 0)
        return (int)config->data.threads;
    return in_memory ? 1 : threads;
}

/* -- Opening -- */

static enum status open_sets(struct source *source, struct images *images)
{
    const struct data_config *data = &source->config->data;
    CHECK(images_open_shared(source->mesh, source->context, source->config, &data->train, &images->train));
    if (data->validation.count == 0)
        return STATUS_OK;
    CHECK(images_open_shared(source->mesh, source->context, source->config, &data->validation, &images->validation));
    return mesh_agree(source->mesh, source->context, image_set_match(images->validation, images->train));
}

/* Whether all ranks found the same. */
static enum status compare_sets(const struct source *source, const struct images *images)
{
    const struct image_set_facts *facts = image_set_facts(images->train);
    char text[160];
    snprintf(text, sizeof text,
             "images of data.train: %lld\nclasses of data.train: %lld\nimages of data.validation: %lld",
             (long long)facts->count, (long long)facts->classes,
             (long long)(images->validation ? image_set_facts(images->validation)->count : 0));
    return team_same(mesh_team(source->mesh), source->context, text);
}

static enum status measure(struct source *source, struct images *images, struct image_moments *moments)
{
    struct context *context = source->context;
    bool measures = mesh_rank(source->mesh, MESH_TEAM) == 0;
    enum status status = STATUS_OK;
    memset(moments, 0, sizeof *moments);
    if (measures)
        status = image_set_measure(context, images->train, MEASURED, source->config->data.skip_bad, moments, NULL);
    CHECK(mesh_agree(source->mesh, context, status));
    mesh_broadcast(source->mesh, MESH_TEAM, 0, moments, (int64_t)sizeof *moments, DTYPE_BYTE);
    return STATUS_OK;
}

static enum status create_loader(struct source *source, struct images *images, const struct image_moments *moments,
                                 int threads)
{
    struct context *context = source->context;
    struct mesh *mesh = source->mesh;
    int64_t rows =
        range_partition(source->config->training.batch, mesh_size(mesh, MESH_DATA), mesh_rank(mesh, MESH_DATA)).count;
    images->threads = images_threads(source->config, images->train, threads);
    struct image_loader_options options = {.set = images->train,
                                           .augmentation = &images->augmentation,
                                           .seed = source->config->data.seed,
                                           .labels_only = images_labels_only(source->config, mesh),
                                           .skip_bad = source->config->data.skip_bad,
                                           .threads = images->threads,
                                           .ahead = 3 * integer_max(1, rows)};
    CHECK(image_augmentation_check(context, &images->augmentation, images->train));
    CHECK(image_facts_write(context, images->train, moments, CHECKPOINT_DATA_SIZE, &images->facts));
    return image_loader_create(context, &options, &images->loader);
}

static void describe(struct source *source, const struct images *images, const struct image_moments *moments)
{
    snprintf(source->contents[0], sizeof source->contents[0], "%lld images in %lld classes, mean %.6f, deviation %.6f",
             (long long)image_set_facts(images->train)->count, (long long)image_set_facts(images->train)->classes,
             moments->mean[0], moments->deviation[0]);
    if (images->validation)
        snprintf(source->contents[1], sizeof source->contents[1], "%lld images",
                 (long long)image_set_facts(images->validation)->count);
    const struct image_set_facts *facts = image_set_facts(images->train);
    char sizes[48] = "of different sizes";
    if (facts->rows > 0)
        snprintf(sizes, sizeof sizes, "of %lld x %lld", (long long)facts->rows, (long long)facts->columns);
    snprintf(source->description, sizeof source->description, "%lld images %s in %lld classes", (long long)facts->count,
             sizes, (long long)facts->classes);
}

static enum status open_images(struct source *source, int threads)
{
    struct context *context = source->context;
    struct mesh *mesh = source->mesh;
    struct image_moments moments;
    struct images *images = source->self = memory_allocate(context, sizeof *images, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, images ? STATUS_OK : STATUS_MEMORY));
    CHECK(open_sets(source, images));
    CHECK(compare_sets(source, images));
    CHECK(measure(source, images, &moments));
    images->augmentation = image_augmentation_of(source->config, &moments);
    CHECK(mesh_agree(mesh, context, create_loader(source, images, &moments, threads)));
    source->validates = images->validation != NULL;
    source->data_facts = images->facts;
    describe(source, images, &moments);
    return STATUS_OK;
}

static void close_images(struct source *source)
{
    struct images *images = source->self;
    if (!images)
        return;
    image_loader_destroy(&images->loader);
    image_set_close(&images->train);
    image_set_close(&images->validation);
    memory_free(source->context, images->facts);
    memory_free(source->context, images);
}

/* -- Batches -- */

/* The rows of this rank, of this step and the next two; anew where the run has gone to another place. */
static void announce(struct images *images, const struct batch *batch, int64_t sequences)
{
    int64_t end = sequences + 3 * batch->rows;
    if (images->announced < sequences || images->announced > end) {
        image_loader_forget(images->loader);
        images->announced = sequences;
    }
    for (; images->announced < end; images->announced += batch->rows)
        image_loader_announce(images->loader, images->announced + batch->mine.begin, batch->mine.count);
}

static enum status take(struct images *images, struct batch *batch, int64_t sequences)
{
    float *pixels = batch_field(batch, "images");
    int32_t *labels = batch_field(batch, "labels");
    int32_t *mixed_labels = batch_field(batch, "mixed_labels");
    float *mixing = batch_field(batch, "mixing");
    int64_t each = batch->field[0].elements;
    for (int64_t row = 0; row < batch->mine.count; row++)
        CHECK(image_loader_take(images->loader, sequences + batch->mine.begin + row, pixels + row * each, &labels[row],
                                &mixed_labels[row], &mixing[row]));
    return STATUS_OK;
}

static enum status fill(struct source *source, struct batch *batch, int64_t first, struct model_state *carried)
{
    struct images *images = source->self;
    (void)carried;
    double before = image_loader_counts(images->loader).seconds;
    announce(images, batch, first);
    CHECK(mesh_agree(source->mesh, source->context, take(images, batch, first)));
    images->waited = image_loader_counts(images->loader).seconds - before;
    batch_ready_whole(batch);
    return STATUS_OK;
}

static enum status evaluate_set(struct source *source, struct evaluator *evaluator, const struct evaluation_plan *plan,
                                struct evaluation *evaluation)
{
    const struct images *images = source->self;
    struct image_evaluation wanted = {.set = images->validation,
                                      .augmentation = &images->augmentation,
                                      .skip_bad = source->config->data.skip_bad,
                                      .labels_only = images_labels_only(source->config, source->mesh),
                                      .threads = images->threads};
    return evaluate_images(evaluator, &wanted, plan, evaluation);
}

static int count(struct source *source, struct source_count counts[SOURCE_COUNTS])
{
    const struct images *images = source->self;
    counts[0] = (struct source_count){"data_wait_seconds", images->waited, false};
    counts[1] = (struct source_count){"data_bad", (double)image_loader_counts(images->loader).bad, true};
    return 2;
}

const struct source_ops image_source_ops = {
    .open = open_images, .close = close_images, .fill = fill, .evaluate = evaluate_set, .count = count};
