/* Safetensors: literal bytes, every way to break the format, slices of any shape, and what is written read again. */
#include "tests/support/support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/exchange/exchange.h"

struct fixture {
    struct context context;
    struct mesh *mesh;
    char folder[64];
};

static int fixture_create(void **state)
{
    static const struct mesh_config alone = {.data = 1, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    context_create(&fixture->context);
    strcpy(fixture->folder, "/tmp/test_exchange_XXXXXX");
    return mkdtemp(fixture->folder) && mesh_create_dry(&fixture->context, &alone, 0, &fixture->mesh) == STATUS_OK ? 0
                                                                                                                  : -1;
}

static const char *path_of(const struct fixture *fixture, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    return path;
}

static void clean(const struct fixture *fixture)
{
    DIR *folder = opendir(fixture->folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        if (entry->d_name[0] != '.')
            unlink(path_of(fixture, entry->d_name));
    closedir(folder);
}

static int fixture_destroy(void **state)
{
    struct fixture *fixture = *state;
    clean(fixture);
    rmdir(fixture->folder);
    mesh_destroy(&fixture->mesh);
    int64_t left = fixture->context.memory.bytes_total;
    free(fixture);
    return left == 0 ? 0 : -1;
}

static void write_bytes(const struct fixture *fixture, const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* A file of this header and so many bytes behind it: 0, 1, 2, ... */
static void write_file(const struct fixture *fixture, const char *name, const char *header, size_t data)
{
    size_t length = strlen(header);
    unsigned char bytes[1024] = {0};
    assert_true(8 + length + data <= sizeof bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++)
        bytes[8 + length + i] = (unsigned char)i;
    write_bytes(fixture, name, bytes, 8 + length + data);
}

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

static enum status open_folder(struct fixture *fixture, struct exchange_folder *folder)
{
    return exchange_open(&fixture->context, fixture->mesh, fixture->folder, folder);
}

static struct state_array array_of(struct state_piece *piece, int rank, const int64_t *shape)
{
    struct state_array array = {.rank = rank, .piece_count = 1, .pieces = piece};
    memcpy(array.shape, shape, (size_t)rank * sizeof *shape);
    return array;
}

/* A file as the reference writes it, to the byte: values of the three types, among them a scalar, a subnormal half, and
 * a tensor without elements; nothing is aligned. */
static void test_literal_bytes(void **state)
{
    struct fixture *fixture = *state;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"h\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                                 "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[6,6]},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[6,8]},"
                                 "\"f\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}} ";
    static const unsigned char data[] = {0x00, 0x3c, 0x01, 0x80, 0xff, 0x7b, 0x49, 0x40, 0xdb, 0x0f, 0x49, 0xc0};
    unsigned char bytes[8 + sizeof header - 1 + sizeof data] = {(sizeof header - 1) & 255, (sizeof header - 1) >> 8};
    memcpy(bytes + 8, header, sizeof header - 1);
    memcpy(bytes + 8 + sizeof header - 1, data, sizeof data);
    write_bytes(fixture, SINGLE, bytes, sizeof bytes);
    struct exchange_folder folder;
    assert_ok(&fixture->context, open_folder(fixture, &folder));
    assert_int_equal(folder.count, 4);
    float half[3] = {0};
    float brain[1] = {0};
    float single[1] = {0};
    struct state_piece pieces[] = {{.box = {.extent = {3}}, .data = half},
                                   {.box = {.extent = {1, 1}}, .data = brain},
                                   {.box = {{0}, {0}}, .data = single}};
    struct state_array arrays[] = {array_of(&pieces[0], 1, (int64_t[]){3}), array_of(&pieces[1], 2, (int64_t[]){1, 1}),
                                   array_of(&pieces[2], 0, (int64_t[]){0})};
    struct exchange_place places[] = {
        {.name = "h", .rank = 1, .shape = {3}}, {.name = "b", .rank = 2, .shape = {1, 1}}, {.name = "f"}};
    assert_ok(&fixture->context, exchange_read(&folder, arrays, places, 3));
    assert_true(half[0] == 1.0f && half[1] == -0x1p-24f && half[2] == 65504.0f);
    assert_true(brain[0] == 3.140625f && single[0] == -3.14159274f);
    exchange_close(&folder);
}

static const struct {
    const char *header;
    size_t data;
    const char *message;
} broken[] = {
    {"[]", 0, "no JSON object"},
    {"{", 0, "no JSON: "},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[2,4]}}",
     4, "duplicate"},
    {"{\"a\":{\"dtype\":\"F7\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "tensor a: unknown dtype \"F7\""},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "tensor a: has no dtype"},
    {"{\"a\":3}", 0, "tensor a: has no dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "tensor a: a hole of 1 bytes before it"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[1,3]}}",
     3, "tensor b: an overlap of 1 bytes before it"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 5, "3 bytes too many behind the last tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "[0, 2] are outside of the 1 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-1,1]}}", 2, "are outside of the 2 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,0]}}", 2, "are outside of the 2 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1e300]}}", 2, "expected data_offsets [BEGIN, END]"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, "expected data_offsets [BEGIN, END]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "8 bytes by its shape, but 4"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "no shape of a tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "no shape of a tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "at most 8 dimensions"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "12 bits are no whole bytes"},
    {"{\"__metadata__\":{\"format\":7}}", 0, "__metadata__: format is no text"},
    {"{\"__metadata__\":[]}", 0, "__metadata__: expected texts by name"},
};

