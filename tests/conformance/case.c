#include "tests/conformance/case.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

enum { MOST_TENSORS = 4096 };

struct reading {
    struct context *context;
    struct conformance_case *test;
    enum status status;
};

static herr_t read_dataset(hid_t file, const char *name, const H5O_info_t *info, void *data)
{
    struct reading *reading = data;
    struct conformance_case *test = reading->test;
    if (info->type != H5O_TYPE_DATASET)
        return 0;
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    herr_t result = -1;
    if (test->count == MOST_TENSORS || rank < 0 || rank > CASE_RANK || strlen(name) + 2 > CASE_NAME) {
        reading->status = context_fail(reading->context, STATUS_FILE, "%s: not a dataset of a conformance case", name);
        goto done;
    }
    struct case_tensor *tensor = &test->tensors[test->count];
    *tensor = (struct case_tensor){.rank = rank, .count = H5Sget_simple_extent_npoints(space)};
    snprintf(tensor->name, sizeof tensor->name, "/%s", name);
    hsize_t shape[CASE_RANK] = {0};
    H5Sget_simple_extent_dims(space, shape, NULL);
    for (int i = 0; i < rank; i++)
        tensor->shape[i] = (int64_t)shape[i];
    tensor->values = memory_allocate(reading->context, (size_t)tensor->count * sizeof(double), MEMORY_OTHER);
    if (!tensor->values) {
        reading->status = STATUS_MEMORY;
        goto done;
    }
    test->count++;
    result = H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor->values);
    if (result < 0)
        reading->status = context_fail(reading->context, STATUS_FILE, "%s: cannot be read", name);
done:
    H5Sclose(space);
    H5Dclose(dataset);
    return result < 0 ? -1 : 0;
}

static bool read_number(hid_t object, const char *name, double *value)
{
    if (H5Aexists(object, name) <= 0)
        return false;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    bool good = H5Aread(attribute, H5T_NATIVE_DOUBLE, value) >= 0;
    H5Aclose(attribute);
    return good;
}

static char *read_text(struct context *context, hid_t object, const char *name)
{
    char *text = NULL;
    char *copy = NULL;
    if (H5Aexists(object, name) <= 0)
        return NULL;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    hid_t memory = H5Tcopy(H5T_C_S1);
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        if (H5Aread(attribute, memory, &text) >= 0 && text) {
            copy = memory_allocate(context, strlen(text) + 1, MEMORY_OTHER);
            if (copy)
                strcpy(copy, text);
            H5free_memory(text);
        }
    } else if (H5Tget_class(type) == H5T_STRING) {
        copy = memory_allocate(context, H5Tget_size(type) + 1, MEMORY_OTHER);
        if (copy && H5Aread(attribute, type, copy) < 0)
            copy[0] = '\0';
    }
    H5Tclose(memory);
    H5Tclose(type);
    H5Aclose(attribute);
    return copy;
}

/* A truth value, as 0 or 1. */
static bool read_truth(hid_t object, const char *name, bool *value)
{
    double number = 0.0;
    bool found = read_number(object, name, &number);
    *value = number != 0.0;
    return found;
}

static bool read_betas(hid_t group, struct optimizer_config *optimizer)
{
    return read_number(group, "beta1", &optimizer->beta1) && read_number(group, "beta2", &optimizer->beta2) &&
           read_number(group, "epsilon", &optimizer->epsilon);
}

static bool read_polar(struct context *context, hid_t group, enum polar_kind *polar)
{
    char *text = read_text(context, group, "polar");
    bool exact = text && strcmp(text, "exact") == 0;
    bool known = exact || (text && strcmp(text, "newton_schulz") == 0);
    *polar = exact ? POLAR_EXACT : POLAR_NEWTON_SCHULZ;
    memory_free(context, text);
    return known;
}

