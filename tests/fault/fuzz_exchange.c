/* Any bytes as a folder with one file of safetensors: it is refused with its name, or every tensor of floats can be
 * read whole and none lies outside of the file. */
#include "io/exchange/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void read_all(struct exchange_folder *folder, int64_t size)
{
    for (int64_t i = 0; i < folder->count; i++) {
        const struct exchange_tensor *tensor = &folder->tensors[i];
        require(tensor->begin >= 8 && tensor->bytes >= 0 && tensor->bytes <= size - tensor->begin);
        if (tensor->type == EXCHANGE_OTHER || tensor->rank > 4)
            continue;
        struct exchange_place place = {.rank = tensor->rank};
        struct state_piece piece = {.box = {{0}, {0}}};
        struct state_array array = {.rank = tensor->rank, .piece_count = 1, .pieces = &piece};
        strcpy(place.name, tensor->name);
        memcpy(place.shape, tensor->shape, sizeof place.shape);
        for (int d = 0; d < tensor->rank; d++)
            array.shape[d] = piece.box.extent[d] = tensor->shape[d];
        piece.data = malloc((size_t)tensor->bytes * 2 + 1);
        require(piece.data && exchange_read(folder, &array, &place, 1) == STATUS_OK);
        free(piece.data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const struct mesh_config alone = {.data = 1, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
    char path[64];
    char name[] = "/dev/shm/fuzz_exchange_XXXXXX";
    struct context context;
    struct mesh *mesh = NULL;
    struct exchange_folder folder;
    require(mkdtemp(name) != NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    FILE *file = fopen(path, "wb");
    require(file && fwrite(bytes, 1, count, file) == count && fclose(file) == 0);
    context_create(&context);
    require(mesh_create_dry(&context, &alone, 0, &mesh) == STATUS_OK);
    if (exchange_open(&context, mesh, name, &folder) == STATUS_OK)
        read_all(&folder, (int64_t)count);
    else
        require(context.status == STATUS_FILE && strstr(context.text, name));
    exchange_close(&folder);
    mesh_destroy(&mesh);
    require(context.memory.bytes_total == 0);
    remove(path);
    rmdir(name);
    return 0;
}
