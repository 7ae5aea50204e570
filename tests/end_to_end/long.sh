#!/bin/bash
# Long contexts: a carried memory gives the loss of the whole sequence passed at once, on any mesh; its length costs no
# space; the passkey task is written, read and marked.
set -u
. "$(dirname "$0")/library.sh" "$@"

text_file text.txt 300
cat >infini.yaml <<END
model: {vocabulary: 256, width: 32, layers: 5, heads: 4, kv_heads: 2, hidden: 48, attention: {kind: infini, segment: 8}}
data: {train: text.txt, validation_fraction: 0.2}
optimizer: {learning_rate: 1e-2, gate_lr_factor: 10}
training: {steps: 30, batch: 4, micro_batch: 2, sequence_length: 48}
END
sed 's/segment: 8/segment: 8, memory_update: delta/' infini.yaml >delta.yaml
sed 's/segment: 8}/segment: 8}, depth: {kind: mod, capacity: 0.4}/' infini.yaml >routed.yaml
sed 's/segment: 8}/segment: 8}, depth: {kind: mor, recursions: 3, sharing: middle_cycle}/' infini.yaml >recursive.yaml
sed 's/, attention.*}}/}/' infini.yaml >causal.yaml

# field NAME: of the JSON object in the file out.
field() { grep -o "\"$1\": *[^,}]*" out | head -n 1 | sed 's/.*: *//; s/"//g'; }

# loss NAME RANKS ARGUMENT...: sets $loss.
loss() {
    local name=$1 count=$2
    shift 2
    loss=none
    must "$name" "$count" eval "$@" --json && loss=$(field loss)
}

# near NAME A B: equal to 1e-5, relative.
near() {
    printf '1 %s\n' "$2" >left
    printf '1 %s\n' "$3" >right
    local deviation
    deviation=$(largest_deviation left right)
    within "$deviation" 1e-5 || fail "$1: $2 instead of $3"
}

differs() { [ "$2" != "$3" ] || fail "$1: both are $2"; }

# -- Windows with a carried memory are one sequence ----------------------------------------------------------------------

for model in infini delta routed recursive; do
    must "training $model" 1 train $model.yaml --set run.folder=$model || give_up "no model"
    eval=($model.yaml --checkpoint $model)
    for length in 96 84; do # six windows of 16, and a short last one
        loss "$model, $length at once" 1 "${eval[@]}" --context-length $length --set training.sequence_length=$length
        whole=$loss
        for mesh in "1 1 1" "2 2 1" "2 1 2" "2 1 1 2" "2 1 1 1 2"; do
            set -- $mesh 1 1 1 1
            name="$model, $length in windows, context $2, tensor $3, data $4, pipeline $5"
            loss "$name" "$1" "${eval[@]}" --context-length $length --set training.sequence_length=16 \
                --set mesh.context=$2 --set mesh.tensor=$3 --set mesh.data=$4 --set mesh.pipeline=$5
            near "$name" "$loss" "$whole"
        done
    done
    say "$model: $whole at once and in windows on 5 meshes"
done

# -- What the options change ---------------------------------------------------------------------------------------------

eval=(infini.yaml --checkpoint infini)
loss "memory on" 1 "${eval[@]}" --context-length 96
on=$loss
loss "memory off" 1 "${eval[@]}" --context-length 96 --memory off
[ "$(field memory)" = off ] || fail "memory off is not said: $(cat out)"
differs "memory on and off" "$on" "$loss"
loss "one segment" 1 "${eval[@]}" --context-length 8
on=$loss
loss "one segment, memory off" 1 "${eval[@]}" --context-length 8 --memory off
near "one segment needs no memory" "$loss" "$on"
eval=(routed.yaml --checkpoint routed)
loss "causal routing" 1 "${eval[@]}"
[ "$(field routing)" = causal ] || fail "causal routing is not said: $(cat out)"
causal=$loss
loss "whole routing" 1 "${eval[@]}" --routing whole
[ "$(field routing)" = whole ] || fail "whole routing is not said: $(cat out)"
differs "causal and whole routing" "$causal" "$loss"

