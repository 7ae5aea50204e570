#!/bin/bash
# A run gives the same losses and the same parameters on every mesh of up to 8 ranks as on one rank, for shapes that
# divide by nothing: each step's loss to 1e-5, the final parameters and moments to 1e-4 norm-wise.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=20
token_file tokens.bin 20000 211

# The optimiser divides by the gradient's own size, so a gradient of nothing but rounding would move a weight as far as
# a large one; the epsilon lies above the rounding of these gradients (about 1e-9) and below their size (about 1e-4).
cat >llama.yaml <<END
model: {vocabulary: 211, width: 60, layers: 5, heads: 6, kv_heads: 3, head_width: 10, hidden: 100,
        tied_embeddings: true}
data: {train: tokens.bin, validation_fraction: 0}
optimizer: {learning_rate: 3e-3, warmup_steps: 5, clip: 0.5, epsilon: 1e-6}
training: {steps: $STEPS, batch: 12, micro_batch: 2, sequence_length: 31}
END
sed 's/kv_heads: 3/kv_heads: 6, mlp: gelu, norm: layer, positions: learned, max_positions: 31, bias: true/' \
    llama.yaml >gpt2.yaml
sed 's/kv_heads: 3/kv_heads: 1, parallel_block: true/' llama.yaml >palm.yaml
sed 's/kv_heads: 3/kv_heads: 2, norm: layer, bias: true/' llama.yaml >biased.yaml

meshes=0
worst_loss=0
worst_parameter=0
ignored='^$'

larger() { awk -v a="$1" -v b="$2" 'BEGIN { print (a + 0 > b + 0 ? a : b) }'; }

reference() {
    must "$1, one rank" 1 train "$1.yaml" --set "run.folder=$1.one" || give_up "$1: nothing to compare with"
    losses "$1.one" >"$1.losses"
    steps_are "$1.one" 1 $STEPS || fail "$1, one rank: metrics.jsonl has not each step once"
    local clipped
    clipped=$(values "$1.one" grad_norm | awk '$2 > 0.5' | wc -l)
    say "$1: one rank, loss $(sed -n '1s/.* //p' "$1.losses") to $(sed -n '$s/.* //p' "$1.losses")," \
        "gradients clipped in $clipped of $STEPS steps"
    [ "$clipped" -gt 0 ] || fail "$1: no gradient was clipped"
}

# check MODEL NAME: the run on $ranks ranks with the arguments in MESH against the one on one rank.
check() {
    local name="$1, $2"
    local deviation
    rm -rf many
    meshes=$((meshes + 1))
    must "$name" "$ranks" train "$1.yaml" --set run.folder=many "${MESH[@]}" || return
    losses many >many.losses
    deviation=$(largest_deviation many.losses "$1.losses")
    within "$deviation" 1e-5 || fail "$name: losses deviate by $deviation"
    compare_checkpoints "$(checkpoint_of many $STEPS)" "$(checkpoint_of "$1.one" $STEPS)" 1e-4 "$ignored" ||
        fail "$name: $furthest deviates by $largest"
    say "$name: losses to $deviation, parameters and moments to $largest"
    worst_loss=$(larger "$deviation" "$worst_loss")
    worst_parameter=$(larger "$largest" "$worst_parameter")
}

check_mesh() {
    local model=$1
    shift
    mesh "$@"
    check "$model" "$(mesh_name "$@")"
}

refused() {
    mesh "$@"
    run "$ranks" train llama.yaml --set run.folder=refused "${MESH[@]}"
    [ "$status" -eq 2 ] || fail "$(mesh_name "$@"): should be refused with exit 2, $(last_words)"
}

reference llama
for data in 1 2 3 4 5 6 7 8; do
    for pipeline in 1 2 3 4 5; do
        for tensor in 1 2 3 4 5 6; do
            size=$((data * pipeline * tensor))
            [ $size -gt 1 ] && [ $size -le 8 ] && check_mesh llama $data $pipeline $tensor
        done
    done
done
refused 1 6 1
refused 1 1 7
refused 1 3 1 2

check_mesh llama 1 2 1 2
check_mesh llama 1 2 2 2
check_mesh llama 3 2 1 2
for recompute in attention layer; do
    for shape in "1 1 1" "1 2 1 2" "2 1 2"; do
        mesh $shape
        MESH+=(--set "compute.recompute=$recompute")
        check llama "$(mesh_name $shape), recompute $recompute"
    done
done
mesh 3 1 2
MESH+=(--set compute.bucket_bytes=4096)
check llama "$(mesh_name 3 1 2), small buckets"

for model in gpt2 palm biased; do
    # Without rotation a key's bias adds the same to all scores of a query, which the softmax does not see: its gradient
    # is nothing but rounding, and so is the bias. With rotation (biased) it counts.
    ignored='^$'
    [ $model = gpt2 ] && ignored='k_proj.bias:$'
    reference $model
    check_mesh $model 3 1 1
    check_mesh $model 1 1 4
    check_mesh $model 2 2 2
    check_mesh $model 1 2 3 2
done

say "$meshes meshes of four models: losses to $worst_loss, parameters and moments to $worst_parameter"
# -- Fewer threads than asked for ------------------------------------------------------------------------------------------

# Variables of OpenMP that would give regions fewer threads change nothing, or cost speed and are told.
text_file threads.txt 600
cat >threads.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64}
compute: {threads: 2}
data: {train: [threads.txt], format: bytes}
training: {steps: 2, batch: 4, sequence_length: 32}
END
must "two threads" 1 train threads.yaml --set run.folder=threads
losses threads >threads.losses
values threads validation_loss >>threads.losses
for variable in OMP_DYNAMIC=true OMP_MAX_ACTIVE_LEVELS=0 OMP_THREAD_LIMIT=1 OMP_NESTED=true; do
    rm -rf fewer
    export "${variable?}"
    must "$variable" 1 train threads.yaml --set run.folder=fewer
    unset "${variable%%=*}"
    cp err fewer.err
    losses fewer >fewer.losses
    values fewer validation_loss >>fewer.losses
    within "$(largest_deviation fewer.losses threads.losses)" 1e-5 ||
        fail "$variable: the losses are $(paste -sd ' ' fewer.losses), with two threads $(paste -sd ' ' threads.losses)"
    told=$(grep -c '1 of 2 threads that were asked for are not granted' fewer.err)
    [ "$told" -eq "$([ "$variable" = OMP_THREAD_LIMIT=1 ] && echo 1 || echo 0)" ] ||
        fail "$variable: it is told $told times: $(cat fewer.err)"
done

finish