static void test_broken_headers(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct exchange_folder folder;
        write_file(fixture, SINGLE, broken[i].header, broken[i].data);
        assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, broken[i].message);
        exchange_close(&folder);
    }
}

static void test_broken_lengths(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        unsigned char bytes[16];
        size_t count;
        const char *message;
    } files[] = {
        {{2, 0, 0}, 3, "3 bytes are too few"},
        {{0}, 8, "no JSON object"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "18446744073709551615 bytes, in a file of 10"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "3 bytes, in a file of 10"},
        {{1, 225, 245, 5, 0, 0, 0, 0, '{', '}'}, 10, "100000001 bytes, in a file of 10"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct exchange_folder folder;
        write_bytes(fixture, SINGLE, files[i].bytes, files[i].count);
        assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, files[i].message);
        exchange_close(&folder);
    }
    /* A header at the limit is in a file that has it; one beyond is refused however large the file. */
    assert_int_equal(truncate(path_of(fixture, SINGLE), 200000000), 0);
    struct exchange_folder folder;
    assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, "100000001 bytes, in a file of 2");
    exchange_close(&folder);
}

#define ONE(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"

static void test_shards(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *map;
        const char *message; /* NULL: sound */
    } indices[] = {
        {"{\"weight_map\":{\"a\":\"x\",\"b\":\"y\"}}", NULL},
        {"{\"weight_map\":{\"a\":\"x\",\"b\":\"../y\"}}", "b: expected the plain name of a file"},
        {"{\"weight_map\":{\"a\":\"x\",\"b\":7}}", "b: expected the plain name of a file"},
        {"{\"weight_map\":{\"a\":\"x\",\"b\":\"z\"}}", "z: No such file"},
        {"{\"weight_map\":{\"a\":\"x\",\"b\":\"y\",\"c\":\"y\"}}", "y: has no tensor c"},
        {"{\"weight_map\":{\"a\":\"x\",\"c\":\"y\"}}", "y: tensor b: not there by"},
        {"{\"weight_map\":{\"a\":\"x\",\"b\":\"y\",\"a2\":\"x2\"}}", "tensor a: in x and in x2"},
        {"{\"weight_map\":[]}", "expected a weight_map"},
        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "duplicate"},
    };
    write_file(fixture, "x", ONE("a"), 2);
    write_file(fixture, "x2", ONE("a"), 2);
    write_file(fixture, "y", ONE("b"), 2);
    for (size_t i = 0; i < sizeof indices / sizeof *indices; i++) {
        struct exchange_folder folder;
        write_bytes(fixture, INDEX, indices[i].map, strlen(indices[i].map));
        if (indices[i].message)
            assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, indices[i].message);
        else
            assert_ok(&fixture->context, open_folder(fixture, &folder));
        exchange_close(&folder);
    }
}

