/* The loader: the same samples whoever makes them and whenever, every image once an epoch, bad images, waits. */
#include "tests/unit/images_support.h"

#include <sched.h>

enum { COUNT = 23, SIZE = 6, FLOATS = 3 * SIZE * SIZE };

/* COUNT images of 6 x 6 in a folder of two classes, all different. */
static void write_set(struct fixture *fixture)
{
    for (int i = 0; i < COUNT; i++) {
        char name[64];
        uint8_t pixels[FLOATS];
        for (int j = 0; j < FLOATS; j++)
            pixels[j] = (uint8_t)(i * 11 + j * (7 + i));
        snprintf(name, sizeof name, "set/%s/%02d.png", i < 9 ? "a" : "b", i);
        write_png(fixture, name, SIZE, SIZE, PNG_COLOR_TYPE_RGB, 8, pixels, 3 * SIZE, NULL);
    }
}

static void damage(struct fixture *fixture, int i)
{
    char name[64];
    uint8_t bytes[1024];
    snprintf(name, sizeof name, "set/%s/%02d.png", i < 9 ? "a" : "b", i);
    size_t count = read_back(fixture, name, bytes, sizeof bytes);
    write_file(fixture, name, bytes, count - 20);
}

static struct image_augmentation plain(void)
{
    struct image_augmentation augmentation = {.size = SIZE, .channels = 3};
    for (int c = 0; c < IMAGE_CHANNELS; c++)
        augmentation.deviation[c] = 1.0;
    return augmentation;
}

static struct image_augmentation everything(void)
{
    struct image_augmentation augmentation = plain();
    augmentation.crop = IMAGE_CROP_RESIZED;
    augmentation.scale_low = 0.3;
    augmentation.scale_high = 1.0;
    augmentation.ratio_low = 0.75;
    augmentation.ratio_high = 1.33;
    augmentation.flip = IMAGE_FLIP_RANDOM;
    augmentation.rotation = 30.0;
    augmentation.brightness = augmentation.contrast = augmentation.saturation = 0.4;
    augmentation.cutout = 2;
    augmentation.mixup = 0.4;
    augmentation.cutmix = 1.0;
    augmentation.mixing = 0.8;
    return augmentation;
}

struct sample {
    float image[FLOATS];
    int32_t label, mixed_label;
    float mixing;
};

static void take(struct fixture *fixture, struct image_loader *loader, int64_t n, struct sample *sample)
{
    memset(sample, 0xff, sizeof *sample);
    assert_ok(&fixture->context,
              image_loader_take(loader, n, sample->image, &sample->label, &sample->mixed_label, &sample->mixing));
}

static struct image_loader *create(struct fixture *fixture, const struct image_set *set,
                                   const struct image_augmentation *augmentation, int threads, int64_t ahead)
{
    struct image_loader_options options = {
        .set = set, .augmentation = augmentation, .seed = 5, .threads = threads, .ahead = ahead};
    struct image_loader *loader = NULL;
    assert_ok(&fixture->context, image_loader_create(&fixture->context, &options, &loader));
    return loader;
}

static void check_order(const struct image_loader *loader, int64_t epoch)
{
    int seen[COUNT] = {0};
    for (int64_t i = 0; i < COUNT; i++) {
        int64_t found;
        int64_t index = image_loader_index(loader, epoch * COUNT + i, &found);
        assert_int_equal(found, epoch);
        assert_in_range(index, 0, COUNT - 1);
        seen[index]++;
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
}

static void test_order(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    struct image_loader *loader = create(fixture, set, &augmentation, 0, 0);
    int64_t same = 0;
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        check_order(loader, epoch);
        for (int64_t i = 0; i < COUNT; i++)
            same += image_loader_index(loader, epoch * COUNT + i, NULL) ==
                    image_loader_index(loader, (epoch + 1) * COUNT + i, NULL);
    }
    assert_in_range(same, 1, 50); /* about one an epoch */
    /* Of a later program, too: as another one (in Python) permutes. */
    static const int first[] = {4, 0, 13, 8, 22, 7, 15}, second[] = {16, 20, 0, 8, 1, 13, 11};
    for (int64_t i = 0; i < 7; i++) {
        assert_int_equal(image_loader_index(loader, i, NULL), first[i]);
        assert_int_equal(image_loader_index(loader, COUNT + i, NULL), second[i]);
    }
    /* Without augmentation the image itself. */
    struct sample sample;
    take(fixture, loader, 40, &sample);
    int64_t index = image_loader_index(loader, 40, NULL);
    assert_int_equal(sample.label, index >= 9);
    assert_int_equal(sample.mixed_label, sample.label);
    assert_true(sample.mixing == 0.0F);
    for (int j = 0; j < FLOATS; j++)
        assert_close(sample.image[j % 3 * SIZE * SIZE + j / 3], (uint8_t)(index * 11 + j * (7 + index)) / 255.0, 1e-6,
                     0.0);
    image_loader_destroy(&loader);
    image_set_close(&set);
}

