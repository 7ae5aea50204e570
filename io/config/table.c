#include <math.h>
#include <string.h>

#include "io/config/settings.h"

/* Bounds that only keep later arithmetic from overflowing; messages leave them out unless they were reached. */
#define COUNT_MAXIMUM 1e15
#define DIMENSION_MAXIMUM 2147483647.0

#define FIELD(member) .key = #member, .offset = offsetof(struct config, member)
#define INTEGER(member, low, high) FIELD(member), .type = SETTING_INTEGER, .minimum = (low), .maximum = (high)
#define REAL(member, low, high) FIELD(member), .type = SETTING_REAL, .minimum = (low), .maximum = (high)
/* The arithmetic of tensors takes these in single precision. */
#define SINGLE(member, low, high) REAL(member, low, high), .single = true
#define BOOLEAN(member) FIELD(member), .type = SETTING_BOOLEAN
#define WORD(member) FIELD(member), .type = SETTING_WORD
#define TEXT(member, low) FIELD(member), .type = SETTING_TEXT, .minimum = (low), .maximum = TEXT_LENGTH - 1
#define PATH(member, low) TEXT(member, low), .path = true
#define LIST(member) FIELD(member), .type = SETTING_LIST, .minimum = 1, .maximum = TEXT_LIST_ITEMS
#define PATHS(member) LIST(member), .path = true
#define SEED(member) FIELD(member), .type = SETTING_SEED
#define REQUIRED .default_kind = DEFAULT_REQUIRED
#define DERIVED .default_kind = DEFAULT_DERIVED, .standard
#define DEFAULT .standard
#define AUTOMATIC .automatic = true, .standard = "auto"
#define HELP .help
#define ONLY(bits) .families = (bits)
#define DECODER (1u << FAMILY_DECODER)
#define VIT (1u << FAMILY_VIT)
#define RESNET (1u << FAMILY_RESNET)
#define OF_VIT .standard_of[FAMILY_VIT]

