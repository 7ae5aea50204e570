/* The settings of a run as plain data. io/config fills it from YAML and documents every key; the rest of the program
 * only reads it. `auto` is one less than the least that is allowed: 0 for the sizes of the mesh. */
#ifndef CAIRN_CORE_CONFIG_H
#define CAIRN_CORE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum { TEXT_LENGTH = 512, TEXT_LIST_ITEMS = 64 };

struct text_list {
    int count;
    char item[TEXT_LIST_ITEMS][TEXT_LENGTH];
};

enum { RESNET_EXTRA_BLOCKS = 17 };
enum model_family { FAMILY_DECODER, FAMILY_VIT, FAMILY_RESNET, FAMILIES };

/* Whether its rows are images with labels; otherwise they are sequences of tokens. */
static inline bool family_of_images(enum model_family family)
{
    return family == FAMILY_VIT || family == FAMILY_RESNET;
}
enum mlp_kind { MLP_SWIGLU, MLP_GELU, MLP_GELU_ERF };
enum norm_kind { NORM_RMS, NORM_LAYER };
enum position_kind { POSITIONS_ROPE, POSITIONS_LEARNED };
enum attention_kind { ATTENTION_CAUSAL, ATTENTION_INFINI, ATTENTION_FULL };
/* CONVOLUTION_TAPS: tokens, itself and those before it, that a token's convolution takes with the gated delta rule. */
enum { CONVOLUTION_TAPS = 4 };
enum memory_update { MEMORY_UPDATE_LINEAR, MEMORY_UPDATE_DELTA, MEMORY_UPDATE_GATED_DELTA };
enum residual_kind { RESIDUAL_PLAIN, RESIDUAL_LAUREL };
enum residual_scope { RESIDUAL_SUBLAYER, RESIDUAL_LAYER };
/* DEPTH_RECURSIVE is another way to write mor with routing none, and never left in a configuration. */
enum depth_kind { DEPTH_FIXED, DEPTH_MOD, DEPTH_MOR, DEPTH_RECURSIVE };
enum gate_kind { GATE_LINEAR, GATE_SIGMOID };
enum causal_router { CAUSAL_ROUTER_LOSS, CAUSAL_ROUTER_PREDICTOR };
enum sharing_kind { SHARING_CYCLE, SHARING_SEQUENCE, SHARING_MIDDLE_CYCLE, SHARING_MIDDLE_SEQUENCE };
enum routing_kind { ROUTING_EXPERT, ROUTING_TOKEN, ROUTING_NONE };
enum pooling_kind { POOLING_CLASS, POOLING_MEAN };
enum pooling_norm { POOLING_NORM_BEFORE, POOLING_NORM_AFTER };
enum resnet_depth { RESNET_18, RESNET_34, RESNET_50 };
enum stem_kind { STEM_SMALL, STEM_IMAGENET };
enum batch_statistics { STATISTICS_RANK, STATISTICS_GROUP };
enum cache_kind { CACHE_RECURSION, CACHE_SHARED };

struct model_config {
    enum model_family family;
    int64_t vocabulary; /* of images: their classes */
    struct {
        int64_t size; /* rows and columns */
        int64_t channels;
        int64_t patch;
        int64_t classes;
    } image;
    enum pooling_kind pooling;
    enum pooling_norm pooling_norm;
    enum resnet_depth depth_preset;
    int64_t extra_blocks; /* of the third stage */
    enum stem_kind stem;
    enum batch_statistics batch_statistics;
    int64_t width;
    int64_t layers;
    int64_t heads;
    int64_t kv_heads;
    int64_t head_width;
    int64_t hidden;
    enum mlp_kind mlp;
    enum norm_kind norm;
    double norm_epsilon;
    enum position_kind positions;
    double rope_base;
    int64_t max_positions;
    bool bias;
    bool parallel_block;
    bool tied_embeddings;
    int64_t classes;            /* of texts, in place of tokens that follow; 0: a language model */
    char adapters[TEXT_LENGTH]; /* inner width of each stored layer's adapter, one after the other; 0: none */
    struct {
        enum attention_kind kind;
        bool bias;
        int64_t segment;
        enum memory_update memory_update;
        bool readout_norm;
    } attention;
    struct {
        enum residual_kind kind;
        enum residual_scope scope;
        bool weights;
        int64_t rank;
        int64_t previous;
    } residual;
    struct {
        enum depth_kind kind;
        int64_t every;
        double capacity;
        enum gate_kind gate;
        enum causal_router causal_router;
        double router_loss;
        int64_t recursions;
        enum sharing_kind sharing;
        enum routing_kind routing;
        enum cache_kind cache;
        double alpha;
        int64_t lora_rank;
    } depth;
    struct {
        int64_t rank;
        double alpha;
        struct text_list targets; /* linear maps of the layers; empty: all */
    } lora;
};

