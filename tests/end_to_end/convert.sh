#!/bin/bash
# A trained model of fixed depth becomes a recursive one, or one with memory, learned residuals or routed layers: each
# parameter has the values it should, by another reader's word, and training and evaluation go on from the file.
set -u
. "$(dirname "$0")/library.sh" "$@"
command -v h5dump >/dev/null || {
    skip "no h5dump to read checkpoints with"
    finish
}

text_file text.txt 600
cat >dense.yaml <<END
model: {vocabulary: 256, width: 24, layers: 8, heads: 4, kv_heads: 2, hidden: 40}
data: {train: text.txt, validation_fraction: 0.05}
optimizer: {learning_rate: 1e-2}
training: {steps: 4, batch: 4, micro_batch: 2, sequence_length: 32, seed: 3}
run: {folder: dense}
END
must "training the source" 1 train dense.yaml || give_up "nothing to convert"
source=$(checkpoint_of dense 4)

# model SETTINGS: the configuration of the source with other ones of its model besides, in the file new.yaml.
model() { sed "s/hidden: 40/hidden: 40, $1/" dense.yaml >new.yaml; }

convert() { # NAME ARGUMENT...: into the folder new
    local name=$1
    shift
    rm -rf new
    must "$name" 1 checkpoint convert dense new --to new.yaml "$@"
}

made=$(checkpoint_of new 0)

# -- Values, read by HDF5's own tools ------------------------------------------------------------------------------------

numbers_of() { # FILE DATASET...: one a line
    local file=$1
    shift
    # shellcheck disable=SC2046
    h5dump -y -m %.9g -w 1 $(printf -- '-d %s ' "$@") "$file" | sed -n '/DATA {/,/}/p' | grep -Eo -- '-?[0-9][-+0-9.e]*|nan|inf'
}

PARTS="input_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj post_attention_layernorm
    mlp.gate_proj mlp.up_proj mlp.down_proj"

layer_of() { # FILE LAYER: all numbers of a stored layer
    # shellcheck disable=SC2046,SC2086
    numbers_of "$1" $(printf "/parameters/model.layers.$2.%s.weight " $PARTS)
}

for layer in 0 1 2 3 4 5 6 7; do
    layer_of "$source" $layer >"source.$layer"
done
[ "$(wc -l <source.0)" -eq $((24 + 24 * 24 + 2 * 12 * 24 + 24 * 24 + 24 + 3 * 40 * 24)) ] ||
    give_up "h5dump reads $(wc -l <source.0) numbers of a layer"
cmp -s source.0 source.1 && give_up "the layers of the source are the same"

# origins_are NAME ORIGINS...: stored layer i is the mean of the source's layers ORIGINS[i], as in 1+4; one is exact.
origins_are() {
    local name=$1 layer=0 origins files
    shift
    for origins in "$@"; do
        layer_of "$made" $layer >made
        files=source.${origins//+/ source.}
        if [ "$files" = "source.$origins" ] && ! cmp -s made "$files"; then
            fail "$name: stored layer $layer is not layer $origins of the source"
        fi
        # shellcheck disable=SC2086
        paste -d ' ' made $files | awk '{
                mean = 0
                for (i = 2; i <= NF; i++) mean += $i / (NF - 1)
                d = $1 - mean
                size = mean < 0 ? -mean : mean
                if (NF < 2 || (d < 0 ? -d : d) > 2e-7 * size + 1e-9) wrong++
            } END { exit wrong > 0 || NR == 0 }' || fail "$name: stored layer $layer is not the mean of $origins"
        layer=$((layer + 1))
    done
    numbers_of "$made" /parameters/model.layers.$layer.mlp.up_proj.weight >made 2>/dev/null
    [ ! -s made ] || fail "$name: there are more than $layer stored layers"
}

same_values() { # NAME FILE DATASET OTHER_FILE
    cmp -s <(numbers_of "$2" "$3") <(numbers_of "$4" "$3") && [ -n "$(numbers_of "$2" "$3" | head -n 1)" ] ||
        fail "$1: $3 is not that of $4"
}

