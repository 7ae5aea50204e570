#!/bin/bash
# Infini-attention over streams of documents: memories are carried from step to step, lie in the checkpoint in the form
# of io/README.md, Checkpoint, and a run that was stopped in the midst of documents goes on with them on any mesh: bit
# for bit on the same one, to 1e-5 of the loss on others; also when it was killed.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=12
HALF=5

# Seven documents of a few hundred to a few thousand bytes; 4 streams, so many windows that one takes several steps.
text_file text.txt 300
files=()
begin=1
for size in 1300 211 2400 90 1777 640 3001; do
    tail -c +$begin text.txt | head -c $size >"document$begin.txt"
    files+=("document$begin.txt")
    begin=$((begin + size))
done
cat >linear.yaml <<END
model: {vocabulary: 256, width: 32, layers: 4, heads: 4, kv_heads: 2, head_width: 6, hidden: 60,
        attention: {kind: infini, segment: 8}}
data: {train: [$(printf '%s, ' "${files[@]}" | sed 's/, $//')], validation_fraction: 0, sampling: stream}
optimizer: {learning_rate: 3e-3, warmup_steps: 2, clip: 0.5, epsilon: 1e-6}
training: {steps: $STEPS, batch: 4, micro_batch: 1, sequence_length: 45}
checkpoint: {keep_last: 9}
END
sed 's/segment: 8/segment: 8, memory_update: delta/' linear.yaml >delta.yaml
sed 's/segment: 8}/segment: 8, memory_update: gated_delta}, depth: {kind: mor, recursions: 2, sharing: cycle, '\
'cache: shared}/' linear.yaml >mor.yaml

# streams_mesh DATA PIPELINE CONTEXT TENSOR
streams_mesh() {
    mesh "$1" "$2" "$4"
    ranks=$((ranks * $3))
    MESH+=(--set "mesh.context=$3")
    name="data $1 x pipeline $2 x context $3 x tensor $4"
}

# train MODEL FOLDER ARGUMENT...: on the mesh that was named last.
train() {
    local model=$1 folder=$2
    shift 2
    must "$model, $name" "$ranks" train "$model.yaml" --set "run.folder=$folder" "${MESH[@]}" "$@"
}

# The second half of MODEL, in FOLDER, against the run in a row.
compare() { # MODEL FOLDER NAME
    local deviation
    steps_are "$2" 1 $STEPS || fail "$1, $3: the metrics have not each step once"
    deviation=$(largest_deviation <(losses "$2") <(losses "$1.row"))
    within "$deviation" 1e-5 || fail "$1, $3: losses deviate by $deviation"
    compare_checkpoints "$(checkpoint_of "$2" $STEPS)" "$(checkpoint_of "$1.row" $STEPS)" 1e-4 ||
        fail "$1, $3: $furthest deviates by $largest"
    say "$1, $3: losses to $deviation, parameters, moments and memories to $largest"
}

# -- In a row, and what the file holds -----------------------------------------------------------------------------------

# shapes FILE: "layers.0/norm {4, 2, 6}" for each dataset of the memory.
shapes() { h5ls -r "$1/memory" | sed -n 's/^\/\(layers[^ ]*\) *Dataset /\1 /p' | paste -sd ';'; }

expected() { # LAYER...
    local layer
    for layer in "$@"; do
        [ $model = mor ] || echo "layers.$layer/norm {4, 2, 6}" # the gated delta rule has no z
        echo "layers.$layer/state {4, 2, 6, 6}"
    done | paste -sd ';'
}

for model in linear delta mor; do
    streams_mesh 1 1 1 1
    train $model $model.row || give_up "$model: nothing to compare with"
    train $model $model.half --set training.stop_at=$HALF || give_up "$model: nothing to go on from"
    file=$(checkpoint_of $model.half $HALF)
    layers="0 1 2 3"
    [ $model = mor ] && layers="0 1"
    [ "$(shapes "$file")" = "$(expected $layers)" ] || fail "$model: /memory holds $(shapes "$file")"
    h5dump -d /memory/layers.1/state "$file" | grep -q '[1-9]' || fail "$model: the memory of layer 1 is empty"
