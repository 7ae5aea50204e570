#!/bin/bash
# Checkpoints written behind the training are those that are written at once, memories of streams included, and a run
# goes on from any of them; a file that cannot be written costs a checkpoint, not the run.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=24
text_file text.txt 1500
text_file held.txt 40
cat >run.yaml <<END
model: {vocabulary: 256, width: 96, layers: 3, heads: 4, kv_heads: 2, hidden: 160,
        attention: {kind: infini, segment: 16}}
data: {train: text.txt, validation_fraction: 0, sampling: stream}
optimizer: {learning_rate: 1e-3, warmup_steps: 5}
training: {steps: $STEPS, batch: 3, micro_batch: 1, sequence_length: 48}
checkpoint: {every: 4, keep_last: 9}
END

for shape in "2 1 1" "1 1 2" "1 2 1"; do
    mesh $shape
    name=$(mesh_name $shape)
    rm -rf once behind
    must "$name, at once" "$ranks" train run.yaml --set run.folder=once "${MESH[@]}" || continue
    must "$name, behind" "$ranks" train run.yaml --set run.folder=behind --set checkpoint.background=true "${MESH[@]}" ||
        continue
    [ "$(losses behind)" = "$(losses once)" ] || fail "$name: the losses are others"
    written=$(grep -c '^checkpoint of step .* behind the training' err)
    reported=$(values behind checkpoint_held_seconds | wc -l)
    [ "$written" -ge 1 ] || fail "$name: none was written behind the training"
    [ "$reported" -eq $((written + 1)) ] || fail "$name: metrics.jsonl tells of $reported saves"
    [ "$(cat behind/checkpoints/latest)" = "$(basename "$(checkpoint_of behind $STEPS)")" ] ||
        fail "$name: latest is $(cat behind/checkpoints/latest)"
    [ -z "$(partial_files behind)" ] || fail "$name: left behind: $(partial_files behind)"
    same=0
    for file in behind/checkpoints/step-*.h5; do
        identical "$name" "$file" "once/checkpoints/$(basename "$file")" && same=$((same + 1))
    done
    [ $same -ge $((written + 1)) ] || fail "$name: $same equal files of $((written + 1))"
    say "$name: $same checkpoints equal to the bit, $written of them written behind the training"
done

# The last one is taken away, and the run goes on from what was written behind it.
newest=$(ls behind/checkpoints/step-*.h5 | tail -n 2 | head -n 1)
rm "$(checkpoint_of behind $STEPS)"
must "resumed" "$ranks" train run.yaml --set run.folder=behind --set checkpoint.background=true "${MESH[@]}" &&
    grep -q "^resuming .*$(basename "$newest")" err || fail "resumed: not from $newest: $(grep ^resuming err)"
[ "$(losses behind)" = "$(losses once)" ] || fail "resumed: the losses are others"
identical resumed "$(checkpoint_of behind $STEPS)" "$(checkpoint_of once $STEPS)"

# Those that are no longer kept go during the run, not only at its end: beside the two that stay there is the newest,
# which no step has proven yet.
"$CAIRN" train run.yaml --set run.folder=kept --set checkpoint.background=true --set checkpoint.every=1 \
    --set checkpoint.keep_last=2 --set training.steps=200 >out 2>err </dev/null &
job=$!
most=0
while kill -0 $job 2>/dev/null; do
    count=$(find kept/checkpoints -name 'step-*.h5' 2>/dev/null | wc -l)
    [ "$count" -le "$most" ] || most=$count
done
wait $job || fail "kept: $(tail -n 1 err)"
[ "$most" -ge 2 ] && [ "$most" -le 4 ] || fail "kept: at times there were $most checkpoints"

# When it pays is chosen also between evaluations: by a clock in which a minute is over soon, several times.
FAST_CLOCK=1000 slowly "chosen" 1 train run.yaml --set run.folder=chosen --set checkpoint.every=auto \
    --set data.validation=held.txt --set evaluation.every=1 --set evaluation.batches=1 --set training.steps=400 \
    --set job.mean_hours_between_failures=0.1
chosen=$(values chosen checkpoint_step | wc -l)
[ "$chosen" -ge 3 ] && [ "$chosen" -le 200 ] || fail "chosen: $chosen times in 400 steps"
say "chosen: $chosen checkpoints in 400 steps"

# A stop has to wait for the write on its way and for another. Writes are known to take 100 s, and half as long is kept
# in reserve, so 275 s are enough at step 2, before which a checkpoint is due, and not at step 3, while it is written.
mkdir timed
printf '{"start":1000,"step":0}\n{"end":1010,"step":0,"exit":85,"checkpoint_seconds":100}\n' >timed/starts.jsonl
run 1 train run.yaml --set run.folder=timed --set checkpoint.background=true --set checkpoint.every=2 \
    --set job.time_limit=4:35
[ "$status" -eq 85 ] && grep -q "^stopped after step 3 of $STEPS by the time limit of the job" err || fail "timed: $(cat err)"

# Something is in the way of one file.
mkdir -p blocked/checkpoints/.step-00000008.h5.partial/something
must "blocked" "$ranks" train run.yaml --set run.folder=blocked --set checkpoint.background=true \
    --set checkpoint.every=8 "${MESH[@]}"
[ "$(grep -c '^checkpoint of step .* failed: .*training goes on' err)" -eq 1 ] || fail "blocked: not reported as it should"
grep -q '^checkpoint of step 8 failed: .*/.step-00000008.h5.partial: cannot be created: ' err ||
    fail "blocked: $(grep failed err)"
[ ! -e "$(checkpoint_of blocked 8)" ] && [ -e "$(checkpoint_of blocked 16)" ] || fail "blocked: $(ls blocked/checkpoints)"
identical blocked "$(checkpoint_of blocked $STEPS)" "$(checkpoint_of once $STEPS)"

finish
