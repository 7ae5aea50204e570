#include "io/checkpoint/layout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/hash.h"

#define FORMAT "cairn-checkpoint"

enum { REASON = 256, PAGE = 4096 }; /* of an error; of the file */

/* Keeps the first description: of the innermost function, of which only the system's own message is for people. */
static herr_t reason_take(unsigned index, const H5E_error2_t *error, void *to)
{
    char *reason = to;
    (void)index;
    if (reason[0] || !error->desc || !error->desc[0])
        return 0;
    static const char mark[] = "error message = '";
    const char *system = strstr(error->desc, mark);
    snprintf(reason, REASON, "%s", system ? system + strlen(mark) : error->desc);
    if (system)
        reason[strcspn(reason, "'")] = '\0';
    return 0;
}

enum status layout_fail(struct context *context, const char *path, const char *action)
{
    char reason[REASON] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, reason_take, reason);
    return context_fail(context, STATUS_FILE, "%s: cannot be %s: %s", path, action,
                        reason[0] ? reason : "HDF5 gives no reason");
}

void layout_quiet(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void layout_release(hid_t handle)
{
    if (handle <= 0)
        return;
    /* Every call of HDF5 forgets the errors of the one before. */
    hid_t errors = H5Eget_num(H5E_DEFAULT) > 0 ? H5Eget_current_stack() : -1;
    H5Idec_ref(handle);
    if (errors >= 0)
        H5Eset_current_stack(errors);
}

const char *layout_shape_text(int rank, const int64_t *shape, bool doubles, char text[LAYOUT_SHAPE])
{
    int length = snprintf(text, LAYOUT_SHAPE, "[");
    for (int i = 0; i < rank && i < TENSOR_RANK; i++)
        length += snprintf(text + length, (size_t)(LAYOUT_SHAPE - length), "%s%lld", i ? ", " : "",
                           (long long)(shape[i] / (doubles && i == rank - 1 ? 2 : 1)));
    snprintf(text + length, (size_t)(LAYOUT_SHAPE - length), doubles ? "] float64" : "]");
    return text;
}

/* -- Writing -- */

static bool attribute_write(hid_t object, const char *name, hid_t file_type, hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    layout_release(attribute);
    layout_release(space);
    return done;
}

static bool integer_write(hid_t object, const char *name, int64_t value)
{
    return attribute_write(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

static bool text_write(hid_t object, const char *name, const char *text)
{
    size_t length = strlen(text);
    hid_t type = H5Tcopy(H5T_C_S1);
    bool done = type >= 0 && H5Tset_size(type, length ? length : 1) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0 &&
                H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && attribute_write(object, name, type, type, text);
    layout_release(type);
    return done;
}

/* Files with the same contents are the same bytes: objects know no time of their own. */
static hid_t group_create(hid_t file, const char *name, unsigned order)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group = -1;
    if (H5Pset_obj_track_times(creation, 0) >= 0 && H5Pset_attr_creation_order(creation, order) >= 0)
        group = H5Gcreate2(file, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    layout_release(creation);
    return group;
}

static bool header_write(hid_t file, const struct checkpoint_header *header)
{
    hid_t group = group_create(file, "/progress", 0);
    bool done =
        group >= 0 && text_write(file, "format", FORMAT) && integer_write(file, "version", 1) &&
        text_write(file, "config", header->config) && integer_write(file, "step", header->step) &&
        integer_write(file, "tokens", header->tokens) && text_write(file, "created", header->created) &&
        text_write(file, "mesh", header->mesh) && text_write(file, "hash", HASH_NAME) &&
        integer_write(group, "sequences", header->sequences) && integer_write(group, "skipped", header->skipped) &&
        integer_write(group, "skipped_in_row", header->skipped_in_row) &&
        integer_write(group, "updates", header->updates) &&
        attribute_write(group, "loss_limit", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &header->loss_limit) &&
        integer_write(group, "seed", header->seed) && (!header->data[0] || text_write(group, "data", header->data));
    layout_release(group);
    return done;
}

static bool checksums_write(hid_t file, const struct state_array *datasets, int count, const uint64_t *hashes)
{
    hid_t group = group_create(file, "/checksums", H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    bool done = group >= 0;
    for (int i = 0; done && i < count; i++)
        done = attribute_write(group, datasets[i].name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &hashes[i]);
    layout_release(group);
    return done;
}

/* Where the elements are. */
struct placement {
    int64_t *offsets;
    int64_t begin;
    int64_t end;
    int64_t bytes;
};

/* The groups that a name leads through. */
static bool groups_create(hid_t file, const char *name)
{
    char group[STATE_NAME];
    bool done = true;
    for (const char *end = strchr(name + 1, '/'); done && end; end = strchr(end + 1, '/')) {
        snprintf(group, sizeof group, "%.*s", (int)(end - name), name);
        htri_t exists = H5Lexists(file, group, H5P_DEFAULT);
        hid_t made = exists == 0 ? group_create(file, group, 0) : -1;
        done = exists > 0 || made >= 0;
        layout_release(made);
    }
    return done;
}

static bool dataset_create(hid_t file, const struct state_array *dataset, hid_t creation, struct placement *placement,
                           int index)
{
    hsize_t shape[TENSOR_RANK];
    int64_t size = sizeof(float);
    for (int i = 0; i < dataset->rank; i++) {
        shape[i] = (hsize_t)dataset->shape[i];
        size *= dataset->shape[i];
    }
    if (dataset->doubles)
        shape[dataset->rank - 1] /= 2;
    hid_t space = H5Screate_simple(dataset->rank, shape, NULL);
    hid_t made = H5Dcreate2(file, dataset->name, dataset->doubles ? H5T_IEEE_F64LE : H5T_IEEE_F32LE, space, H5P_DEFAULT,
                            creation, H5P_DEFAULT);
    haddr_t offset = made >= 0 && size > 0 ? H5Dget_offset(made) : HADDR_UNDEF;
    bool done = made >= 0 && (size == 0 || offset != HADDR_UNDEF);
    if (done && size > 0) {
        int64_t at = (int64_t)offset;
        placement->begin = placement->bytes ? integer_min(placement->begin, at) : at;
        placement->end = integer_max(placement->end, at + size);
        placement->bytes += size;
        placement->offsets[index] = at;
    }
    layout_release(made);
    layout_release(space);
    return done;
}

static bool datasets_create(hid_t file, const struct state_array *datasets, int count, struct placement *placement)
{
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    bool done = H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
                H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
                H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0;
    for (int i = 0; done && i < count; i++)
        done = groups_create(file, datasets[i].name) && dataset_create(file, &datasets[i], creation, placement, i);
    layout_release(creation);
    return done;
}

int64_t layout_overhead(const struct checkpoint_header *header, int count)
{
    return 65536 + 2 * (int64_t)(strlen(header->config) + strlen(header->data)) + 1024 * (int64_t)count;
}

/* One try with this much room for metadata in front of the elements; `fits` says whether it was enough, so that the
 * elements follow each other without a gap. */
static bool layout_try(const char *path, const struct checkpoint_header *header, const struct state_array *datasets,
                       int count, const uint64_t *hashes, int64_t room, struct placement *placement, bool *fits)
{
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file = -1;
    if (H5Pset_userblock(creation, SEAL_SIZE) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) >= 0 && H5Pset_file_locking(access, 0, 1) >= 0 &&
        H5Pset_meta_block_size(access, (hsize_t)room) >= 0 && H5Pset_small_data_block_size(access, 0) >= 0)
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    bool done = file >= 0 && header_write(file, header) && checksums_write(file, datasets, count, hashes) &&
                datasets_create(file, datasets, count, placement) && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0;
    if (placement->bytes == 0)
        placement->begin = placement->end = SEAL_SIZE;
    *fits = placement->end - placement->begin == placement->bytes;
    if (!done)
        layout_release(file);
    else if (H5Fclose(file) < 0)
        done = false;
    layout_release(access);
    layout_release(creation);
    return done;
}

enum status layout_create(struct context *context, const char *path, const struct checkpoint_header *header,
                          const struct state_array *datasets, int count, const uint64_t *hashes, int64_t *offsets,
                          int64_t *begin, int64_t *end)
{
    /* The elements begin at a whole page. */
    int64_t room = integer_round_up(SEAL_SIZE + layout_overhead(header, count) - PAGE, PAGE) - SEAL_SIZE;
    for (int tries = 0; tries < 8; tries++, room = 2 * room + SEAL_SIZE) {
        struct placement placement = {.offsets = offsets};
        bool fits;
        if (!layout_try(path, header, datasets, count, hashes, room, &placement, &fits))
            return layout_fail(context, path, "created");
        *begin = placement.begin;
        *end = placement.end;
        if (fits)
            return STATUS_OK;
    }
    return context_fail(context, STATUS_INTERNAL, "%s: HDF5 scatters its metadata among the elements", path);
}

enum status layout_hashes(struct context *context, const char *path, const struct state_array *datasets, int count,
                          const uint64_t *hashes)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file = -1;
    if (H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) >= 0 && H5Pset_file_locking(access, 0, 1) >= 0)
        file = H5Fopen(path, H5F_ACC_RDWR, access);
    hid_t group = file >= 0 ? H5Gopen2(file, "/checksums", H5P_DEFAULT) : -1;
    bool done = group >= 0;
    for (int i = 0; done && i < count; i++) {
        hid_t attribute = H5Aopen(group, datasets[i].name, H5P_DEFAULT);
        done = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_UINT64, &hashes[i]) >= 0;
        layout_release(attribute);
    }
    enum status status = done ? STATUS_OK : layout_fail(context, path, "written");
    layout_release(group);
    layout_release(access);
    if (!done)
        layout_release(file);
    else if (H5Fclose(file) < 0)
        status = layout_fail(context, path, "written");
    return status;
}

