/* Models as other programs keep them: folders with safetensors, as Hugging Face, timm and torchvision name what is in
 * them (io/README.md, Exchange). Every rank reads and writes its own slices; no rank holds the model. */
#ifndef CAIRN_IO_EXCHANGE_H
#define CAIRN_IO_EXCHANGE_H

#include "dist/mesh/mesh.h"
#include "src/tensor/state.h"

enum { EXCHANGE_NAME = 160, EXCHANGE_RANK = 8, EXCHANGE_FILE = 256, EXCHANGE_PATH = 1024 };

enum exchange_type { EXCHANGE_F32, EXCHANGE_F16, EXCHANGE_BF16, EXCHANGE_OTHER };

/* A tensor of a file: row-major, little-endian. */
struct exchange_tensor {
    char name[EXCHANGE_NAME];
    enum exchange_type type;
    char type_name[16]; /* as the file has it */
    int rank;
    int64_t shape[EXCHANGE_RANK];
    int file;      /* which of the folder's */
    int64_t begin; /* its first byte in that */
    int64_t bytes;
};

struct exchange_folder {
    struct context *context;
    char path[EXCHANGE_PATH];
    struct exchange_tensor *tensors; /* by their names */
    int64_t count, room;
    char (*files)[EXCHANGE_FILE];
    int *descriptors; /* of files that this rank has read from; else -1 */
    int file_count;
};

/* -- One file -- */

/* Appends the tensors of a header, `length` bytes of JSON behind the file's first 8, to the folder; the file has
 * `size` bytes in all. FILE error that names file and tensor for everything that breaks the format. Local. */
enum status exchange_parse(struct exchange_folder *folder, int file, const char *header, int64_t length,
                           int64_t size) MUST_USE;

/* -- A folder -- */

/* Finds model.safetensors, or the shards of model.safetensors.index.json: rank 0 reads headers, all ranks know them.
 * FILE error for what is missing, damaged, or named twice. To be closed whatever comes back. Collective; agreed. */
enum status exchange_open(struct context *context, struct mesh *mesh, const char *path,
                          struct exchange_folder *folder) MUST_USE;
void exchange_close(struct exchange_folder *folder);

/* NULL if there is none. */
const struct exchange_tensor *exchange_find(const struct exchange_folder *folder, const char *name);

/* -- Places: where an array of ours stands in the tensors of others -- */

/* Both are seen as matrices of shape[0] rows. The array is a range of rows of the tensor, or of the tensor turned
 * around. */
struct exchange_place {
    char name[EXCHANGE_NAME];
    int rank;
    int64_t shape[EXCHANGE_RANK];
    bool transposed; /* the tensor has rank 2, and columns where we have rows */
    int64_t row;     /* of the tensor (of its columns if transposed) where the array begins */
};

/* Reads this rank's pieces of arrays. FILE error if a tensor is missing, of a type that is no float, or of another
 * shape. Local. */
enum status exchange_read(struct exchange_folder *folder, const struct state_array *arrays,
                          const struct exchange_place *places, int count) MUST_USE;

/* Whether two arrays of numbers of a tensor and another of the same shape are the same to the last bit. Local. */
enum status exchange_same(struct exchange_folder *folder, const struct exchange_tensor *a,
                          const struct exchange_tensor *b, bool *same) MUST_USE;

/* Writes arrays as F32 or BF16: one file, or shards of at most `shard_bytes` (but for a tensor that is larger) and
 * their index. Files have temporary names until all are complete. Collective over the team; agreed. */
enum status exchange_write(struct context *context, struct mesh *mesh, const char *path, enum exchange_type type,
                           int64_t shard_bytes, const struct state_array *arrays, const struct exchange_place *places,
                           int count) MUST_USE;

/* -- Models in the words of other programs -- */

enum exchange_family {
    EXCHANGE_LLAMA,  /* and Mistral: the names are ours */
    EXCHANGE_QWEN2,  /* the same with biases of queries, keys and values */
    EXCHANGE_GPT2,   /* matrices transposed, those of attention in one */
    EXCHANGE_VIT,    /* of timm: those of attention in one, patches by a convolution */
    EXCHANGE_RESNET, /* of torchvision and timm: the names are ours */
    EXCHANGE_CAIRN,  /* decoders that transformers computes by a file that goes along: the names are ours */
};

/* USAGE error with the settings in the way if it is none of them; `what` stands in front. Every decoder is one. */
enum status exchange_family_of(struct context *context, const char *what, const struct model_config *model,
                               enum exchange_family *family) MUST_USE;

/* Where a parameter or buffer of this name and shape stands; false: nowhere, as it can be done without. */
bool exchange_place_of(enum exchange_family family, const struct model_config *model, const char *name, int rank,
                       const int64_t *shape, struct exchange_place *place);

/* Whether a tensor of others says nothing: masks and frequencies that can be computed. */
bool exchange_needless(const char *name);

/* -- config.json -- */

enum { EXCHANGE_SETTINGS = 4096, EXCHANGE_FACTS = 32768 };

struct exchange_model {
    char settings[EXCHANGE_SETTINGS]; /* YAML for io/config */
    char facts[EXCHANGE_FACTS];       /* of images: normalisation and classes, JSON as in checkpoints; else empty */
};

/* Reads FOLDER/config.json. FILE error that names key and value for what is missing or not supported. Local. */
enum status exchange_read_config(struct context *context, const char *path, struct exchange_model *model) MUST_USE;

/* What others want to know of a model beside its tensors. */
struct exchange_card {
    enum exchange_family family;
    const struct model_config *model;
    enum exchange_type type;
    int64_t length;       /* tokens of a sequence */
    int64_t end;          /* token that ends a document; -1: none */
    const char *facts;    /* as in struct exchange_model */
    const char *settings; /* of EXCHANGE_CAIRN: those of the model, a JSON object */
    const char *source;
    int64_t step, tokens;
};

/* Writes config.json, generation_config.json of what generates, modeling_cairn.py if it takes that, and README.md.
 * Local; for one rank. */
enum status exchange_write_config(struct context *context, const char *path, const struct exchange_card *card) MUST_USE;

#endif