/* Any number of threads, any order of taking, announced or not, from the start or in mid-epoch: the same samples. */
static void test_same_samples(void **state)
{
    struct fixture *fixture = *state;
    enum { SAMPLES = 3 * COUNT };
    static struct sample reference[SAMPLES];
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = everything();
    struct image_loader *loader = create(fixture, set, &augmentation, 0, 0);
    int64_t mixed = 0;
    for (int64_t n = 0; n < SAMPLES; n++) {
        take(fixture, loader, n, &reference[n]);
        mixed += reference[n].mixing > 0.0F && reference[n].mixed_label != reference[n].label;
        assert_true(n < COUNT || memcmp(reference[n].image, reference[n - COUNT].image, sizeof reference->image) != 0);
    }
    assert_true(mixed > 0);
    image_loader_destroy(&loader);
    static const int threads[] = {1, 4};
    for (int t = 0; t < 2; t++)
        for (int way = 0; way < 4; way++) {
            loader = create(fixture, set, &augmentation, threads[t], way == 1 ? 2 : 16);
            int64_t begin = way == 2 ? COUNT + 7 : 0;
            if (way == 0)
                image_loader_announce(loader, 0, SAMPLES);
            for (int64_t i = begin; i < SAMPLES; i++) {
                if (way > 0 && i % 5 == begin % 5)
                    image_loader_announce(loader, i, 5);
                int64_t n =
                    way == 3 && i % 5 < 4 && i / 5 * 5 + 4 < SAMPLES ? i / 5 * 5 + 3 - i % 5 : i; /* backwards */
                struct sample sample;
                take(fixture, loader, n, &sample);
                assert_memory_equal(&sample, &reference[n], sizeof sample);
            }
            image_loader_destroy(&loader);
        }
    /* Who needs the targets only gets the same ones. */
    struct image_loader_options options = {
        .set = set, .augmentation = &augmentation, .seed = 5, .labels_only = true, .threads = 1, .ahead = 16};
    assert_ok(&fixture->context, image_loader_create(&fixture->context, &options, &loader));
    image_loader_announce(loader, 0, SAMPLES);
    for (int64_t n = 0; n < SAMPLES; n++) {
        struct sample sample;
        take(fixture, loader, n, &sample);
        assert_int_equal(sample.label, reference[n].label);
        assert_int_equal(sample.mixed_label, reference[n].mixed_label);
        assert_true(sample.mixing == reference[n].mixing);
        for (int j = 0; j < FLOATS; j++)
            assert_true(sample.image[j] == 0.0F);
    }
    image_loader_destroy(&loader);
    image_set_close(&set);
}

/* Samples are mixed in pairs of an epoch; the last of an odd number takes the one before it. */
static void test_partners(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    augmentation.mixup = 0.4;
    augmentation.mixing = 1.0;
    struct image_loader *loader = create(fixture, set, &augmentation, 0, 0);
    static const int64_t pairs[][2] = {{0, 1}, {1, 0}, {20, 21}, {22, 21}, {23, 24}, {24, 23}, {45, 44}, {68, 67}};
    int apart = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct sample sample;
        struct sample partner;
        take(fixture, loader, pairs[i][0], &sample);
        take(fixture, loader, pairs[i][1], &partner);
        assert_true(sample.mixing > 0.0F);
        assert_int_equal(sample.mixed_label, partner.label);
        apart += sample.label != partner.label;
    }
    assert_in_range(apart, 1, 7);
    image_loader_destroy(&loader);
    image_set_close(&set);
}

/* What a rank of a mesh takes is what one rank takes for those rows. */
static void test_shares(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = everything();
    struct image_loader *whole = create(fixture, set, &augmentation, 2, 8);
    struct image_loader *share = create(fixture, set, &augmentation, 2, 8);
    for (int64_t step = 0; step < 6; step++) {
        struct sample a;
        struct sample b;
        image_loader_announce(share, step * 7 + 3, 2); /* rows 3 and 4 of 7 */
        image_loader_announce(whole, step * 7, 7);
        for (int64_t row = 0; row < 7; row++) {
            take(fixture, whole, step * 7 + row, &a);
            if (row != 3 && row != 4)
                continue;
            take(fixture, share, step * 7 + row, &b);
            assert_memory_equal(&a, &b, sizeof a);
        }
    }
    image_loader_destroy(&share);
    image_loader_destroy(&whole);
    image_set_close(&set);
}