/* -- Reading -- */

hid_t layout_open(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file = -1;
    if (H5Pset_file_locking(access, 0, 1) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    layout_release(access);
    return file;
}

static bool integer_read(hid_t object, const char *name, int64_t *value)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Aget_storage_size(attribute) == sizeof *value &&
                H5Aread(attribute, H5T_NATIVE_INT64, value) >= 0;
    layout_release(attribute);
    return done;
}

static bool real_read(hid_t object, const char *name, double *value)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Aget_storage_size(attribute) == sizeof *value &&
                H5Aread(attribute, H5T_NATIVE_DOUBLE, value) >= 0 && !isnan(*value);
    layout_release(attribute);
    return done;
}

/* Texts of fixed length that fit with a terminating zero. */
static bool text_read(hid_t object, const char *name, char *text, size_t size)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    bool done = type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                H5Tget_size(type) < size && H5Aget_storage_size(attribute) == H5Tget_size(type);
    memset(text, 0, size);
    done = done && H5Aread(attribute, type, text) >= 0;
    layout_release(type);
    layout_release(attribute);
    return done;
}

enum status layout_header(struct context *context, const char *path, struct checkpoint_header *header)
{
    enum status status = STATUS_OK;
    char format[32];
    int64_t version;
    memset(header, 0, sizeof *header);
    hid_t file = layout_open(path);
    hid_t group = file >= 0 ? H5Gopen2(file, "/progress", H5P_DEFAULT) : -1;
    if (group < 0 || !text_read(file, "format", format, sizeof format) || !integer_read(file, "version", &version) ||
        !text_read(file, "config", header->config, sizeof header->config) ||
        !integer_read(file, "step", &header->step) || !integer_read(file, "tokens", &header->tokens) ||
        !text_read(file, "created", header->created, sizeof header->created) ||
        !text_read(file, "mesh", header->mesh, sizeof header->mesh) ||
        !integer_read(group, "sequences", &header->sequences) || !integer_read(group, "skipped", &header->skipped) ||
        !integer_read(group, "skipped_in_row", &header->skipped_in_row) || !integer_read(group, "seed", &header->seed))
        status = layout_fail(context, path, "read as a checkpoint");
    else if (strcmp(format, FORMAT) != 0 || version != 1)
        status = context_fail(context, STATUS_FILE, "%s: \"%s\" version %lld instead of \"" FORMAT "\" version 1", path,
                              format, (long long)version);
    else {
        if (!integer_read(group, "updates", &header->updates))
            header->updates = header->step - header->skipped;
        if (!real_read(group, "loss_limit", &header->loss_limit))
            header->loss_limit = INFINITY;
        if (!text_read(group, "data", header->data, sizeof header->data))
            header->data[0] = '\0';
    }
    layout_release(group);
    layout_release(file);
    return status;
}