static void test_what_is_there(void **state)
{
    struct fixture *fixture = *state;
    struct exchange_folder folder;
    assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, "neither model.safetensors nor");
    exchange_close(&folder);
    write_bytes(fixture, "pytorch_model.bin", "", 0);
    assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, "convert it to safetensors");
    exchange_close(&folder);
    write_bytes(fixture, "adapter_config.json", "", 0);
    assert_fails(&fixture->context, open_folder(fixture, &folder), STATUS_FILE, "holds an adapter");
    exchange_close(&folder);
}

/* -- Written and read -- */

enum { ROWS = 70, COLUMNS = 45, FUSED = 3 * ROWS };

static void boxes_write(struct fixture *fixture, const struct exchange_place *places, float (*values)[ROWS * COLUMNS],
                        enum exchange_type type, int64_t shard_bytes)
{
    struct state_piece pieces[3];
    struct state_array arrays[3];
    for (int i = 0; i < 3; i++) {
        pieces[i] = (struct state_piece){.box = {.extent = {ROWS, COLUMNS}}, .data = values[i]};
        arrays[i] = array_of(&pieces[i], 2, (int64_t[]){ROWS, COLUMNS});
    }
    assert_ok(&fixture->context,
              exchange_write(&fixture->context, fixture->mesh, fixture->folder, type, shard_bytes, arrays, places, 3));
}

/* Every box of the arrays has the values that it should, whichever way they lie in the file. */
static void boxes_check(struct fixture *fixture, const struct exchange_place *places, float (*values)[ROWS * COLUMNS])
{
    static const int64_t cuts[][4] = {{0, 0, ROWS, COLUMNS}, {3, 0, 20, COLUMNS}, {0, 5, ROWS, 11},
                                      {69, 44, 1, 1},        {10, 20, 30, 25},    {4, 4, 0, 3}};
    struct exchange_folder folder;
    assert_ok(&fixture->context, open_folder(fixture, &folder));
    for (int i = 0; i < 3; i++)
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            static float read[ROWS * COLUMNS];
            const int64_t *cut = cuts[c];
            struct state_piece piece = {.box = {.offset = {cut[0], cut[1]}, .extent = {cut[2], cut[3]}}, .data = read};
            struct state_array array = array_of(&piece, 2, (int64_t[]){ROWS, COLUMNS});
            assert_ok(&fixture->context, exchange_read(&folder, &array, &places[i], 1));
            for (int64_t r = 0; r < cut[2]; r++)
                for (int64_t k = 0; k < cut[3]; k++)
                    if (read[r * cut[3] + k] != values[i][(cut[0] + r) * COLUMNS + cut[1] + k])
                        fail_msg("array %d, cut %zu: row %lld, column %lld", i, c, (long long)r, (long long)k);
        }
    exchange_close(&folder);
}

static void test_slices(void **state)
{
    struct fixture *fixture = *state;
    static float values[3][ROWS * COLUMNS];
    static const struct exchange_place layouts[][3] = {
        {{"a", 2, {ROWS, COLUMNS}, false, 0}, {"b", 2, {ROWS, COLUMNS}, false, 0}, {"c", 2, {ROWS, COLUMNS}, false, 0}},
        {{"a", 2, {COLUMNS, ROWS}, true, 0},
         {"b", 2, {COLUMNS, ROWS}, true, 0},
         {"c", 3, {1, ROWS, COLUMNS}, false, 0}},
        {{"f", 2, {FUSED, COLUMNS}, false, 0},
         {"f", 2, {FUSED, COLUMNS}, false, ROWS},
         {"f", 2, {FUSED, COLUMNS}, false, 2 * ROWS}},
        {{"f", 2, {COLUMNS, FUSED}, true, 0},
         {"f", 2, {COLUMNS, FUSED}, true, ROWS},
         {"f", 2, {COLUMNS, FUSED}, true, 2 * ROWS}},
    };
    for (int i = 0; i < 3; i++)
        fill_random(values[i], ROWS * COLUMNS, i == 0 ? "a" : i == 1 ? "b" : "c");
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        clean(fixture);
        boxes_write(fixture, layouts[i], values, EXCHANGE_F32, i == 0 ? 2 * sizeof values[0] : INT64_MAX);
        assert_int_equal(access(path_of(fixture, i == 0 ? "model-00002-of-00002.safetensors" : SINGLE), F_OK), 0);
        boxes_check(fixture, layouts[i], values);
    }
    for (int i = 0; i < 3; i++)
        for (int e = 0; e < ROWS * COLUMNS; e++)
            values[i][e] = bf16_to_float(bf16_from_float(values[i][e]));
    clean(fixture);
    boxes_write(fixture, layouts[3], values, EXCHANGE_BF16, INT64_MAX);
    boxes_check(fixture, layouts[3], values);
}