# -- Each sharing, each initialization -----------------------------------------------------------------------------------

check() { # SHARING INITIALIZATION ORIGINS...
    local name="$1, $2" part
    local arguments=(--initialization "$2")
    [ "$2" != stepwise ] || arguments=() # the default
    model "depth: {kind: mor, recursions: 2, sharing: $1, routing: none}"
    shift 2
    convert "$name" ${arguments[@]+"${arguments[@]}"} || return
    origins_are "$name" "$@"
    for part in model.embed_tokens model.norm lm_head; do
        same_values "$name" "$made" "/parameters/$part.weight" "$source"
    done
    must "$name: verify" 1 checkpoint verify "$made"
    say "$name: layers $*"
}

check cycle stepwise 0 2 5 7
check sequence stepwise 0 2 5 7
check middle_cycle stepwise 0 1 4 6 7
check middle_sequence stepwise 0 1 4 6 7
check cycle average 0+4 1+5 2+6 3+7
check sequence average 0+1 2+3 4+5 6+7
check middle_cycle average 0 1+4 2+5 3+6 7
check middle_sequence average 0 1+2 3+4 5+6 7
check cycle lower 0 1 2 3
check sequence lower 0 1 2 3
check middle_cycle lower 0 1 2 3 7
check middle_sequence lower 0 1 2 3 7
check cycle upper 4 5 6 7
check sequence upper 4 5 6 7
check middle_cycle upper 0 4 5 6 7
check middle_sequence upper 0 4 5 6 7

# Another number of unrolled layers.
model "depth: {kind: mor, recursions: 3, routing: none}"
sed -i 's/layers: 8/layers: 14/' new.yaml
convert "14 layers of 8" && origins_are "14 layers of 8" 0 1 3 4 6 7
convert "14 layers of 8, upper" --initialization upper && origins_are "14 layers of 8, upper" 0 3 4 5 6 7
sed -i 's/layers: 14/layers: 5/' new.yaml
convert "5 layers of 8" && origins_are "5 layers of 8" 0 1 7

# -- What the source lacks begins as in a new model, and so does the optimiser ---------------------------------------------

fresh() { # NAME DATASET...: of the model in new.yaml
    local name=$1 dataset
    shift
    rm -rf fresh
    must "$name: a new model" 1 train new.yaml --set run.folder=fresh --set training.steps=0 || return
    for dataset in "$@"; do
        same_values "$name" "$made" "$dataset" "$(checkpoint_of fresh 0)"
    done
}

goes_on() { # NAME
    must "$1: --resume FILE" 1 train new.yaml --set run.folder=resumed.$failures --resume "$made" || return
    must "$1: on two stages" 2 train new.yaml --set run.folder=new --set mesh.pipeline=2 || return
    grep -q "resuming after step 0 " err || fail "$1: training did not go on from step 0"
    within "$(largest_deviation <(losses new) <(losses resumed.$failures))" 1e-5 ||
        fail "$1: two stages go on with other losses than one rank"
    rm -rf resumed.$failures
}

model "depth: {kind: mor, recursions: 3, routing: expert, router_loss: 0.001}"
convert "expert choice"
fresh "expert choice" /parameters/model.recursions.{0,1,2}.router.weight \
    /optimizer/{m,v}/model.{layers.1.mlp.up_proj,embed_tokens,recursions.1.router}.weight
numbers_of "$made" /optimizer/v/model.layers.1.mlp.up_proj.weight | grep -qv '^0$' &&
    fail "expert choice: moments that are not 0"
for shape in "1 2 2" "2 1 2"; do
    mesh $shape
    must "converting with $(mesh_name $shape)" $ranks checkpoint convert dense many --to new.yaml "${MESH[@]}" &&
        identical "converting with $(mesh_name $shape)" "$(checkpoint_of many 0)" "$made"
    rm -rf many