done

# -- Held-out loss -------------------------------------------------------------------------------------------------------

# Its windows begin with an empty memory and have no padding, whatever the training batch before them had.
streams_mesh 1 1 1 1
sed 's/validation_fraction: 0/validation: [text.txt]/' linear.yaml >seen.yaml
train seen seen && values seen validation_loss >seen.trained
sed -i '/validation_loss/d' seen/metrics.jsonl
train seen seen && values seen validation_loss >seen.resumed
[ -s seen.trained ] && cmp -s seen.trained seen.resumed ||
    fail "held-out loss: $(cat seen.trained) behind training, $(cat seen.resumed) behind nothing"

# -- Resumed on the same mesh --------------------------------------------------------------------------------------------

for shape in "1 1 1 1" "1 1 2 1" "2 2 1 1"; do
    streams_mesh $shape
    rm -rf row half
    train linear row || continue
    train linear half --set training.stop_at=$HALF || continue
    train linear half || continue
    identical "$name" "$(checkpoint_of half $STEPS)" "$(checkpoint_of row $STEPS)" &&
        say "$name: $HALF + $((STEPS - HALF)) steps are bit for bit $STEPS"
    compare linear half "$name"
done

# -- Resumed on another mesh ---------------------------------------------------------------------------------------------

# other MODEL MESH MESH: the second half on another mesh than the first.
other() {
    local model=$1 first=$2 second=$3 before
    rm -rf changed
    streams_mesh $first
    before=$name
    train "$model" changed --set training.stop_at=$HALF || return
    streams_mesh $second
    train "$model" changed || return
    compare "$model" changed "$before, then $name"
}

other linear "1 1 1 1" "4 1 1 1"
other linear "4 1 1 1" "1 1 1 2"
other linear "1 1 4 1" "3 1 1 1"
other delta "2 1 1 2" "1 1 3 1"
other delta "1 1 2 2" "2 1 2 1"
other delta "1 4 1 1" "1 1 1 4"
other mor "1 2 2 1" "2 1 1 2"
other mor "2 1 2 1" "1 2 1 1"

# -- Resumed with other streams --------------------------------------------------------------------------------------------

streams_mesh 1 1 1 1
for setting in training.batch=3 training.sequence_length=30 data.seed=5 data.validation_fraction=0.2 data.format=bytes \
    data.train=text.txt; do
    rm -rf changed
    train linear changed --set training.stop_at=$HALF || continue
    run 1 train linear.yaml --set run.folder=changed --set "$setting"
    [ "$status" -eq 2 ] && grep -q "^cairn: .*: ${setting%=*} .*--accept-changes" err ||
        fail "$setting: is taken without a word: $(last_words)"
    train linear changed --set "$setting" --accept-changes || continue
    grep -q "written with ${setting%=*} .*memories begin empty; --set ${setting%=*}=.* goes on" err ||
        fail "$setting: nothing is said of memories that belong to other streams"
    steps_are changed 1 $STEPS || fail "$setting: the metrics have not each step once"
done

# -- Killed --------------------------------------------------------------------------------------------------------------

streams_mesh 1 1 2 1
train delta alone --set checkpoint.every=1
"$MPIRUN" -n 2 "$CAIRN" train delta.yaml --set run.folder=killed "${MESH[@]}" --set checkpoint.every=1 \
    >/dev/null 2>&1 </dev/null &
job=$!
for ((i = 0; i < 1000; i++)); do
    [ "$(losses killed 2>/dev/null | wc -l)" -ge 4 ] && break
    sleep 0.02
done
victim=$(pgrep -P $job | tail -n 1)
[ -n "$victim" ] && kill -9 "$victim"
wait $job 2>/dev/null
reached=$(losses killed | wc -l)
[ "$reached" -lt $STEPS ] || skip "the run was over before it could be killed"
train delta killed --set checkpoint.every=1
identical "killed after step $reached" "$(checkpoint_of killed $STEPS)" "$(checkpoint_of alone $STEPS)" &&
    say "killed after step $reached and resumed: bit for bit as one that was left alone"

finish
