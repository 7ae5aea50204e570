#!/bin/bash
# A step allocates nothing once the run is under way, and 500 steps later the memory is what it was.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=520
EARLY=50
text_file text.txt 800
cat >run.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 4, kv_heads: 2, hidden: 64}
data: {train: text.txt, validation_fraction: 0.1}
optimizer: {learning_rate: 1e-3, warmup_steps: 5}
training: {steps: $STEPS, batch: 4, micro_batch: 1, sequence_length: 24}
END

# All that metrics.jsonl tells of them is gathered in every step.
MEMORIES_AND_ROUTERS=(--set model.attention.kind=infini --set model.attention.segment=8 --set data.sampling=stream
    --set model.depth.kind=mod --set model.depth.capacity=0.25)

SETTLED=2 # the step after which nothing is allocated any more

steady() { # NAME ARGUMENT...
    local name=$1 allocating changing resident limit
    shift
    rm -rf run
    must "$name" 2 train run.yaml --set run.folder=run "$@" || return
    steps_are run 1 $STEPS || fail "$name: the metrics have not each step once"
    allocating=$(values run step_allocations | awk -v settled=$SETTLED '$1 > settled && $2 != 0' | wc -l)
    [ "$(values run step_allocations | wc -l)" -eq $STEPS ] || fail "$name: not every step has step_allocations"
    [ "$allocating" -eq 0 ] || fail "$name: $allocating steps after step $SETTLED allocate"
    changing=$(values run memory_bytes | awk -v settled=$SETTLED '$1 > settled { print $2 }' | sort -u | paste -sd ' ')
    case $changing in *' '*) fail "$name: memory_bytes changes after step $SETTLED, it is each of $changing" ;; esac
    resident=$(values run memory_resident_bytes | awk -v early=$EARLY '$1 == early || $1 == 500 { print $2 }' | paste -sd ' ')
    limit=$(echo "$resident" | awk '{ more = 0.02 * $1; print (more > 1048576 ? more : 1048576) }')
    echo "$resident" | awk -v limit="$limit" '{ exit !(NF == 2 && $2 - $1 <= limit) }' ||
        fail "$name: resident at step $EARLY and 500: $resident bytes"
    say "$name: 0 allocations in $((STEPS - SETTLED - allocating)) steps, $(values run memory_bytes | tail -n 1 | cut -d ' ' -f 2) bytes," \
        "resident $(echo "$resident" | awk '{ printf "%.2f MiB, %+.3f MiB from step 50 to 500", $1 / 1048576, ($2 - $1) / 1048576 }')"
}

steady "tensor 2" --set mesh.tensor=2
steady "pipeline 2, recompute layer" --set mesh.pipeline=2 --set compute.recompute=layer
steady "tensor 2, bf16, recompute attention" --set mesh.tensor=2 --set compute.type=bf16 --set compute.recompute=attention
steady "data 2 in buckets of 16 KiB" --set mesh.data=2 --set compute.bucket_bytes=16384
steady "memories and routers, tensor 2" --set mesh.tensor=2 "${MEMORIES_AND_ROUTERS[@]}"
steady "memories and routers, pipeline 2" --set mesh.pipeline=2 "${MEMORIES_AND_ROUTERS[@]}"
steady "memories, data 2, checkpoints behind the training" --set mesh.data=2 "${MEMORIES_AND_ROUTERS[@]}" \
    --set checkpoint.every=20 --set checkpoint.background=true
# Evaluations and checkpoints take their memory the first time, at step 20.
SETTLED=20
steady "data 2 with evaluations and checkpoints" --set mesh.data=2 --set evaluation.every=20 --set evaluation.batches=2 \
    --set checkpoint.every=20

finish