done
goes_on "expert choice"
model "depth: {kind: mor, recursions: 3, routing: token}"
convert "token choice"
fresh "token choice" /parameters/model.router.weight
goes_on "token choice"
model "depth: {kind: mod, causal_router: predictor}"
convert "mod"
fresh "mod" /parameters/model.layers.{1,7}.{router,predictor.fc1,predictor.fc2}.weight
origins_are "mod" 0 1 2 3 4 5 6 7
goes_on "mod"
model "attention: {kind: infini, segment: 8}, residual: {kind: laurel, rank: 3, weights: true}"
sed -i 's/data: {/data: {sampling: stream, /' new.yaml
convert "memory and learned residuals, streams"
fresh "memory and learned residuals, streams" /parameters/model.layers.{0,5}.self_attn.memory_gate \
    /parameters/model.layers.3.{attn,mlp}_residual.{weights,down.weight,up.weight} /memory/layers.2/state
origins_are "memory and learned residuals, streams" 0 1 2 3 4 5 6 7
goes_on "memory and learned residuals, streams"
say "routers, memories, residuals and moments as in a new model; training goes on from each"

# -- Where the new model computes the same, its loss is the same -----------------------------------------------------------

loss_of() { # CONFIG CHECKPOINT
    must "eval of $2" 1 eval "$1" --checkpoint "$2" && sed -n 's/^loss \([0-9.]*\) .*/\1/p' out
}

expected=$(loss_of dense.yaml dense)
same_loss() { # NAME MODEL
    local loss
    model "$2"
    convert "$1" && loss=$(loss_of new.yaml new)
    within "$(largest_deviation <(echo "1 $loss") <(echo "1 $expected"))" 1e-6 || fail "$1: loss $loss instead of $expected"
}

same_loss "one recursion" "depth: {kind: mor, recursions: 1, sharing: cycle, routing: none}"
same_loss "learned residuals at their beginning" "residual: {kind: laurel, rank: 4, previous: 3}"
same_loss "one segment" "attention: {kind: infini, segment: 32}"

# Eight stored layers that are equal, and one stored layer used eight times.
sed 's/layers: 8/layers: 1/; s/folder: dense/folder: single/' dense.yaml >single.yaml
must "training one layer" 1 train single.yaml
for recursions in 1 8; do
    model "depth: {kind: mor, recursions: $recursions, sharing: cycle, routing: none}"
    must "eight times one layer" 1 checkpoint convert single eight.$recursions --to new.yaml
    loss_of new.yaml eight.$recursions >loss.$recursions
done
[ -s loss.1 ] && cmp -s loss.1 loss.8 || fail "equal layers: loss $(cat loss.1), used again: $(cat loss.8)"
say "the same loss $expected where the new model computes the same; $(cat loss.1) of eight equal layers and of one used eight times"

# Recursions get back what a mean leaves: all of it, so much of it, or nothing.
model "depth: {kind: recursive, recursions: 2, sharing: cycle}"
for choice in "--rank 24" "--energy 1" "--energy 0.5" "--rank 2"; do
    # shellcheck disable=SC2086
    convert "$choice" $choice || continue
    grep -q '^low-rank maps of 56 matrices: rank [0-9]* to [0-9]*, [0-9.]* in the mean; they keep [0-9.]* ' out ||
        fail "$choice does not say which ranks the maps have: $(cat out)"
    rank=$(sed -n 's/.* --set model.depth.lora_rank=//p' out)
    loss=$(must "eval after $choice" 1 eval new.yaml --checkpoint new --set "model.depth.lora_rank=$rank" &&
        sed -n 's/^loss \([0-9.]*\) .*/\1/p' out)
    distance=$(largest_deviation <(echo "1 $loss") <(echo "1 $expected"))
    echo "$choice: rank $rank, loss $loss" >>relaxed
    case $choice in
    "--rank 24" | "--energy 1")
        within "$distance" 1e-6 || fail "$choice: loss $loss instead of $expected"
        [ "$rank" -eq 24 ] || fail "$choice: rank $rank instead of 24"
        ;;
    "--rank 2") [ "$rank" -eq 2 ] || fail "$choice: rank $rank" ;;
    *) [ "$rank" -gt 1 ] && [ "$rank" -lt 24 ] || fail "$choice: rank $rank" ;;
    esac