static void test_evaluation(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    damage(fixture, 4);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = everything();
    struct image_loader_options options = {
        .set = set, .augmentation = &augmentation, .evaluation = true, .skip_bad = true, .threads = 2, .ahead = 4};
    struct image_loader *loader = NULL;
    assert_ok(&fixture->context, image_loader_create(&fixture->context, &options, &loader));
    image_loader_announce(loader, 0, COUNT + 5);
    for (int64_t n = 0; n < COUNT + 5; n++) {
        struct sample sample;
        take(fixture, loader, n, &sample);
        bool counts = n < COUNT && n != 4;
        assert_int_equal(sample.label, !counts ? -1 : n >= 9);
        assert_int_equal(sample.mixed_label, sample.label);
        for (int j = 0; j < FLOATS; j++)
            assert_close(sample.image[j % 3 * SIZE * SIZE + j / 3],
                         counts ? (uint8_t)(n * 11 + j * (7 + n)) / 255.0 : 0.0, 1e-6, 0.0);
    }
    assert_int_equal(image_loader_counts(loader).bad, 1);
    assert_int_equal(image_loader_counts(loader).taken, COUNT + 5);
    image_loader_destroy(&loader);
    image_set_close(&set);
}

static void test_bad_image(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    damage(fixture, 8);
    damage(fixture, 9);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    for (int threads = 0; threads < 3; threads++) {
        struct image_loader *loader = create(fixture, set, &augmentation, threads, 4);
        image_loader_announce(loader, 0, COUNT);
        for (int64_t n = 0; n < COUNT; n++) {
            struct sample sample;
            int64_t index = image_loader_index(loader, n, NULL);
            if (index != 8 && index != 9)
                take(fixture, loader, n, &sample);
            else
                assert_fails(&fixture->context, image_loader_take(loader, n, sample.image, &sample.label, NULL, NULL),
                             STATUS_FILE,
                             index == 8 ? "set/a/08.png: is a PNG that is truncated" : "set/b/09.png: is a PNG");
        }
        image_loader_destroy(&loader);
        struct image_loader_options options = {
            .set = set, .augmentation = &augmentation, .seed = 5, .skip_bad = true, .threads = threads, .ahead = 4};
        assert_ok(&fixture->context, image_loader_create(&fixture->context, &options, &loader));
        image_loader_announce(loader, 0, COUNT);
        for (int64_t n = 0; n < COUNT; n++) {
            struct sample sample;
            int64_t index = image_loader_index(loader, n, NULL);
            int64_t shown = index == 8 || index == 9 ? 10 : index; /* the next good one, of the other class */
            take(fixture, loader, n, &sample);
            assert_int_equal(sample.label, shown >= 9);
            assert_close(sample.image[1], (uint8_t)(shown * 11 + 3 * (7 + shown)) / 255.0, 1e-6, 0.0);
        }
        assert_int_equal(image_loader_counts(loader).bad, 2);
        image_loader_destroy(&loader);
    }
    image_set_close(&set);
}

/* All slots are free: as many samples as there are slots become ready, and none has to be waited for. */
static void check_free(struct fixture *fixture, struct image_loader *loader, int64_t slots)
{
    struct sample sample;
    int64_t waited = image_loader_counts(loader).waited;
    image_loader_announce(loader, 200, slots);
    while (image_loader_counts(loader).ready < slots)
        sched_yield();
    for (int64_t n = 200 + slots - 1; n >= 200; n--) /* the last would be begun while others are taken */
        take(fixture, loader, n, &sample);
    assert_int_equal(image_loader_counts(loader).waited, waited);
}

/* What is taken before a thread has begun it is not begun any more. */
static void test_ahead_of_threads(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    for (int which = 2; which < 10; which++) {
        struct image_loader *loader = create(fixture, set, &augmentation, 1, 2);
        struct sample sample;
        image_loader_announce(loader, 0, 10);
        while (image_loader_counts(loader).ready < 2)
            sched_yield();
        take(fixture, loader, which, &sample);
        for (int64_t n = 0; n < 10; n++)
            if (n != which)
                take(fixture, loader, n, &sample);
        check_free(fixture, loader, 2);
        image_loader_destroy(&loader);
    }
    image_set_close(&set);
}

