#!/bin/bash
# Models of other programs. tests/end_to_end/exchange holds small ones that transformers and timm wrote, with the losses
# and probabilities that these compute in double precision: what is imported computes the same, on any mesh. What is
# exported is imported again to the last bit.
set -u
GIVEN=$(cd "$(dirname "$0")" && pwd)/exchange
. "$(dirname "$0")/library.sh" "$@"
[ -s "$GIVEN/expected" ] && [ -s "$GIVEN/expected_images" ] || give_up "there are no models to import"
printf 'The quick brown fox jumps over the lazy dog, and 12 jugs of wine.' >text.txt

# near NAME TOLERANCE VALUE EXPECTED: relative.
near() {
    awk -v a="$3" -v b="$4" -v t="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && d <= t * b) }' ||
        fail "$1: ${3:-nothing} instead of $4"
}

# loss NAME FOLDER: of a decoder on the text.
loss() {
    must "$1" 1 eval "$2/config.yaml" --checkpoint "$2" --data text.txt --json --set training.sequence_length=16 \
        --set mesh.tensor=1 --set mesh.pipeline=1 --set mesh.data=1 &&
        loss=$(sed -n 's/.*"loss": *\([^,]*\),.*/\1/p' out)
}

# -- What others wrote ---------------------------------------------------------------------------------------------------

import() { # NAME RANKS FOLDER OUTPUT SETTINGS...
    local name=$1 ranks=$2 source=$3 output=$4
    shift 4
    rm -rf "$output"
    must "$name" "$ranks" import "$source" "$output" ${@/#/--set=}
}

while read -r name expected; do
    import "import of $name" 1 "$GIVEN/$name" "$name.1" && loss "loss of $name" "$name.1" &&
        near "loss of $name" 2e-7 "$loss" "$expected"
    for mesh in mesh.tensor=2 mesh.pipeline=2 mesh.data=2; do
        import "import of $name with $mesh" 2 "$GIVEN/$name" many $mesh &&
            identical "$name with $mesh" "$(checkpoint_of "$name.1" 0)" "$(checkpoint_of many 0)"
    done
done <"$GIVEN/expected"
say "decoders of transformers have the losses that they have there, whatever the mesh that imports them"

while read -r name ant bee cat; do
    import "import of $name" 1 "$GIVEN/$name" "$name.1" && must "prediction of $name" 1 predict "$name.1" "$GIVEN/image.png" --json
    for expected in "ant $ant" "bee $bee" "cat $cat"; do
        near "$name: ${expected% *}" 2e-6 "$(tr -d ' \n' <out | grep -o '"name":"'"${expected% *}"'","class":[0-9],"probability":[^,}]*' | sed 's/.*://')" "${expected#* }"
    done
done <"$GIVEN/expected_images"
say "timm's ViT gives the probabilities that it gives there"

# -- Out and in again ----------------------------------------------------------------------------------------------------

# Trained from here, so that every bias is something.
for name in llama mistral qwen2 gpt2; do
    must "training $name" 1 train "$name.1/config.yaml" --set data.train=text.txt --set training.steps=3 --set training.sequence_length=8 \
        --set training.batch=4 --set optimizer.learning_rate=1e-2 --set optimizer.warmup_steps=0 --set data.validation_fraction=0.3
done
for name in llama mistral qwen2 gpt2 vit vit_mean; do
    rm -rf one two again back
    must "export of $name" 1 export "$name.1" one
    mesh=mesh.tensor=2
    case $name in vit*) mesh=mesh.data=2 ;; gpt2) mesh=mesh.pipeline=2 ;; esac
    must "export of $name with $mesh" 2 export "$name.1" two --set mesh.tensor=1 --set "$mesh"
    import "import of what $name was exported as" 1 one again mesh.data=1 && must "export of that" 1 export again back
    for other in two back; do
        for file in model.safetensors config.json; do
            cmp -s one/$file $other/$file || fail "$name: $file of $other differs"
        done
    done
    [ -z "$(partial_files .)" ] || fail "$name: partial files are left"
    case $name in vit*) continue ;; esac
    loss "loss of $name after training" "$name.1" && before=$loss && loss "after its journey" again &&
        near "$name" 0 "$loss" "$before"
done
must "shards" 2 export gpt2.1 shards --shard-size 5000 --set mesh.tensor=2
[ -f shards/model-00003-of-00003.safetensors ] || fail "shards: $(ls shards | paste -sd ' ')"
rm -rf one
must "bf16" 1 export gpt2.1 half --type bf16 && grep -aq '"dtype":"BF16"' half/model.safetensors ||
    fail "bf16: is not there"
must "one file" 1 export gpt2.1 one
import "import of shards" 2 shards sharded mesh.tensor=2 && must "export of that" 1 export sharded whole --set mesh.tensor=1
cmp -s one/model.safetensors whole/model.safetensors || fail "shards hold something else"
grep -aq '"transformer.h.1.attn.c_attn.weight":{"dtype":"F32","shape":\[8,24\],' one/model.safetensors ||
    fail "GPT-2's names are not there"
say "what is exported on any mesh is the same file, and comes back to the last bit"

# -- What is refused -----------------------------------------------------------------------------------------------------

refused() { # STATUS PATTERN RANKS ARGUMENT...
    local expected=$1 pattern=$2
    shift 2
    run "$@"
    [ "$status" -eq "$expected" ] && grep -q "^cairn: .*$pattern" err ||
        fail "should end with $expected and name $pattern: $(last_words)"
    [ "$(grep -c '^cairn: ' err)" -eq 1 ] || fail "should say once what is wrong: $(grep '^cairn: ' err)"
}