done
must "two ranks decompose" 2 checkpoint convert dense two --to new.yaml --rank 3 --set mesh.tensor=2 &&
    must "one rank decomposes" 1 checkpoint convert dense one --to new.yaml --rank 3 &&
    must "the same maps" 1 checkpoint diff one two
must "training goes on from them" 2 train new.yaml --set run.folder=two --set model.depth.lora_rank=3
say "recursions with low-rank maps: $(paste -sd ';' relaxed)"

# LoRA maps: nothing at first, alone in learning, and in the matrices at the end.
same_loss "fresh LoRA maps" "lora: {rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj]}"
if must "training LoRA maps" 1 train new.yaml --set run.folder=new; then
    tuned=$(checkpoint_of new 4)
    for part in embed_tokens layers.7.self_attn.q_proj layers.0.mlp.down_proj norm; do
        same_values "what is frozen" "$tuned" "/parameters/model.$part.weight" "$source"
    done
    numbers_of "$tuned" /parameters/model.layers.5.self_attn.v_proj.lora_up.weight | grep -qv '^0$' ||
        fail "LoRA maps: they have not learned"
    h5dump -n "$tuned" >names
    grep -q '/optimizer/m/model.layers.0.mlp.down_proj.lora_down.weight' names || fail "LoRA maps have no moments"
    grep -q '/optimizer/m/model.layers.0.mlp.down_proj.weight' names && fail "what is frozen has moments"
    must "the same on two ranks" 1 checkpoint convert dense split --to new.yaml &&
        must "two ranks train LoRA maps" 2 train new.yaml --set run.folder=split --set mesh.tensor=2 &&
        must "as one does" 1 checkpoint diff new split --tolerance 1e-4
    expected_tuned=$(loss_of new.yaml new)
    must "merging" 1 checkpoint convert new merged --merge-lora
    must "merging on two ranks" 2 checkpoint convert new merged.2 --merge-lora &&
        must "the same merged" 1 checkpoint diff merged merged.2
    loss=$(loss_of dense.yaml merged)
    within "$(largest_deviation <(echo "1 $loss") <(echo "1 $expected_tuned"))" 1e-6 ||
        fail "merged: loss $loss instead of $expected_tuned"
    run 1 export new exported
    [ "$status" -eq 2 ] && grep -q 'model.lora.rank 4: bring the LoRA maps into the model first' err ||
        fail "LoRA maps should be merged before they are exported: $(last_words)"
    must "export of what is merged" 1 export merged exported &&
        must "import with LoRA maps" 1 import exported imported --set model.lora.rank=2 &&
        h5dump -n "$(checkpoint_of imported 0)" | grep -q '/model.layers.3.mlp.up_proj.lora_up.weight' ||
        fail "import gives no LoRA maps"
    say "LoRA maps: loss $expected at first, $expected_tuned trained and merged"
fi

# Each dataset is told of as it is read, once the file's hashes have been.
slowly "long conversion" 1 checkpoint convert dense slow --to new.yaml
[ "$(grep -c '^reading: 0 of 0 MiB, .* left$' err)" -ge 12 ] || fail "a long conversion does not say how far it is: $(cat err)"
slowly "long reading" 1 eval dense.yaml --set run.folder=dense
[ "$(grep -c '^reading: ' err)" -ge 60 ] || fail "long reading does not say how far it is: $(cat err)"

# -- What does not fit -----------------------------------------------------------------------------------------------------