/* Where a fused tensor's parts lie, by value: rows of the first array are the first columns of each line. */
static void test_transposed_order(void **state)
{
    struct fixture *fixture = *state;
    float values[2][6] = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}};
    static const float expected[12] = {1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12};
    struct state_piece pieces[2] = {{.box = {.extent = {2, 3}}, .data = values[0]},
                                    {.box = {.extent = {2, 3}}, .data = values[1]}};
    struct state_array arrays[2] = {array_of(&pieces[0], 2, (int64_t[]){2, 3}),
                                    array_of(&pieces[1], 2, (int64_t[]){2, 3})};
    struct exchange_place places[2] = {{"f", 2, {3, 4}, true, 0}, {"f", 2, {3, 4}, true, 2}};
    assert_ok(&fixture->context, exchange_write(&fixture->context, fixture->mesh, fixture->folder, EXCHANGE_F32,
                                                INT64_MAX, arrays, places, 2));
    FILE *file = fopen(path_of(fixture, SINGLE), "rb");
    float data[12];
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)sizeof data, SEEK_END), 0);
    assert_int_equal(fread(data, 1, sizeof data, file), sizeof data);
    assert_int_equal(ftell(file) % 8, 0);
    fclose(file);
    assert_memory_equal(data, expected, sizeof data);
}

static void test_wrong_places(void **state)
{
    struct fixture *fixture = *state;
    struct exchange_folder folder;
    float value[2];
    struct state_piece piece = {.box = {.extent = {2}}, .data = value};
    struct state_array array = array_of(&piece, 1, (int64_t[]){2});
    struct exchange_place missing = {.name = "b", .rank = 1, .shape = {2}};
    struct exchange_place shape = {.name = "a", .rank = 2, .shape = {1, 2}};
    struct exchange_place type = {.name = "a", .rank = 1, .shape = {2}};
    write_file(fixture, SINGLE, ONE("a"), 2);
    assert_ok(&fixture->context, open_folder(fixture, &folder));
    assert_fails(&fixture->context, exchange_read(&folder, &array, &missing, 1), STATUS_FILE, "has no tensor b");
    assert_fails(&fixture->context, exchange_read(&folder, &array, &shape, 1), STATUS_FILE,
                 "has shape [2], but config.json says [1, 2]");
    assert_fails(&fixture->context, exchange_read(&folder, &array, &type, 1), STATUS_FILE, "has dtype U8");
    exchange_close(&folder);
}

/* -- config.json -- */