/* The settings that optimisers of this kind have beside those of all. */
static bool read_kind(struct context *context, hid_t group, const char *kind, struct optimizer_config *optimizer)
{
    if (!kind || strcmp(kind, "adamw") == 0) {
        optimizer->kind = OPTIMIZER_ADAMW;
        return read_betas(group, optimizer);
    }
    if (strcmp(kind, "soap") == 0) {
        double every = 0.0;
        double max_side = 0.0;
        bool found = read_betas(group, optimizer) && read_number(group, "beta3", &optimizer->beta3) &&
                     read_number(group, "every", &every) && read_number(group, "max_side", &max_side) &&
                     read_number(group, "adamw_lr", &optimizer->adamw_learning_rate);
        optimizer->kind = OPTIMIZER_SOAP;
        optimizer->every = (int64_t)every;
        optimizer->max_side = (int64_t)max_side;
        return found;
    }
    bool has_momentum =
        read_number(group, "momentum", &optimizer->momentum) && read_truth(group, "nesterov", &optimizer->nesterov);
    optimizer->kind = strcmp(kind, "muon") == 0 ? OPTIMIZER_MUON : OPTIMIZER_SGD;
    if (optimizer->kind == OPTIMIZER_MUON)
        return has_momentum && read_betas(group, optimizer) && read_polar(context, group, &optimizer->polar) &&
               read_number(group, "adamw_lr", &optimizer->adamw_learning_rate);
    return strcmp(kind, "sgd") == 0 && has_momentum;
}

static enum status read_optimizer(struct context *context, hid_t file, const char *path, struct conformance_case *test)
{
    if (H5Lexists(file, "optimizer", H5P_DEFAULT) <= 0)
        return STATUS_OK;
    double steps = 0.0;
    struct optimizer_config *optimizer = &test->optimizer;
    hid_t group = H5Oopen(file, "optimizer", H5P_DEFAULT);
    char *kind = read_text(context, group, "kind");
    test->has_optimizer = read_kind(context, group, kind, optimizer) &&
                          read_number(group, "lr", &optimizer->learning_rate) &&
                          read_number(group, "weight_decay", &optimizer->weight_decay) &&
                          read_number(group, "clip", &optimizer->clip) && read_number(group, "steps", &steps);
    read_number(group, "gate_lr_factor", &optimizer->gate_lr_factor);
    test->steps = (int64_t)steps;
    memory_free(context, kind);
    H5Oclose(group);
    if (!test->has_optimizer)
        return context_fail(context, STATUS_FILE, "%s: /optimizer lacks a setting, or is of a kind that is not known",
                            path);
    return STATUS_OK;
}

enum status case_read(struct context *context, const char *path, struct conformance_case *test)
{
    *test = (struct conformance_case){.optimizer = {.gate_lr_factor = 1.0, .schedule = SCHEDULE_CONSTANT}};
    enum status status;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return context_fail(context, STATUS_FILE, "%s: missing, or not an HDF5 file", path);
    char *format = read_text(context, file, "format");
    test->model = read_text(context, file, "model");
    read_number(file, "label_smoothing", &test->label_smoothing);
    test->tensors = memory_allocate(context, MOST_TENSORS * sizeof *test->tensors, MEMORY_OTHER);
    if (!format || strcmp(format, "cairn-conformance") != 0 || !test->model) {
        status = context_fail(context, STATUS_FILE, "%s: not a conformance case", path);
        goto done;
    }
    if (!test->tensors) {
        status = STATUS_MEMORY;
        goto done;
    }
    struct reading reading = {.context = context, .test = test, .status = STATUS_OK};
    if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_NATIVE, read_dataset, &reading, H5O_INFO_BASIC) < 0 &&
        reading.status == STATUS_OK)
        reading.status = context_fail(context, STATUS_FILE, "%s: cannot be read", path);
    TRY(reading.status);
    TRY(read_optimizer(context, file, path, test));
done:
    memory_free(context, format);
    H5Fclose(file);
    return status;
}

void case_destroy(struct context *context, struct conformance_case *test)
{
    for (int i = 0; i < test->count; i++)
        memory_free(context, test->tensors[i].values);
    memory_free(context, test->tensors);
    memory_free(context, test->model);
    *test = (struct conformance_case){0};
}

struct case_tensor *case_find(const struct conformance_case *test, const char *prefix, const char *name)
{
    char full[2 * CASE_NAME];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (int i = 0; i < test->count; i++)
        if (strcmp(test->tensors[i].name, full) == 0)
            return &test->tensors[i];
    return NULL;
}