/* A run that goes back announces anew; what was under way must not hold its slots. */
static void test_forget(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    struct image_loader *loader = create(fixture, set, &augmentation, 2, 4);
    for (int round = 0; round < 50; round++) {
        struct sample sample;
        image_loader_announce(loader, 100, 20);
        if (round % 2)
            take(fixture, loader, 100, &sample);
        image_loader_forget(loader);
        image_loader_announce(loader, 10, 3);
        for (int64_t n = 10; n < 13; n++) {
            take(fixture, loader, n, &sample);
            assert_int_equal(sample.label, image_loader_index(loader, n, NULL) >= 9);
        }
    }
    check_free(fixture, loader, 4);
    image_loader_destroy(&loader);
    image_set_close(&set);
}

/* The same while threads are at work, which takes them a while at this size. */
static void test_forget_at_work(void **state)
{
    struct fixture *fixture = *state;
    enum { LARGE = 192, SLOTS = 32, ROUNDS = 6 };
    static float image[3 * LARGE * LARGE];
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    augmentation.size = LARGE;
    augmentation.rotation = 30.0;
    struct image_loader *loader = create(fixture, set, &augmentation, 2, SLOTS);
    int32_t label;
    /* Mostly a thread is at work when its sample is forgotten: once is enough. */
    for (int64_t round = 0; round < ROUNDS; round++) {
        int64_t begin = 5000 + 100 * round;
        image_loader_announce(loader, 100 * round, 100);
        assert_ok(&fixture->context, image_loader_take(loader, 100 * round, image, &label, NULL, NULL));
        image_loader_forget(loader);
        image_loader_announce(loader, begin, SLOTS);
        while (image_loader_counts(loader).ready < SLOTS)
            sched_yield();
        int64_t waited = image_loader_counts(loader).waited;
        for (int64_t n = begin + SLOTS - 1; n >= begin; n--)
            assert_ok(&fixture->context, image_loader_take(loader, n, image, &label, NULL, NULL));
        assert_int_equal(image_loader_counts(loader).waited, waited);
    }
    image_loader_destroy(&loader);
    image_set_close(&set);
}

/* Finished ahead: nothing to wait for. Without threads every sample is waited for. Nothing is allocated. */
static void test_counts(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = everything();
    for (int threads = 0; threads < 2; threads++) {
        struct image_loader *loader = create(fixture, set, &augmentation, threads, 8);
        struct sample sample;
        int64_t allocations = fixture->context.memory.allocations;
        for (int64_t step = 0; step < 4; step++) {
            struct image_loader_counts before = image_loader_counts(loader);
            image_loader_announce(loader, step * 8, 8);
            while (threads && image_loader_counts(loader).ready < 8)
                sched_yield();
            for (int64_t i = 0; i < 8; i++)
                take(fixture, loader, step * 8 + i, &sample);
            struct image_loader_counts after = image_loader_counts(loader);
            assert_int_equal(after.taken - before.taken, 8);
            assert_int_equal(after.waited - before.waited, threads ? 0 : 8);
            assert_true(threads ? after.seconds == before.seconds : after.seconds > before.seconds);
        }
        assert_int_equal(fixture->context.memory.allocations, allocations);
        image_loader_destroy(&loader);
    }
    image_set_close(&set);
}

static void test_refusals(void **state)
{
    struct fixture *fixture = *state;
    write_set(fixture);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image_augmentation augmentation = plain();
    struct image_loader_options options = {.set = set, .augmentation = &augmentation};
    struct image_loader *loader = NULL;
    augmentation.channels = 1;
    assert_fails(&fixture->context, image_loader_create(&fixture->context, &options, &loader), STATUS_USAGE,
                 "takes images of 1 channels, the set has 3");
    augmentation.channels = 3;
    augmentation.size = 0;
    assert_fails(&fixture->context, image_loader_create(&fixture->context, &options, &loader), STATUS_USAGE,
                 "the size of images");
    assert_null(loader);
    image_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(test_order),  IMAGE_TEST(test_same_samples),     IMAGE_TEST(test_partners),
        IMAGE_TEST(test_shares), IMAGE_TEST(test_evaluation),       IMAGE_TEST(test_bad_image),
        IMAGE_TEST(test_forget), IMAGE_TEST(test_ahead_of_threads), IMAGE_TEST(test_forget_at_work),
        IMAGE_TEST(test_counts), IMAGE_TEST(test_refusals),
    };
    return cmocka_run_group_tests_name("images_loader", tests, NULL, NULL);
}