/* clang-format off */
const struct setting setting_table[] = {
    {WORD(model.family), DEFAULT = "decoder", .words = {[FAMILY_DECODER] = "decoder", [FAMILY_VIT] = "vit", [FAMILY_RESNET] = "resnet"},
     HELP = "The kind of network: a causal language model, or a Vision Transformer or ResNet that classifies images."},
    {INTEGER(model.vocabulary, 1, DIMENSION_MAXIMUM), REQUIRED, ONLY(DECODER),
     HELP = "Number of different tokens; 256 for bytes."},
    {INTEGER(model.width, 1, DIMENSION_MAXIMUM), REQUIRED,
     HELP = "Width of the stream that runs through the layers; of a ResNet's first stage."},
    {INTEGER(model.layers, 1, 65536), REQUIRED, ONLY(DECODER | VIT),
     HELP = "Number of layers a token passes; with recursions, counted unrolled."},
    {INTEGER(model.heads, 1, 65536), REQUIRED, ONLY(DECODER | VIT),
     HELP = "Query heads of an attention layer."},
    {INTEGER(model.kv_heads, 1, 65536), DERIVED = "model.heads", ONLY(DECODER | VIT),
     HELP = "Key and value heads; must divide heads. Fewer than heads is grouped-query attention."},
    {INTEGER(model.head_width, 1, DIMENSION_MAXIMUM), DERIVED = "model.width / model.heads", ONLY(DECODER | VIT),
     HELP = "Width of a head; even with rope."},
    {INTEGER(model.hidden, 1, DIMENSION_MAXIMUM), REQUIRED, ONLY(DECODER | VIT),
     HELP = "Inner width of the MLP."},
    {WORD(model.mlp), DEFAULT = "swiglu", .words = {[MLP_SWIGLU] = "swiglu", [MLP_GELU] = "gelu", [MLP_GELU_ERF] = "gelu_erf"},
     OF_VIT = "gelu_erf", ONLY(DECODER | VIT),
     HELP = "The MLP: gated with SiLU (Llama), or plain with GELU by tanh (GPT-2) or by the error function (ViT)."},
    {WORD(model.norm), DEFAULT = "rms", .words = {[NORM_RMS] = "rms", [NORM_LAYER] = "layer"},
     OF_VIT = "layer", ONLY(DECODER | VIT),
     HELP = "Normalisation in front of attention, MLP and output."},
    {SINGLE(model.norm_epsilon, 0, 1), .above = true, DEFAULT = "1.0e-5",
     OF_VIT = "1.0e-6", ONLY(DECODER | VIT),
     HELP = "Added to the mean square before the root is taken."},
    {WORD(model.positions), DEFAULT = "rope", .words = {[POSITIONS_ROPE] = "rope", [POSITIONS_LEARNED] = "learned"},
     OF_VIT = "learned", ONLY(DECODER | VIT),
     HELP = "How a token knows its place: rotated queries and keys, or a learned vector added to the embedding."},
    {REAL(model.rope_base, 1, 1e30), DEFAULT = "10000.0", ONLY(DECODER),
     HELP = "Base of the rotation frequencies of rope."},
    {INTEGER(model.max_positions, 1, DIMENSION_MAXIMUM), DEFAULT = "1024", ONLY(DECODER | VIT),
     HELP = "Number of learned positions; a sequence cannot be longer. Without meaning for rope."},
    {BOOLEAN(model.bias), DEFAULT = "false",
     OF_VIT = "true", ONLY(DECODER | VIT),
     HELP = "Biases in every linear layer and layer norm (GPT-2 has them)."},
    {BOOLEAN(model.parallel_block), DEFAULT = "false", ONLY(DECODER | VIT),
     HELP = "Attention and MLP side by side behind one norm (PaLM)."},
    {BOOLEAN(model.tied_embeddings), DEFAULT = "false", ONLY(DECODER),
     HELP = "The output layer uses the embedding matrix."},
    {INTEGER(model.classes, 0, DIMENSION_MAXIMUM), DEFAULT = "0", ONLY(DECODER),
     HELP = "Labels that a text may have; 0: a language model."},
    {TEXT(model.adapters, 0), DEFAULT = "", ONLY(DECODER | VIT),
     HELP = "Inner widths of adapters in front of the layers, from the first, as \"0 16\"; 0, or none: no adapter."},

    {INTEGER(model.image.size, 1, 32768), REQUIRED, ONLY(VIT | RESNET),
     HELP = "Rows and columns of an image."},
    {INTEGER(model.image.channels, 1, 256), DEFAULT = "3", ONLY(VIT | RESNET),
     HELP = "Numbers of a pixel: 3 for colours, 1 for gray."},
    {INTEGER(model.image.patch, 1, 32768), REQUIRED, ONLY(VIT),
     HELP = "Rows and columns of a patch, which is a token; divides model.image.size."},
    {INTEGER(model.image.classes, 1, DIMENSION_MAXIMUM), REQUIRED, ONLY(VIT | RESNET),
     HELP = "Number of different labels."},
    {WORD(model.pooling), DEFAULT = "class", ONLY(VIT),
     .words = {[POOLING_CLASS] = "class", [POOLING_MEAN] = "mean"},
     HELP = "What the classifier sees: a token of its own in front of the patches, or the mean of the patches."},
    {WORD(model.pooling_norm), DEFAULT = "before", ONLY(VIT),
     .words = {[POOLING_NORM_BEFORE] = "before", [POOLING_NORM_AFTER] = "after"},
     HELP = "Whether the last norm comes before the mean is taken, or after it."},
    {WORD(model.depth_preset), DEFAULT = "18", ONLY(RESNET),
     .words = {[RESNET_18] = "18", [RESNET_34] = "34", [RESNET_50] = "50"},
     HELP = "Layers: basic blocks in 18 and 34, bottlenecks in 50."},
    {INTEGER(model.extra_blocks, 0, RESNET_EXTRA_BLOCKS), DEFAULT = "0", ONLY(RESNET),
     HELP = "Blocks of the third stage beyond those of model.depth_preset: 17 make ResNet-50 a ResNet-101."},
    {WORD(model.stem), DEFAULT = "small", ONLY(RESNET),
     .words = {[STEM_SMALL] = "small", [STEM_IMAGENET] = "imagenet"},
     HELP = "What comes before the blocks: a convolution of 3 x 3, or one of 7 x 7 and pooling, each with stride 2."},
    {WORD(model.batch_statistics), DEFAULT = "group", ONLY(RESNET),
     .words = {[STATISTICS_RANK] = "rank", [STATISTICS_GROUP] = "group"},
     HELP = "Images that batch normalisation takes mean and variance of: a micro-batch's on this rank, or on all data "
            "ranks, for the same model on any mesh."},

    {WORD(model.attention.kind), DEFAULT = "causal",
     .words = {[ATTENTION_CAUSAL] = "causal", [ATTENTION_INFINI] = "infini", [ATTENTION_FULL] = "full"},
     OF_VIT = "full", ONLY(DECODER | VIT),
     HELP = "Attention to all earlier tokens, Infini-attention (segments and a compressive memory), or, in a ViT, to all "
            "tokens."},
    {BOOLEAN(model.attention.bias), DEFAULT = "false", ONLY(DECODER),
     HELP = "Biases of queries, keys and values alone (Qwen2 has them); model.bias gives them to every layer."},
    {INTEGER(model.attention.segment, 1, DIMENSION_MAXIMUM), DEFAULT = "32", ONLY(DECODER),
     HELP = "infini: tokens in a segment."},
    {WORD(model.attention.memory_update), DEFAULT = "linear",
     .words = {[MEMORY_UPDATE_LINEAR] = "linear", [MEMORY_UPDATE_DELTA] = "delta",
               [MEMORY_UPDATE_GATED_DELTA] = "gated_delta"}, ONLY(DECODER),
     HELP = "infini: add a segment to the memory as it is, or only what the memory does not yet return (delta), token by "
            "token with learned strengths and unit keys of convolved tokens (gated_delta)."},
    {BOOLEAN(model.attention.readout_norm), DEFAULT = "false", ONLY(DECODER),
     HELP = "infini: an RMS norm on what each head reads from the memory."},

    {WORD(model.residual.kind), DEFAULT = "plain",
     .words = {[RESIDUAL_PLAIN] = "plain", [RESIDUAL_LAUREL] = "laurel"},
     HELP = "Residual connections: plain sums, or learned ones (LAuReL)."},
    {WORD(model.residual.scope), DEFAULT = "sublayer",
     .words = {[RESIDUAL_SUBLAYER] = "sublayer", [RESIDUAL_LAYER] = "layer"}, ONLY(DECODER | VIT),
     HELP = "laurel: one connection around attention and one around the MLP, or one around the layer."},
    {BOOLEAN(model.residual.weights), DEFAULT = "false",
     HELP = "laurel: learned weights of the two summands (RW)."},
    {INTEGER(model.residual.rank, 0, DIMENSION_MAXIMUM), DEFAULT = "0",
     HELP = "laurel: rank of the learned part of the skip (LR); 0 is off."},
    {INTEGER(model.residual.previous, 0, 65536), DEFAULT = "0",
     HELP = "laurel: number of states of the stream that are used, the present one included (PA); 0 is off."},

    {WORD(model.depth.kind), DEFAULT = "fixed",
     .words = {[DEPTH_FIXED] = "fixed", [DEPTH_MOD] = "mod", [DEPTH_MOR] = "mor",
               [DEPTH_RECURSIVE] = "recursive"}, ONLY(DECODER | VIT),
     HELP = "Every token takes every layer, or Mixture-of-Depths, or Mixture-of-Recursions; recursive: mor with "
            "model.depth.routing none, where every token takes every recursion."},
    {INTEGER(model.depth.every, 1, 65536), DEFAULT = "2",
     ONLY(DECODER | VIT),
     HELP = "mod: every how many layers one is routed."},
    {REAL(model.depth.capacity, 0, 1), .above = true, DEFAULT = "0.125",
     ONLY(DECODER | VIT),
     HELP = "mod: share of the tokens that take a routed layer."},
    {WORD(model.depth.gate), DEFAULT = "linear", .words = {[GATE_LINEAR] = "linear", [GATE_SIGMOID] = "sigmoid"},
     ONLY(DECODER | VIT),
     HELP = "mod: how the router's value scales the layer's output."},
    {WORD(model.depth.causal_router), DEFAULT = "loss",
     .words = {[CAUSAL_ROUTER_LOSS] = "loss", [CAUSAL_ROUTER_PREDICTOR] = "predictor"},
     ONLY(DECODER | VIT),
     HELP = "mod: what decides when generating: the router, taught by a loss of its own, or a separate predictor."},
    {SINGLE(model.depth.router_loss, 0, INFINITY), DEFAULT = "0.01",
     ONLY(DECODER | VIT),
     HELP = "mod and mor: weight of the router's own loss; 0.001 is usual for mor."},
    {INTEGER(model.depth.recursions, 1, 65536), DEFAULT = "3",
     ONLY(DECODER | VIT),
     HELP = "mor: how often the shared layers are used."},
    {WORD(model.depth.sharing), DEFAULT = "middle_cycle",
     .words = {[SHARING_CYCLE] = "cycle", [SHARING_SEQUENCE] = "sequence", [SHARING_MIDDLE_CYCLE] = "middle_cycle",
               [SHARING_MIDDLE_SEQUENCE] = "middle_sequence"},
     ONLY(DECODER | VIT),
     HELP = "mor: which layers share their parameters; with middle_ the first and the last keep their own."},
    {WORD(model.depth.routing), DEFAULT = "expert",
     .words = {[ROUTING_EXPERT] = "expert", [ROUTING_TOKEN] = "token", [ROUTING_NONE] = "none"},
     ONLY(DECODER | VIT),
     HELP = "mor: recursions choose tokens, tokens choose their depth, or all take all (a recursive transformer)."},
    {WORD(model.depth.cache), DEFAULT = "recursion",
     .words = {[CACHE_RECURSION] = "recursion", [CACHE_SHARED] = "shared"},
     ONLY(DECODER | VIT),
     HELP = "mor: keys and values of each recursion's own tokens, or those of the first recursion for all."},
    {SINGLE(model.depth.alpha, 0, INFINITY), DEFAULT = "0.1",
     ONLY(DECODER | VIT),
     HELP = "mor: factor of the gate with routing expert."},
    {INTEGER(model.depth.lora_rank, 0, DIMENSION_MAXIMUM), DEFAULT = "0",
     ONLY(DECODER | VIT),
     HELP = "mor and recursive: rank of what each recursion adds to the linear layers that it shares (LoRA); 0 is off."},

    {INTEGER(model.lora.rank, 0, DIMENSION_MAXIMUM), DEFAULT = "0",
     ONLY(DECODER | VIT),
     HELP = "Rank of learned maps beside the linear layers (LoRA) of a model that is otherwise frozen, but for what "
            "training.train_only names; 0 is off. `cairn checkpoint convert` gives them to a trained model."},
    {SINGLE(model.lora.alpha, 0, INFINITY), .above = true, DERIVED = "model.lora.rank, or 1",
     ONLY(DECODER | VIT),
     HELP = "What these maps add is multiplied by alpha / rank."},
    {LIST(model.lora.targets), DEFAULT = "",
     ONLY(DECODER | VIT),
     HELP = "The linear layers that have them, of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj; none "
            "named: all."},

    {INTEGER(mesh.data, 1, DIMENSION_MAXIMUM), AUTOMATIC,
     HELP = "Ranks that hold different sequences; auto takes the ranks the other axes leave."},
    {INTEGER(mesh.pipeline, 1, DIMENSION_MAXIMUM), .automatic = true, DEFAULT = "1",
     HELP = "Ranks that hold different layers."},
    {INTEGER(mesh.context, 1, DIMENSION_MAXIMUM), .automatic = true, DEFAULT = "1",
     HELP = "Ranks that hold different parts of a sequence."},
    {INTEGER(mesh.tensor, 1, DIMENSION_MAXIMUM), .automatic = true, DEFAULT = "1",
     HELP = "Ranks that hold different parts of a layer."},
    {INTEGER(mesh.virtual_stages, 1, 65536), DEFAULT = "1",
     HELP = "Chunks of the model on a pipeline rank; more than 1 shortens the idle time for more messages."},
    {WORD(mesh.recursions), DEFAULT = "ring", .words = {[RECURSIONS_RING] = "ring", [RECURSIONS_STAGE] = "stage"},
     HELP = "mor on a pipeline: each stage has a part of the shared layers and tokens go around once a recursion, or "
            "all recursions are on one stage, what comes before and after them on others."},

    {WORD(compute.type), DEFAULT = "fp32", .words = {[COMPUTE_FP32] = "fp32", [COMPUTE_BF16] = "bf16"},
     HELP = "Number type of weights and activations in matrix products; master weights are always fp32."},
    {WORD(compute.recompute), DEFAULT = "none",
     .words = {[RECOMPUTE_NONE] = "none", [RECOMPUTE_ATTENTION] = "attention", [RECOMPUTE_LAYER] = "layer"},
     HELP = "What is computed again in the backward pass instead of being kept in memory."},
    {INTEGER(compute.threads, 1, 65536), AUTOMATIC,
     HELP = "Threads of a rank; auto is its share of the cores."},
    {INTEGER(compute.bucket_bytes, 1024, COUNT_MAXIMUM), DEFAULT = "26214400",
     HELP = "Bytes of fp32 gradients that are reduced together."},

    {PATHS(data.train), DEFAULT = "",
     HELP = "Files with the training text, or images."},
    {PATHS(data.validation), DEFAULT = "",
     HELP = "Files with the validation text; none takes the last part of the training text. Of images: none is none."},
    {REAL(data.validation_fraction, 0, 0.9), DEFAULT = "0.05", ONLY(DECODER),
     HELP = "How much of the training text is kept for validation when no files are given."},
    {WORD(data.format), DEFAULT = "auto",
     .words = {[DATA_AUTO] = "auto", [DATA_BYTES] = "bytes", [DATA_NANOGPT] = "nanogpt", [DATA_LLMC] = "llmc",
               [DATA_MEGATRON] = "megatron", [DATA_SAMPLES] = "samples", [DATA_IDX] = "idx",
               [DATA_CIFAR10] = "cifar10", [DATA_CIFAR100] = "cifar100", [DATA_FOLDER] = "folder", [DATA_LIST] = "list"},
     HELP = "Layout of the data files; auto looks at them. The last five are of images: MNIST's, CIFAR's, a folder with "
            "one of PNG and JPEG files for each class, and a text file of paths with their classes."},
    {PATH(data.tokenizer, 0), DEFAULT = "", ONLY(DECODER),
     HELP = "A tokenizer.json by which texts become tokens when a run starts (kept in run.folder), and prompts and what is "
            "generated; none: texts are bytes, and token files are taken as they are."},
    {WORD(data.sampling), DEFAULT = "shuffle", ONLY(DECODER),
     .words = {[SAMPLING_SHUFFLE] = "shuffle", [SAMPLING_STREAM] = "stream"},
     HELP = "Sequences in random order, or streams that continue from step to step."},
    {INTEGER(data.eot, 0, DIMENSION_MAXIMUM), AUTOMATIC,
     ONLY(DECODER),
     HELP = "The token (with bytes, the byte) that ends a document; auto is that of the format: 50256 in nanogpt, as in "
            "llm.c's files of GPT-2, 128000 in those of Llama 3, none in bytes."},
    {SEED(data.seed), DEFAULT = "1",
     HELP = "Seed of the order of the sequences or images, and of what is done to images at random."},
    {BOOLEAN(data.skip_bad), DEFAULT = "false", ONLY(VIT | RESNET),
     HELP = "Leave out images that cannot be read, and count them, instead of ending the run."},
    {INTEGER(data.threads, 0, 1024), AUTOMATIC, ONLY(VIT | RESNET),
     HELP = "Threads of a rank that read and change images ahead of the step; 0: the step does it itself. auto: one for "
            "images held in memory, otherwise as many as compute."},
    {REAL(data.crop_share, 0, 1), .above = true, DEFAULT = "1.0", ONLY(VIT | RESNET),
     HELP = "Evaluation resizes the shorter side to model.image.size / crop_share and cuts out the centre; 0.875 is usual "
            "for photographs."},
    {WORD(data.augment.crop), DEFAULT = "none", ONLY(VIT | RESNET),
     .words = {[CROP_NONE] = "none", [CROP_PADDING] = "padding", [CROP_RESIZED] = "resized"},
     HELP = "Training sees all of an image, a random place of the image in a border, or a random part that is resized."},
    {INTEGER(data.augment.crop_padding, 0, 4096), DEFAULT = "4", ONLY(VIT | RESNET),
     HELP = "padding: pixels of the border."},
    {BOOLEAN(data.augment.crop_reflect), DEFAULT = "false", ONLY(VIT | RESNET),
     HELP = "padding: the border mirrors the image instead of being black."},
    {REAL(data.augment.scale_low, 0, 1), .above = true, DEFAULT = "0.08", ONLY(VIT | RESNET),
     HELP = "resized: the least share of the image's area."},
    {REAL(data.augment.scale_high, 0, 1), .above = true, DEFAULT = "1.0", ONLY(VIT | RESNET),
     HELP = "resized: the largest share."},
    {REAL(data.augment.ratio_low, 0, 100), .above = true, DEFAULT = "0.75", ONLY(VIT | RESNET),
     HELP = "resized: the least ratio of columns to rows."},
    {REAL(data.augment.ratio_high, 0, 100), .above = true, DEFAULT = "1.3333333333333333", ONLY(VIT | RESNET),
     HELP = "resized: the largest ratio."},
    {WORD(data.augment.flip), DEFAULT = "none", ONLY(VIT | RESNET),
     .words = {[FLIP_NONE] = "none", [FLIP_RANDOM] = "random", [FLIP_ALTERNATING] = "alternating"},
     HELP = "Left and right are exchanged never, in half of all cases, or in every other epoch."},
    {REAL(data.augment.rotation, 0, 180), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "Largest angle by which an image is turned, in degrees; 0 is off."},
    {REAL(data.augment.brightness, 0, 10), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "Brightness is multiplied by a factor of 1 - x to 1 + x; 0 is off."},
    {REAL(data.augment.contrast, 0, 10), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "The same for contrast."},
    {REAL(data.augment.saturation, 0, 10), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "The same for saturation."},
    {REAL(data.augment.hue, 0, 0.5), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "The hue is turned by up to so much of the circle; 0 is off."},
    {INTEGER(data.augment.cutout, 0, 4096), DEFAULT = "0", ONLY(VIT | RESNET),
     HELP = "Side of a square that is blotted out; 0 is off."},
    {REAL(data.augment.mixup, 0, 1000), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "Images are mixed with others, by a share from the beta distribution of this alpha; 0 is off."},
    {REAL(data.augment.cutmix, 0, 1000), DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "A part of an image is replaced by that of another, by a share from the beta distribution of this alpha; 0 is "
            "off. With mixup, one or the other."},
    {REAL(data.augment.mixing, 0, 1), DEFAULT = "1.0", ONLY(VIT | RESNET),
     HELP = "mixup and cutmix: share of the images that are mixed."},

    {WORD(optimizer.kind), DEFAULT = "adamw",
     .words = {[OPTIMIZER_ADAMW] = "adamw", [OPTIMIZER_SGD] = "sgd", [OPTIMIZER_MUON] = "muon", [OPTIMIZER_SOAP] = "soap"},
     HELP = "AdamW, gradient descent with momentum, or Muon or SOAP for matrices inside layers and AdamW for the rest."},
    {SINGLE(optimizer.learning_rate, 0, INFINITY), DEFAULT = "3.0e-4",
     HELP = "Largest learning rate, reached at the end of the warm-up."},
    {SINGLE(optimizer.beta1, 0, 1), .below = true, DEFAULT = "0.9",
     HELP = "adamw: decay of the mean of the gradients."},
    {SINGLE(optimizer.beta2, 0, 1), .below = true, DEFAULT = "0.95",
     HELP = "adamw: decay of the mean of their squares."},
    {SINGLE(optimizer.epsilon, 0, INFINITY), .above = true, DEFAULT = "1.0e-8",
     HELP = "adamw: added to the root in the divisor of the update."},
    {SINGLE(optimizer.momentum, 0, 1), .below = true, DERIVED = "0.95 for muon, else 0.9",
     HELP = "sgd and muon: share of the update before that goes on in the next; 0 is none."},
    {BOOLEAN(optimizer.nesterov), DERIVED = "true for muon, else false",
     HELP = "sgd and muon: Nesterov's momentum, which looks one step ahead."},
    {WORD(optimizer.polar), DEFAULT = "newton_schulz",
     .words = {[POLAR_NEWTON_SCHULZ] = "newton_schulz", [POLAR_EXACT] = "exact"},
     HELP = "muon: makes matrices orthogonal by five fast rounds of an iteration, or by singular value decomposition."},
    {SINGLE(optimizer.adamw_learning_rate, 0, INFINITY), DEFAULT = "0.0",
     HELP = "muon and soap: learning rate of what AdamW steps beside them; 0 is optimizer.learning_rate."},
    {SINGLE(optimizer.beta3, 0, 1), .below = true, DEFAULT = "0.95",
     HELP = "soap: decay of the averages whose eigenvectors are the basis of the step."},
    {INTEGER(optimizer.every, 1, COUNT_MAXIMUM), DEFAULT = "10",
     HELP = "soap: steps between refreshments of the bases."},
    {INTEGER(optimizer.max_side, 0, DIMENSION_MAXIMUM), DEFAULT = "8192",
     HELP = "soap: longest side of a matrix that has a basis; the average of a side is as large as its square."},
    {INTEGER(optimizer.matrix_ranks, 1, COUNT_MAXIMUM), .automatic = true, DEFAULT = "auto",
     HELP = "muon and soap: ranks that step a matrix together; auto: those it needs to be done in a rank's even share."},
    {INTEGER(optimizer.matrix_border, 1, DIMENSION_MAXIMUM), DEFAULT = "1024",
     HELP = "muon and soap: shorter side from which ranks step a matrix together; `cairn bench matrices` measures it."},
    {LIST(optimizer.no_decay), DEFAULT = "",
     HELP = "Parameters without weight decay, by shell patterns over their names; vectors have none as it is."},
    {SINGLE(optimizer.weight_decay, 0, INFINITY), DEFAULT = "0.1",
     HELP = "Weight decay of matrices, as a factor of the learning rate."},
    {SINGLE(optimizer.clip, 0, INFINITY), DEFAULT = "1.0",
     HELP = "Largest norm of the gradient over the whole model; 0 is off."},
    {SINGLE(optimizer.gate_lr_factor, 0, INFINITY), DEFAULT = "1.0",
     HELP = "Factor of the learning rate for the memory gates of Infini-attention."},
    {WORD(optimizer.schedule), DEFAULT = "cosine",
     .words = {[SCHEDULE_CONSTANT] = "constant", [SCHEDULE_COSINE] = "cosine", [SCHEDULE_LINEAR] = "linear",
               [SCHEDULE_WSD] = "wsd"},
     HELP = "Course of the learning rate after the warm-up; wsd stays constant and falls in the last decay_steps."},
    {INTEGER(optimizer.warmup_steps, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Steps in which the rate rises from warmup_start."},
    {REAL(optimizer.warmup_start, 0, 1), DEFAULT = "0.0",
     HELP = "Where the warm-up begins, as a share of learning_rate."},
    {INTEGER(optimizer.decay_steps, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "wsd: the last steps, in which the rate falls."},
    {REAL(optimizer.minimum_ratio, 0, 1), DEFAULT = "0.1",
     HELP = "Learning rate at the end as a share of learning_rate."},

    {INTEGER(training.steps, 0, COUNT_MAXIMUM), DEFAULT = "1000",
     HELP = "Optimiser steps of the whole run."},
    {INTEGER(training.stop_at, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "End after this step, to be resumed later; 0 is after all steps."},
    {INTEGER(training.batch, 1, DIMENSION_MAXIMUM), DEFAULT = "8",
     HELP = "Sequences in a step, over all ranks."},
    {INTEGER(training.micro_batch, 1, DIMENSION_MAXIMUM), DEFAULT = "1",
     HELP = "Sequences that pass through the model together on one data rank."},
    {INTEGER(training.sequence_length, 1, DIMENSION_MAXIMUM), DEFAULT = "256",
     ONLY(DECODER),
     HELP = "Tokens in a sequence."},
    {SINGLE(training.average, 0, 1), .below = true, DEFAULT = "0.0",
     HELP = "Decay of an exponential moving average of the parameters, with which evaluation, prediction and generation "
            "compute, as in 0.999; 0 is off."},
    {SINGLE(training.label_smoothing, 0, 1), .below = true, DEFAULT = "0.0", ONLY(VIT | RESNET),
     HELP = "Share of a target that goes to all classes alike."},
    {SEED(training.seed), DEFAULT = "1",
     HELP = "Seed of the initial weights."},
    {INTEGER(training.skip_limit, 1, COUNT_MAXIMUM), DEFAULT = "10",
     HELP = "Skipped steps in a row that end the run."},
    {INTEGER(training.capacity_warmup_steps, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "mod, and mor with routing expert: steps in which the routers' capacity falls from all tokens to the "
            "model's own; 0 is off."},
    {LIST(training.freeze), DEFAULT = "",
     HELP = "Parameters that stay as they are, by patterns of a shell over their names, as in [model.embed_*, "
            "model.layers.[0-5].*]; they cost no gradients and no moments."},
    {LIST(training.train_only), DEFAULT = "",
     HELP = "The same the other way round: only parameters that a pattern matches are trained."},
    {INTEGER(training.gate_warning_steps, 0, COUNT_MAXIMUM), DEFAULT = "1000",
     ONLY(DECODER),
     HELP = "infini: the step at which memory gates that are all still between 0.45 and 0.55 are told of; 0 is off."},

    {INTEGER(evaluation.every, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Steps between evaluations; 0 is only at the end."},
    {INTEGER(evaluation.batches, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Batches of an evaluation during training; 0 is the whole validation set."},
    {INTEGER(evaluation.final_batches, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Batches of the evaluation at the end; 0 is the whole validation set."},

    {INTEGER(checkpoint.every, 0, COUNT_MAXIMUM), AUTOMATIC,
     HELP = "Steps between checkpoints; 0 is only at the end. auto: as often as loses least time, by what a checkpoint "
            "takes and how often runs in this folder failed."},
    {INTEGER(checkpoint.keep_last, 1, COUNT_MAXIMUM), DEFAULT = "2",
     HELP = "How many of the newest checkpoints are kept."},
    {INTEGER(checkpoint.keep_every, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Checkpoints whose step this divides are kept for good; 0 is none."},
    {BOOLEAN(checkpoint.background), DEFAULT = "false",
     HELP = "Write checkpoints while training goes on, from a copy of weights and moments in memory (12 bytes a "
            "parameter, divided among the ranks). The last one of a run is waited for."},

    {REAL(watch.hang_seconds, 0, 1e9), DEFAULT = "600.0",
     HELP = "Seconds without a move on any rank after which the ranks that are behind are named and the job ends with "
            "85, to be started again; 0 is off."},
    {REAL(watch.straggler_factor, 0, INFINITY), DEFAULT = "1.3",
     HELP = "A rank that works so many times longer than its peers in three looks in a row is named; 0 is off."},
    {INTEGER(watch.straggler_steps, 1, COUNT_MAXIMUM), DEFAULT = "50",
     HELP = "Steps that one of those looks covers."},
    {INTEGER(watch.compare_every, 0, COUNT_MAXIMUM), DEFAULT = "100",
     HELP = "Steps between comparisons of all copies of the parameters, also made before checkpoints; a difference ends "
            "the job with 85. 0 is off."},
    {REAL(watch.spike_factor, 0, INFINITY), DEFAULT = "0.0",
     HELP = "A loss so many deviations above the median is a spike: the run goes back to the checkpoint before it and "
            "leaves out that data; 0 is off."},
    {INTEGER(watch.spike_window, 8, 65536), DEFAULT = "100",
     HELP = "Losses that median and deviation are taken of; spikes are looked for once there are so many."},
    {INTEGER(watch.spike_steps, 1, COUNT_MAXIMUM), DEFAULT = "3",
     HELP = "Steps in a row that are a spike before the run goes back; one whose loss is not finite is enough."},
    {INTEGER(watch.spike_skip, 0, COUNT_MAXIMUM), DEFAULT = "0",
     HELP = "Steps whose data is left out, too, behind a spike."},
    {INTEGER(watch.spike_limit, 0, COUNT_MAXIMUM), DEFAULT = "3",
     HELP = "How often a run goes back before it ends with an error."},

    {PATH(evolve.tasks, 0), DEFAULT = "", ONLY(DECODER | VIT),
     HELP = "File of the tasks of `cairn evolve`: a YAML list of maps with name, train, validation, test, classes and "
            "private."},
    {PATH(evolve.root, 0), DEFAULT = "", ONLY(DECODER | VIT),
     HELP = "Checkpoint of a model like model.*, or a deeper one, that all begins with; empty: random values."},
    {INTEGER(evolve.iterations, 0, COUNT_MAXIMUM), DEFAULT = "2", ONLY(DECODER | VIT),
     HELP = "Visits of each task."},
    {INTEGER(evolve.generations, 1, 9999), DEFAULT = "4", ONLY(DECODER | VIT),
     HELP = "Generations of a visit."},
    {INTEGER(evolve.children, 1, 9999), DEFAULT = "8", ONLY(DECODER | VIT),
     HELP = "Children of a generation."},
    {INTEGER(evolve.intervals, 1, COUNT_MAXIMUM), DEFAULT = "4", ONLY(DECODER | VIT),
     HELP = "Parts of a child's training, each with an evaluation behind it."},
    {INTEGER(evolve.samples, 1, COUNT_MAXIMUM), DEFAULT = "51200", ONLY(DECODER | VIT),
     HELP = "Images or texts that an interval draws at most; of a smaller set as many as it has."},
    {INTEGER(evolve.validation_samples, 0, COUNT_MAXIMUM), DEFAULT = "5120", ONLY(DECODER | VIT),
     HELP = "Images that such an evaluation looks at, in whole batches spread over the set; 0: all."},
    {WORD(evolve.schedule), DEFAULT = "turns", ONLY(DECODER | VIT),
     .words = {[VISITS_IN_TURN] = "turns", [VISITS_ASYNCHRONOUS] = "asynchronous"},
     HELP = "All groups train the children of one visit, or each group visits tasks of its own and waits for nobody."},
    {WORD(evolve.mutation), DEFAULT = "path", ONLY(DECODER | VIT),
     .words = {[MUTATION_OF_PATH] = "path", [MUTATION_OF_ACTIONS] = "actions"},
     HELP = "Whether a path has one probability of mutations, or each action one of its own."},
    {BOOLEAN(evolve.adapters), DEFAULT = "false", ONLY(DECODER | VIT),
     HELP = "Layers may get an adapter in front of them (evolve.space: adapter_width)."},
    {REAL(evolve.size_base, 0, 1), .above = true, DEFAULT = "1.0", ONLY(DECODER | VIT),
     HELP = "Factor of a score for every size_unit parameters that a task accounts for; 1 is off."},
    {REAL(evolve.size_unit, 0, INFINITY), DEFAULT = "0.0", ONLY(DECODER | VIT),
     HELP = "Parameters; 0: as many as the root has."},
    {REAL(evolve.flops_base, 0, 1), .above = true, DEFAULT = "1.0", ONLY(DECODER | VIT),
     HELP = "Factor of a score for every flops_unit operations of an image's forward pass; 1 is off."},
    {REAL(evolve.flops_unit, 0, INFINITY), DEFAULT = "0.0", ONLY(DECODER | VIT),
     HELP = "Operations; 0: as many as the root needs."},
    {LIST(evolve.space), DEFAULT = "", ONLY(DECODER | VIT),
     HELP = "Lists of hyperparameters, \"lr = 0.001 [0.01] 0.1\", in brackets where paths begin. There are mu, "
            "adapter_width, layers, lr, momentum, nesterov, warmup, area_min, aspect_min, brightness, contrast, crop, flip, hue and saturation."},

    {PATH(run.folder, 1), DEFAULT = "runs/default",
     HELP = "Folder for metrics, checkpoints and the resolved configuration."},
    {INTEGER(run.log_every, 1, COUNT_MAXIMUM), DEFAULT = "1",
     HELP = "Steps between lines of metrics.jsonl."},
    {TEXT(run.prompt, 0), DEFAULT = "",
     HELP = "Text the model continues at the end of training; empty is off."},
    {INTEGER(run.prompt_tokens, 0, DIMENSION_MAXIMUM), DEFAULT = "200",
     HELP = "Tokens of that continuation."},

    {TEXT(job.time_limit, 0), DEFAULT = "",
     HELP = "Time that the job has from its start, as sbatch --time takes it: minutes, minutes:seconds, "
            "hours:minutes:seconds, days-hours... The run saves and ends with status 85 before it is over. Empty: what "
            "Slurm says in SLURM_JOB_END_TIME, and otherwise no limit."},
    {REAL(job.mean_hours_between_failures, 0, INFINITY), .above = true, DEFAULT = "24.0",
     HELP = "What checkpoint.every auto expects before there was a failure; it weighs as much as one."},
};
/* clang-format on */

const int setting_count = sizeof setting_table / sizeof setting_table[0];

_Static_assert(sizeof setting_table / sizeof setting_table[0] <= SETTING_LIMIT,
               "the arrays over all settings are too short");
_Static_assert(sizeof(enum model_family) == sizeof(int), "words are stored as int");

bool setting_belongs(const struct setting *setting, enum model_family family)
{
    return !setting->families || (setting->families >> family & 1u);
}

const struct setting *setting_find(const char *key)
{
    for (int i = 0; i < setting_count; i++)
        if (strcmp(setting_table[i].key, key) == 0)
            return &setting_table[i];
    return NULL;
}

const struct setting *setting_at(size_t offset)
{
    for (int i = 0; i < setting_count; i++)
        if (setting_table[i].offset == offset)
            return &setting_table[i];
    return NULL;
}

int setting_section(const char *path)
{
    size_t length = strlen(path);
    if (length == 0)
        return 0;
    for (int i = 0; i < setting_count; i++)
        if (strncmp(setting_table[i].key, path, length) == 0 && setting_table[i].key[length] == '.')
            return i;
    return -1;
}