refused() { # PATTERN ARGUMENT...
    local pattern=$1
    shift
    rm -rf refused
    run "$RANKS" checkpoint convert "$@"
    [ "$status" -eq 2 ] && grep -q "^cairn: .*$pattern" err || fail "should end with 2 and name $pattern: $(last_words)"
    [ "$(grep -c '^cairn: ' err)" -eq 1 ] || fail "should say once what is wrong: $(grep '^cairn: ' err)"
    [ -z "$(find . -path './refused/*.h5')" ] || fail "$pattern: a checkpoint was written all the same"
}

model "depth: {kind: mor, recursions: 2, routing: none}"
for RANKS in 1 2; do
    refused 'mlp.gate_proj.weight has shape \[40, 24\], but .*mlp.gate_proj.weight .* has \[44, 24\]' \
        dense refused --to new.yaml --set model.hidden=44
    refused 'model.rope_base: 10000' dense refused --to new.yaml --set model.rope_base=500
    refused 'model.tied_embeddings: false' dense refused --to new.yaml --set model.tied_embeddings=true
    refused 'has 8 layers, but a token takes 14' dense refused --to new.yaml --set model.layers=14 --initialization average
    refused '8 layers are too few for 9 stored' dense refused --to new.yaml --set model.layers=16 --initialization lower
    refused 'model.layers: 8 in ' dense refused --to dense.yaml --set model.layers=7
    refused 'only models with model.depth.kind fixed' eight.8 refused --to new.yaml
    refused '--initialization: expected stepwise' dense refused --to new.yaml --initialization middle
    refused 'holds checkpoints of a run' dense new --to new.yaml
    refused 'convert SOURCE OUTPUT' dense refused
    refused 'convert SOURCE OUTPUT' dense refused --to new.yaml --merge-lora
    refused 'has no LoRA maps: model.lora.rank is 0' dense refused --merge-lora
    refused 'has LoRA maps, .* --merge-lora' "$tuned" refused --to dense.yaml
    refused '--rank: has no meaning with --merge-lora' "$tuned" refused --merge-lora --rank 3
    refused 'name one of the two' dense refused --to new.yaml --rank 3 --energy 0.5
    refused '--energy: expected a share above 0' dense refused --to new.yaml --energy 0
    refused '--rank: expected --initialization average' dense refused --to new.yaml --rank 3 --initialization lower
    refused 'at most model.width (24), got 25' dense refused --to new.yaml --rank 25
    refused 'expected 0, or model.depth.kind mor' dense refused --to dense.yaml --rank 2
    refused 'ranks' dense refused --to new.yaml --set mesh.tensor=3
done
RANKS=1
model "residual: {kind: laurel, weights: true}"
rm -rf weighted
must "learned residuals" 1 checkpoint convert dense weighted --to new.yaml
refused 'no place for model.layers.0.attn_residual.weights' weighted refused --to dense.yaml
say "what does not fit is refused by name"

# What runs of the new model leave alone gets its values, too, and they go on from them.
model "attention: {kind: infini, segment: 16}"
convert "all of a model with a memory" && mv new whole
convert "a model of which only the gates learn" --set 'training.train_only=*.memory_gate' --set optimizer.gate_lr_factor=30
must "the same values" 1 checkpoint diff whole new
if must "training the gates" 1 train new.yaml --set run.folder=new --set 'training.train_only=*.memory_gate' \
    --set optimizer.gate_lr_factor=30; then
    grep -q 'of which 0.00 million are trained,' out err 2>/dev/null || fail "nothing says how much is trained"
    h5dump -n "$(checkpoint_of new 4)" | grep -q '/optimizer/m/model.layers.0.self_attn.memory_gate' || fail "gates have no moments"
    h5dump -n "$(checkpoint_of new 4)" | grep -q '/optimizer/m/model.embed_tokens' && fail "what is frozen has moments"
    numbers_of "$(checkpoint_of new 4)" /parameters/model.layers.7.mlp.up_proj.weight >kept
    numbers_of "$source" /parameters/model.layers.7.mlp.up_proj.weight | cmp -s - kept || fail "what is frozen has changed"
fi

finish