/* Where on a pipeline the layers lie that recursions share. */
enum recursion_placement { RECURSIONS_RING, RECURSIONS_STAGE };

struct mesh_config {
    int64_t data;
    int64_t pipeline;
    int64_t context;
    int64_t tensor;
    int64_t virtual_stages; /* model chunks a pipeline rank holds; 1 is plain 1F1B */
    enum recursion_placement recursions;
};

enum compute_type { COMPUTE_FP32, COMPUTE_BF16 };
enum recompute_kind { RECOMPUTE_NONE, RECOMPUTE_ATTENTION, RECOMPUTE_LAYER };

struct compute_config {
    enum compute_type type;
    enum recompute_kind recompute;
    int64_t threads;      /* a rank's threads; 0 is auto: its share of the cores */
    int64_t bucket_bytes; /* of fp32 gradients that are reduced together */
};

enum data_format {
    DATA_AUTO,
    DATA_BYTES,
    DATA_NANOGPT,
    DATA_LLMC,
    DATA_MEGATRON,
    DATA_SAMPLES,
    DATA_IDX,
    DATA_CIFAR10,
    DATA_CIFAR100,
    DATA_FOLDER,
    DATA_LIST
};
enum data_sampling { SAMPLING_SHUFFLE, SAMPLING_STREAM };

enum crop_kind { CROP_NONE, CROP_PADDING, CROP_RESIZED };
enum flip_kind { FLIP_NONE, FLIP_RANDOM, FLIP_ALTERNATING };

/* What is done at random to images to train on. */
struct augment_config {
    enum crop_kind crop;
    int64_t crop_padding;
    bool crop_reflect;
    double scale_low, scale_high;
    double ratio_low, ratio_high;
    enum flip_kind flip;
    double rotation;
    double brightness, contrast, saturation, hue;
    int64_t cutout;
    double mixup, cutmix;
    double mixing;
};

struct data_config {
    struct text_list train;
    struct text_list weights;    /* positive numbers, one for each name of train; empty: it is one text */
    struct text_list validation; /* empty: the last part of the training text, validation_fraction of it */
    double validation_fraction;
    enum data_format format;
    char tokenizer[TEXT_LENGTH]; /* a tokenizer.json; empty: there is none */
    enum data_sampling sampling;
    int64_t eot; /* token that ends a document; -1: that of the format */
    uint64_t seed;
    bool skip_bad;     /* images that cannot be read are left out */
    int64_t threads;   /* that read images ahead of the step; -1 is auto */
    double crop_share; /* of an image that evaluation sees: the side of the centre */
    struct augment_config augment;
};

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_WSD };

enum optimizer_kind { OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZER_MUON, OPTIMIZER_SOAP };

enum polar_kind { POLAR_NEWTON_SCHULZ, POLAR_EXACT };

struct optimizer_config {
    enum optimizer_kind kind;
    double learning_rate;
    double beta1;
    double beta2;
    double epsilon;
    double momentum; /* of sgd and muon */
    bool nesterov;
    enum polar_kind polar;
    double adamw_learning_rate; /* of what AdamW steps beside muon and soap; 0 is learning_rate */
    double beta3;               /* of soap */
    int64_t every;
    int64_t max_side;
    int64_t matrix_ranks;      /* that step a matrix together; 0 is auto */
    int64_t matrix_border;     /* shorter side from which they do */
    struct text_list no_decay; /* patterns of parameters without weight decay */
    double weight_decay;
    double clip; /* largest global gradient norm; 0 is off */
    double gate_lr_factor;
    enum schedule_kind schedule;
    int64_t warmup_steps;
    double warmup_start;  /* share of learning_rate from which the warm-up rises */
    int64_t decay_steps;  /* of wsd: the last steps, in which the rate falls */
    double minimum_ratio; /* the rate at the end as a share of learning_rate */
};