/* What transformers 4 and timm 1 take where a key is missing. */
static void test_standards(void **state)
{
    struct fixture *fixture = *state;
#define LLAMA_SIZES                                                                                    \
    "\"vocab_size\": 100, \"hidden_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"intermediate_size\": 40"
#define GPT2_SIZES "\"vocab_size\": 100, \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 4"
    static const struct {
        const char *config, *parts[12];
    } rows[] = {
        {"{\"model_type\": \"llama\", " LLAMA_SIZES "}",
         {"heads: 4, kv_heads: 4, head_width: 6, hidden: 40,", "norm_epsilon: 9.9999999999999995e-07,",
          "rope_base: 10000,", "max_positions: 2048,", "tied_embeddings: false,", "attention: {bias: false}",
          "sequence_length: 1024}"}},
        {"{\"model_type\": \"llama\", \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, \"rope_theta\": 5e5, "
         "\"max_position_embeddings\": 512, \"tie_word_embeddings\": true, \"eos_token_id\": 99, " LLAMA_SIZES "}",
         {"kv_heads: 2, head_width: 6,", "norm_epsilon: 1.0000000000000001e-05,", "rope_base: 500000,",
          "max_positions: 512,", "tied_embeddings: true,", "sequence_length: 512}", "data: {eot: 99}"}},
        {"{\"model_type\": \"mistral\", \"sliding_window\": null, \"head_dim\": 8, \"eos_token_id\": 100, " LLAMA_SIZES
         "}",
         {"head_width: 8,", "bias: false"}},
        {"{\"model_type\": \"qwen2\", \"sliding_window\": 4096, \"use_sliding_window\": false, \"rope_parameters\": "
         "{\"rope_type\": \"default\", \"rope_theta\": 1e6, \"partial_rotary_factor\": 1.0}, " LLAMA_SIZES "}",
         {"rope_base: 1000000,", "tied_embeddings: false,", "attention: {bias: true}"}},
        {"{\"model_type\": \"gpt2\", " GPT2_SIZES "}",
         {"heads: 4, hidden: 96, mlp: gelu, norm: layer, norm_epsilon: 1.0000000000000001e-05, positions: learned, "
          "max_positions: 1024, bias: true, tied_embeddings: true}"}},
        {"{\"model_type\": \"gpt2\", \"n_inner\": 50, \"activation_function\": \"gelu\", \"layer_norm_epsilon\": 1e-6, "
         "\"n_positions\": 64, \"tie_word_embeddings\": false, " GPT2_SIZES "}",
         {"hidden: 50, mlp: gelu_erf, norm: layer, norm_epsilon: 9.9999999999999995e-07,",
          "max_positions: 64, bias: true, tied_embeddings: false}", "sequence_length: 64}"}},
        {"{\"architecture\": \"vit_small_patch16_224.augreg_in21k\"}",
         {"image: {size: 224, channels: 3, patch: 16, classes: 1000}, pooling: class, pooling_norm: before, width: "
          "384, "
          "layers: 12, heads: 6, hidden: 1536}"}},
        {"{\"architecture\": \"vit_base_patch8_224\", \"num_classes\": 7, \"global_pool\": \"avg\", \"model_args\": "
         "{\"class_token\": false, \"in_chans\": 1, \"img_size\": [32, 32], \"mlp_ratio\": 2.5}}",
         {"image: {size: 32, channels: 1, patch: 8, classes: 7}, pooling: mean, pooling_norm: after, width: 768, "
          "layers: 12, "
          "heads: 12, hidden: 1920}"}},
        {"{\"architecture\": \"vit_tiny_patch16_224\", \"global_pool\": \"avg\", \"model_args\": {\"class_token\": "
         "false, "
         "\"fc_norm\": false}}",
         {"pooling: mean, pooling_norm: before, width: 192,"}},
        {"{\"architecture\": \"resnet34.a1_in1k\", \"num_classes\": 10, \"pretrained_cfg\": {\"input_size\": [1, 64, "
         "64]}}",
         {"image: {size: 64, channels: 1, classes: 10}, width: 64, depth_preset: 34,", "stem: imagenet}"}},
    };
    struct exchange_model *model = calloc(1, sizeof *model);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_bytes(fixture, "config.json", rows[i].config, strlen(rows[i].config));
        assert_ok(&fixture->context, exchange_read_config(&fixture->context, fixture->folder, model));
        for (int p = 0; rows[i].parts[p]; p++)
            if (!strstr(model->settings, rows[i].parts[p]))
                fail_msg("%s: %s lacks \"%s\"", rows[i].config, model->settings, rows[i].parts[p]);
        assert_int_equal(strstr(model->settings, "eot") != NULL, i == 1);
    }
    static const char *const refused[][2] = {
        {"{\"model_type\": \"mistral\", \"sliding_window\": 4096, " LLAMA_SIZES "}", "sliding_window: expected null"},
        {"{\"model_type\": \"llama\", \"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": "
         "0.5}, " LLAMA_SIZES "}",
         "partial_rotary_factor: expected 1.0"},
        {"{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}, " LLAMA_SIZES "}",
         "rope_scaling: expected rope_type default"},
        {"{\"model_type\": \"gpt2\", \"scale_attn_weights\": false, " GPT2_SIZES "}",
         "scale_attn_weights: expected true"},
        {"{\"architecture\": \"vit_tiny_patch16_224\", \"model_args\": {\"fc_norm\": true}}",
         "fc_norm: expected false"},
        {"{\"architecture\": \"vit_tiny_patch16_224\", \"model_args\": {\"class_token\": false}}",
         "class_token: expected true"},
        {"{\"architecture\": \"resnet18\", \"stem\": \"deep\"}", "stem: expected imagenet or small"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_bytes(fixture, "config.json", refused[i][0], strlen(refused[i][0]));
        assert_fails(&fixture->context, exchange_read_config(&fixture->context, fixture->folder, model), STATUS_FILE,
                     refused[i][1]);
    }
    free(model);
}