/* Rank and shape; false for what is not a dataset of 1 to TENSOR_RANK dimensions. */
static bool shape_read(hid_t dataset, bool doubles, int *rank, int64_t *shape)
{
    hsize_t size[H5S_MAX_RANK];
    hid_t space = H5Dget_space(dataset);
    *rank = space >= 0 ? H5Sget_simple_extent_dims(space, size, NULL) : -1;
    layout_release(space);
    for (int i = 0; i < *rank && i < TENSOR_RANK; i++)
        shape[i] = (int64_t)size[i] * (doubles && i == *rank - 1 ? 2 : 1);
    return *rank >= 1 && *rank <= TENSOR_RANK;
}

static bool entry_read(hid_t file, const struct seal *seal, struct layout_entry *entry)
{
    hid_t dataset = H5Dopen2(file, entry->name, H5P_DEFAULT);
    hid_t type = dataset >= 0 ? H5Dget_type(dataset) : -1;
    entry->doubles = type >= 0 && H5Tequal(type, H5T_IEEE_F64LE) > 0;
    bool done = type >= 0 && (entry->doubles || H5Tequal(type, H5T_IEEE_F32LE) > 0) &&
                shape_read(dataset, entry->doubles, &entry->rank, entry->shape);
    int64_t limit = seal->data_end - seal->data_begin;
    entry->count = 1;
    for (int i = 0; done && i < entry->rank; i++) {
        done = entry->shape[i] >= 0 && (entry->shape[i] == 0 || entry->count <= limit / entry->shape[i]);
        entry->count *= done ? entry->shape[i] : 0;
    }
    if (done && entry->count > 0) {
        haddr_t offset = H5Dget_offset(dataset);
        entry->offset = (int64_t)offset;
        done = offset != HADDR_UNDEF && entry->offset >= seal->data_begin &&
               entry->count * (int64_t)sizeof(float) <= seal->data_end - entry->offset;
    }
    layout_release(type);
    layout_release(dataset);
    return done;
}