struct training_config {
    int64_t steps;
    int64_t stop_at;         /* end after this step, to be resumed later; 0 is steps */
    int64_t batch;           /* sequences in a step, over all ranks */
    int64_t micro_batch;     /* sequences that pass through the model together, on one data rank */
    int64_t sequence_length; /* of images: their tokens */
    double average;          /* decay of the average of the parameters; 0 is off */
    double label_smoothing;  /* share of a target that goes to all classes alike */
    uint64_t seed;
    int64_t skip_limit;            /* skipped steps in a row that end the run */
    int64_t capacity_warmup_steps; /* in which routers' capacity falls from all tokens to the model's own; 0 is off */
    struct text_list freeze;       /* patterns of parameters that stay as they are */
    struct text_list train_only;   /* if there are any: all others stay as they are */
    int64_t gate_warning_steps;    /* when to look whether the memory gates have moved; 0 is never */
};

struct evaluation_config {
    int64_t every;         /* steps between evaluations; 0 is only at the end */
    int64_t batches;       /* batches an evaluation during training looks at; 0 is the whole validation set */
    int64_t final_batches; /* the same of the one at the end */
};

struct checkpoint_config {
    int64_t every;      /* steps between checkpoints; 0 is only at the end, -1 as often as it pays */
    int64_t keep_last;  /* how many of the newest to keep */
    int64_t keep_every; /* keep for good those whose step this divides; 0 is none */
    bool background;    /* written while training goes on */
};

struct watch_config {
    double hang_seconds;     /* without a move on any rank that end the job; 0 is off */
    double straggler_factor; /* times the work of its peers that make a rank slow; 0 is off */
    int64_t straggler_steps; /* that a look at the ranks' work covers */
    int64_t compare_every;   /* steps between comparisons of the parameters' copies; 0 is off */
    double spike_factor;     /* deviations above the median that make a loss a spike; 0 is off */
    int64_t spike_window;    /* losses that the median is taken of */
    int64_t spike_steps;     /* that a spike lasts before the run goes back */
    int64_t spike_skip;      /* steps' data left out behind the spike */
    int64_t spike_limit;     /* times that the run goes back */
};

struct run_config {
    char folder[TEXT_LENGTH];
    int64_t log_every;
    bool tensorboard;
    char prompt[TEXT_LENGTH]; /* continued at the end of training; empty is off */
    int64_t prompt_tokens;
};

enum schedule_of_visits { VISITS_IN_TURN, VISITS_ASYNCHRONOUS };
enum mutation_kind { MUTATION_OF_PATH, MUTATION_OF_ACTIONS };

/* Systems of tasks that evolve (src/evolve). */
struct evolve_config {
    char tasks[TEXT_LENGTH]; /* file */
    char root[TEXT_LENGTH];  /* checkpoint; empty: random */
    int64_t iterations;
    int64_t generations;
    int64_t children;
    int64_t intervals;          /* of a child's training */
    int64_t samples;            /* images of an interval at most */
    int64_t validation_samples; /* looked at after an interval, at most; 0: all */
    enum schedule_of_visits schedule;
    enum mutation_kind mutation;
    bool adapters;
    double size_base, size_unit; /* of the score */
    double flops_base, flops_unit;
    struct text_list space; /* lists that replace those of the hyperparameters */
};

struct job_config {
    char time_limit[TEXT_LENGTH]; /* of this job, as text_to_time_limit reads it; empty: what the scheduler says */
    double mean_hours_between_failures; /* expected before any is seen */
};

struct config {
    struct model_config model;
    struct mesh_config mesh;
    struct compute_config compute;
    struct data_config data;
    struct optimizer_config optimizer;
    struct training_config training;
    struct evaluation_config evaluation;
    struct checkpoint_config checkpoint;
    struct watch_config watch;
    struct evolve_config evolve;
    struct run_config run;
    struct job_config job;
};

#endif