static void read_text(const struct fixture *fixture, const char *name, char *text, size_t size)
{
    FILE *file = fopen(path_of(fixture, name), "r");
    assert_non_null(file);
    size_t count = fread(text, 1, size - 1, file);
    text[count] = '\0';
    fclose(file);
}

/* What others read of a model, key by key. */
static void test_cards(void **state)
{
    struct fixture *fixture = *state;
    char text[8192];
    struct model_config llama = {.family = FAMILY_DECODER,
                                 .vocabulary = 100,
                                 .width = 24,
                                 .layers = 2,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_width = 6,
                                 .hidden = 40,
                                 .max_positions = 64,
                                 .norm_epsilon = 1e-5,
                                 .rope_base = 500000.0,
                                 .mlp = MLP_SWIGLU,
                                 .norm = NORM_RMS,
                                 .positions = POSITIONS_ROPE};
    struct model_config gpt2 = llama;
    gpt2.mlp = MLP_GELU_ERF;
    gpt2.tied_embeddings = true;
    struct model_config vit = {.family = FAMILY_VIT,
                               .width = 24,
                               .layers = 2,
                               .heads = 4,
                               .hidden = 70,
                               .pooling = POOLING_MEAN,
                               .pooling_norm = POOLING_NORM_AFTER,
                               .image = {.size = 32, .channels = 1, .patch = 8, .classes = 3}};
    const struct {
        struct exchange_card card;
        const char *parts[16];
    } rows[] = {
        {{.family = EXCHANGE_LLAMA, .model = &llama, .length = 128, .end = 7, .source = "r", .facts = ""},
         {"\"model_type\": \"llama\"", "\"num_key_value_heads\": 2", "\"head_dim\": 6", "\"rope_theta\": 500000.0",
          "\"max_position_embeddings\": 128", "\"tie_word_embeddings\": false", "\"eos_token_id\": 7",
          "\"torch_dtype\": \"float32\"", "\"rms_norm_eps\": 1.0000000000000001e-5", "\"attention_bias\": false"}},
        {{.family = EXCHANGE_QWEN2,
          .model = &llama,
          .length = 32,
          .end = -1,
          .source = "r",
          .facts = "",
          .type = EXCHANGE_BF16},
         {"\"model_type\": \"qwen2\"", "\"max_position_embeddings\": 64", "\"eos_token_id\": null",
          "\"torch_dtype\": \"bfloat16\"", "\"use_sliding_window\": false"}},
        {{.family = EXCHANGE_GPT2, .model = &gpt2, .length = 32, .end = -1, .source = "r", .facts = ""},
         {"\"model_type\": \"gpt2\"", "\"activation_function\": \"gelu\"", "\"n_inner\": 40", "\"n_positions\": 64",
          "\"tie_word_embeddings\": true", "\"layer_norm_epsilon\": 1.0000000000000001e-5"}},
        {{.family = EXCHANGE_VIT,
          .model = &vit,
          .source = "r",
          .facts = "{\"mean\": [0.5], \"deviation\": [0.25], \"classes\": 3}"},
         {"\"num_classes\": 3", "\"img_size\": 32", "\"patch_size\": 8", "\"in_chans\": 1", "\"class_token\": false",
          "\"fc_norm\": true", "\"global_pool\": \"avg\""}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_ok(&fixture->context, exchange_write_config(&fixture->context, fixture->folder, &rows[i].card));
        read_text(fixture, "config.json", text, sizeof text);
        for (int p = 0; rows[i].parts[p]; p++)
            if (!strstr(text, rows[i].parts[p]))
                fail_msg("%s lacks %s", text, rows[i].parts[p]);
    }
    gpt2.mlp = MLP_GELU;
    assert_ok(&fixture->context, exchange_write_config(&fixture->context, fixture->folder, &rows[2].card));
    read_text(fixture, "config.json", text, sizeof text);
    assert_non_null(strstr(text, "\"activation_function\": \"gelu_new\""));
    /* timm takes the whole part of the width times the ratio, and 11 times 15 / 11 is a little less than 15. */
    vit.width = 11;
    for (int64_t hidden = 1; hidden <= 200; hidden++) {
        vit.hidden = hidden;
        assert_ok(&fixture->context, exchange_write_config(&fixture->context, fixture->folder, &rows[3].card));
        read_text(fixture, "config.json", text, sizeof text);
        const char *ratio = strstr(text, "\"mlp_ratio\": ");
        assert_non_null(ratio);
        assert_int_equal((int64_t)(11.0 * strtod(ratio + strlen("\"mlp_ratio\": "), NULL)), hidden);
    }
}

/* Of tensors that are longer than what is looked at first the last bit counts, too. */
static void test_same(void **state)
{
    enum { COUNT = 1 << 21 };
    struct fixture *fixture = *state;
    float *values = calloc(2 * COUNT, sizeof *values);
    struct state_piece pieces[2] = {{.box = {.extent = {COUNT}}, .data = values},
                                    {.box = {.extent = {COUNT}}, .data = values + COUNT}};
    struct state_array arrays[2] = {array_of(&pieces[0], 1, (int64_t[]){COUNT}),
                                    array_of(&pieces[1], 1, (int64_t[]){COUNT})};
    struct exchange_place places[2] = {{.name = "a", .rank = 1, .shape = {COUNT}},
                                       {.name = "b", .rank = 1, .shape = {COUNT}}};
    for (int differs = 0; differs < 2; differs++) {
        struct exchange_folder folder;
        bool same;
        values[2 * COUNT - 1] = (float)differs;
        assert_ok(&fixture->context, exchange_write(&fixture->context, fixture->mesh, fixture->folder, EXCHANGE_F32,
                                                    INT64_MAX, arrays, places, 2));
        assert_ok(&fixture->context, open_folder(fixture, &folder));
        assert_ok(&fixture->context,
                  exchange_same(&folder, exchange_find(&folder, "a"), exchange_find(&folder, "b"), &same));
        assert_int_equal(same, !differs);
        exchange_close(&folder);
    }
    free(values);
}

/* The index says how many bytes all shards have; data begin at a multiple of 8 bytes, whatever the names' lengths. */
static void test_written_shards(void **state)
{
    struct fixture *fixture = *state;
    float values[6] = {1, 2, 3, 4, 5, 6};
    struct state_piece pieces[3];
    struct state_array arrays[3];
    struct exchange_place places[3];
    char text[4096];
    for (int i = 0; i < 3; i++) {
        pieces[i] = (struct state_piece){.box = {.extent = {2}}, .data = values + 2 * i};
        arrays[i] = array_of(&pieces[i], 1, (int64_t[]){2});
        places[i] = (struct exchange_place){.rank = 1, .shape = {2}};
        snprintf(places[i].name, sizeof places[i].name, "%.*s", i + 1, "abc");
    }
    /* Two of 8 bytes fit into 16, three do not. */
    assert_ok(&fixture->context,
              exchange_write(&fixture->context, fixture->mesh, fixture->folder, EXCHANGE_F32, 16, arrays, places, 3));
    read_text(fixture, "model.safetensors.index.json", text, sizeof text);
    assert_non_null(strstr(text, "\"total_size\": 24"));
    assert_non_null(strstr(text, "\"ab\": \"model-00001-of-00002.safetensors\""));
    assert_non_null(strstr(text, "\"abc\": \"model-00002-of-00002.safetensors\""));
    for (int count = 1; count <= 3; count++) {
        uint64_t length = 0;
        assert_ok(&fixture->context, exchange_write(&fixture->context, fixture->mesh, fixture->folder, EXCHANGE_F32,
                                                    INT64_MAX, arrays, places, count));
        FILE *file = fopen(path_of(fixture, SINGLE), "rb");
        assert_int_equal(fread(&length, sizeof length, 1, file), 1);
        fclose(file);
        assert_true(length > 0 && length % 8 == 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_create, fixture_destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_literal_bytes),
        TEST(test_broken_headers),
        TEST(test_broken_lengths),
        TEST(test_shards),
        TEST(test_what_is_there),
        TEST(test_slices),
        TEST(test_transposed_order),
        TEST(test_wrong_places),
        TEST(test_standards),
        TEST(test_cards),
        TEST(test_same),
        TEST(test_written_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