# changed SED: the folder `changed`, of llama with another config.json.
changed() {
    rm -rf changed refused
    cp -r "$GIVEN/llama" changed && sed -i "$1" changed/config.json
}

while IFS='|' read -r edit pattern; do
    changed "$edit"
    refused 1 "changed/config.json:.*$pattern" 1 import changed refused
done <<'LIST'
s/"rope_type": "default"/"rope_type": "yarn"/|rope_parameters: expected rope_type default
s/"model_type": "llama"/"model_type": "bert"/|model_type: expected llama, mistral, qwen2, gpt2 or cairn.*got "bert"
s/"model_type": "llama"/"sliding_window": 4096, "model_type": "mistral"/|sliding_window: expected null.*got 4096
s/"mlp_bias": false/"mlp_bias": true/|mlp_bias: expected a model without it
s/"mlp_bias": false/"num_experts": 8/|num_experts: expected a model without it.*got 8
s/"mlp_bias": false/"quantization_config": {"bits": 4}/|quantization_config: expected a model without it
s/"hidden_act": "silu"/"hidden_act": "relu"/|hidden_act: expected silu.*got "relu"
s/"hidden_size": 8/"hidden_size": "8"/|hidden_size: expected a number
s/"hidden_size": 8,//|hidden_size: expected a number.*got nothing
s/"rms_norm_eps": 1e-05/"rms_norm_eps": -1/|rms_norm_eps: expected a number above 0
s/"vocab_size"/"vocab_size": 3, "vocab_size"/|duplicate
LIST
for RANKS in 1 2; do
    changed 's/"hidden_size": 8/"hidden_size": 16/'
    refused 1 'has shape \[256, 8\], but config.json says \[256, 16\]' $RANKS import changed refused
    changed 's/"num_hidden_layers": 2/"num_hidden_layers": 1/'
    refused 1 'tensor model.layers.1.input_layernorm.weight: a model of this config.json has no place' $RANKS import changed refused
    changed 's/"num_hidden_layers": 2/"num_hidden_layers": 3/'
    refused 1 'has no tensor model.layers.2' $RANKS import changed refused
    changed 's/"tie_word_embeddings": false/"tie_word_embeddings": true/'
    refused 1 'lm_head.weight: differs from model.embed_tokens.weight' $RANKS import changed refused
    changed ''
    truncate -s -3 changed/model.safetensors
    refused 1 'changed/model.safetensors: tensor .* outside' $RANKS import changed refused
    refused 1 'nowhere/config.json' $RANKS import nowhere refused
    refused 2 'holds checkpoints of a run' $RANKS import "$GIVEN/llama" llama.1
    refused 2 'one/config.json: is there; name another folder' $RANKS export gpt2.1 one --set mesh.tensor=auto
    refused 2 'expected fp32 or bf16' $RANKS export gpt2.1 refused --type fp8
    [ -z "$(find . -path './refused/*.h5')" ] || fail "a checkpoint was written all the same"
done
cat >own.yaml <<'LIST'
model: {vocabulary: 256, width: 8, layers: 2, heads: 2, hidden: 12}
data: {train: text.txt, validation_fraction: 0.3}
training: {steps: 1, batch: 2, sequence_length: 8}
run: {folder: own}
LIST
# What only this program computes goes out with the file by which transformers does, and comes back.
while read -r -a settings; do
    rm -rf own one two again back
    must "training with ${settings[*]}" 1 train own.yaml "${settings[@]/#/--set=}" && must "its export" 1 export own one
    must "its export with two ranks" 2 export own two --set mesh.data=2
    import "its import" 2 one again mesh.data=2 && must "export of that" 1 export again back --set mesh.data=1
    for file in model.safetensors config.json modeling_cairn.py; do
        cmp -s one/$file two/$file && cmp -s one/$file back/$file || fail "${settings[*]}: $file differs"
    done
    cmp -s one/modeling_cairn.py "$GIVEN/../../../io/exchange/python/modeling_cairn.py" || fail "modeling_cairn.py is another"
    tr -d ' \n' <one/config.json | grep -q '"AutoModelForCausalLM":"modeling_cairn.CairnForCausalLM"' ||
        fail "config.json does not name the file: $(cat one/config.json)"
    loss "loss of ${settings[*]}" own && before=$loss && loss "after its journey" again && near "${settings[*]}" 0 "$loss" "$before"
done <<'LIST'
model.attention.kind=infini model.attention.segment=4 model.attention.memory_update=gated_delta model.norm=layer
model.depth.kind=mod model.depth.gate=sigmoid model.residual.kind=laurel model.residual.rank=2 model.residual.previous=2
model.depth.kind=mor model.layers=4 model.depth.recursions=2 model.depth.lora_rank=2 model.mlp=gelu model.bias=true
LIST
tr -d ' \n' <one/config.json | grep -q '"depth":{"kind":"mor",.*"lora_rank":2}' || fail "config.json lacks settings: $(cat one/config.json)"
say "decoders that only this program computes go out with modeling_cairn.py, and come back to the last bit"

sed -i 's/"recursions": 2/"recursions": 3/' one/config.json
refused 2 'model.depth.recursions' 1 import one refused
sed -i 's/"cairn": {/"cairn": 3, "other": {/' one/config.json
refused 1 'one/config.json: cairn: expected an object of settings, got 3' 1 import one refused
say "what does not fit is refused by name"
finish