must "training causal" 1 train causal.yaml --set run.folder=causal --set training.steps=2
# refused NAME ARGUMENT...: a usage error.
refused() {
    local name=$1
    shift
    run 1 eval "$@"
    [ "$status" -eq 2 ] || fail "$name: should be refused with exit 2, $(last_words)"
}
refused "a window of part segments" infini.yaml --checkpoint infini --context-length 96 --set training.sequence_length=20
grep -q 'sequence_length=16 fits' err || fail "what fits is not said: $(last_words)"
refused "memory of a model without" causal.yaml --checkpoint causal --memory off
refused "routing of a model without" causal.yaml --checkpoint causal --routing whole
refused "a task without lengths" infini.yaml --checkpoint infini --task passkey
refused "a length without room" infini.yaml --checkpoint infini --task passkey --lengths 100
loss "causal, longer than in training" 1 causal.yaml --checkpoint causal --context-length 96
[ "$(field window)" = 96 ] || fail "a causal model reads its context at once, not in windows of $(field window)"

# -- Length costs no space -----------------------------------------------------------------------------------------------

text_file long.txt 7000
eval=(infini.yaml --checkpoint infini --data long.txt --set training.batch=1)
for length in 4096 262144; do
    loss "a context of $length" 1 "${eval[@]}" --context-length $length
    field memory_resident_bytes
done >resident
awk 'NR == 1 { first = $1 } END { exit !(NR == 2 && $1 < first + 4e6) }' resident ||
    fail "resident bytes grow with the context: $(xargs <resident)"

# -- Passkey -------------------------------------------------------------------------------------------------------------

must "writing samples" 1 data passkey pass.samples --length 300 --count 40 --seed 3
[ "$(size_of pass.samples)" -eq $((48 + 300 * 40)) ] || fail "samples: $(size_of pass.samples) bytes"
must "again" 2 data passkey again.samples --length 300 --count 40 --seed 3
cmp -s pass.samples again.samples || fail "the same seed writes other samples"
tail -c +49 pass.samples | fold -w 300 | awk '{
    answer = substr($0, 296)
    if (length($0) != 300 || split($0, parts, answer) != 4 || answer !~ /^[0-9]+$/) wrong++
} END { exit wrong > 0 }' || fail "a sample without its key twice and its answer"
must "training on samples" 1 train infini.yaml --set run.folder=samples --set data.train=pass.samples \
    --set data.validation=again.samples --set data.sampling=stream --set training.sequence_length=100
loss "samples" 1 infini.yaml --checkpoint samples --data pass.samples --context-length 300 \
    --set training.sequence_length=96
[ "$(field targets)" -eq 200 ] || fail "only the 5 digits of each of 40 samples count, not $(field targets)"
must "the task" 1 eval infini.yaml --checkpoint samples --task passkey --lengths 256,1000 --count 3 --json
expected=$(grep -o '"right": *[0-9]*\|"digit_accuracy": *[0-9.e-]*' out | xargs)
[ "$(printf '%s\n' "$expected" | grep -o right | wc -l)" -eq 6 ] || fail "not two lengths of three places: $(cat out)"
must "the task on two ranks" 2 eval infini.yaml --checkpoint samples --task passkey --lengths 256,1000 --count 3 --json \
    --set mesh.tensor=2
[ "$(grep -o '"right": *[0-9]*\|"digit_accuracy": *[0-9.e-]*' out | xargs)" = "$expected" ] ||
    fail "the task on two ranks gives other scores"
# A model that answers 7, whatever it is asked, has some digits right and no key.
yes 7 | tr -d '\n' | head -c 20000 >sevens.txt
must "training on sevens" 1 train infini.yaml --set run.folder=sevens --set data.train=sevens.txt \
    --set optimizer.learning_rate=1e-2 --set training.steps=20
must "sevens" 1 eval infini.yaml --checkpoint sevens --task passkey --lengths 256 --count 10 --json
grep -o '"\(right\|digit_accuracy\)": *[0-9.e-]*' out | awk '
    /right/ && $2 != 0 { wrong = 1 }
    /digit/ { sum += $2; n++ }
    END { exit wrong || n != 3 || sum / n < 0.03 || sum / n > 0.25 }' || fail "sevens: $(cat out)"
truncate -s -1 pass.samples
refused_data() { run 1 eval infini.yaml --checkpoint samples --data pass.samples; }
refused_data
[ "$status" -eq 1 ] && grep -q 'pass.samples: .*truncated' err || fail "truncated samples: $(last_words)"

finish