struct entry_list {
    struct layout_entry *entries;
    int count;
    int space;
};

/* Called for each attribute of /checksums. */
static herr_t entry_add(hid_t group, const char *name, const H5A_info_t *info, void *to)
{
    struct entry_list *list = to;
    (void)info;
    if (list->count >= list->space || strlen(name) >= sizeof list->entries->name)
        return -1;
    struct layout_entry *entry = &list->entries[list->count++];
    memcpy(entry->name, name, strlen(name) + 1);
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Aget_storage_size(attribute) == sizeof entry->hash &&
                H5Aread(attribute, H5T_NATIVE_UINT64, &entry->hash) >= 0;
    layout_release(attribute);
    return done ? 0 : -1;
}

enum status layout_list(struct context *context, const char *path, const struct seal *seal,
                        struct layout_entry **entries, int *count)
{
    enum status status = STATUS_OK;
    struct entry_list list = {0};
    H5O_info_t info = {0};
    char hash[32];
    hid_t group = -1;
    int64_t bytes = 0;
    hid_t file = layout_open(path);
    if (file < 0 || (group = H5Gopen2(file, "/checksums", H5P_DEFAULT)) < 0 ||
        H5Oget_info2(group, &info, H5O_INFO_NUM_ATTRS) < 0 || info.num_attrs > (1 << 24)) {
        status = layout_fail(context, path, "read as a checkpoint");
        goto done;
    }
    if (!text_read(file, "hash", hash, sizeof hash) || strcmp(hash, HASH_NAME) != 0) {
        /* Not a damaged file, which a run would pass over and go on from an older one. */
        status = context_fail(context, STATUS_USAGE,
                              "%s: its hashes are not " HASH_NAME
                              ": go on with the cairn that wrote it, or start with --resume none",
                              path);
        goto done;
    }
    list.space = (int)info.num_attrs;
    list.entries = memory_allocate(context, (size_t)list.space * sizeof *list.entries, MEMORY_OTHER);
    if (!list.entries) {
        status = STATUS_MEMORY;
        goto done;
    }
    if (H5Aiterate2(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, entry_add, &list) < 0) {
        status = layout_fail(context, path, "read as a checkpoint");
        goto done;
    }
    for (int i = 0; i < list.count; i++) {
        if (!entry_read(file, seal, &list.entries[i])) {
            status = context_fail(context, STATUS_FILE, "%s: damaged: %s is not laid out as a checkpoint's dataset",
                                  path, list.entries[i].name);
            goto done;
        }
        bytes += list.entries[i].count * (int64_t)sizeof(float);
    }
    if (bytes != seal->data_end - seal->data_begin)
        status = context_fail(context, STATUS_FILE, "%s: damaged: bytes that no hash covers", path);
done:
    layout_release(group);
    layout_release(file);
    if (status != STATUS_OK) {
        memory_free(context, list.entries);
        list = (struct entry_list){0};
    }
    *entries = list.entries;
    *count = list.count;
    return status;
}

enum status layout_shapes(struct context *context, const char *path, const struct state_array *datasets, int count,
                          struct layout_entry *entries)
{
    hid_t file = layout_open(path);
    if (file < 0)
        return layout_fail(context, path, "opened");
    for (int i = 0; i < count; i++) {
        hid_t dataset = H5Dopen2(file, datasets[i].name, H5P_DEFAULT);
        entries[i].rank = -1;
        entries[i].doubles = datasets[i].doubles; /* HDF5 converts what files of others have */
        if (dataset >= 0)
            (void)shape_read(dataset, datasets[i].doubles, &entries[i].rank, entries[i].shape);
        layout_release(dataset);
    }
    layout_release(file);
    return STATUS_OK;
}
