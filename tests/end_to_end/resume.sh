#!/bin/bash
# A run that was stopped and resumed ends as one in a row: bit for bit on the same mesh, to 1e-5 of the loss on another,
# with each step once in the metrics.
set -u
. "$(dirname "$0")/library.sh" "$@"

text_file text.txt 1500
cat >run.yaml <<END
model: {vocabulary: 256, width: 48, layers: 4, heads: 4, kv_heads: 2, hidden: 100}
data: {train: text.txt, validation_fraction: 0.02}
optimizer: {learning_rate: 3e-3, warmup_steps: 5}
training: {steps: 20, batch: 8, micro_batch: 2, sequence_length: 40}
run: {folder: run}
END

train() { # NAME RANKS FOLDER ARGUMENT...
    local name=$1 count=$2 folder=$3
    shift 3
    must "$name" "$count" train run.yaml --set "run.folder=$folder" "$@"
}

# The losses of two runs, in text, are the same and of the steps 1 to 20.
same_losses() { # NAME FOLDER REFERENCE
    steps_are "$2" 1 20 || fail "$1: the metrics have the steps $(losses "$2" | cut -d ' ' -f 1 | paste -sd ' ')"
    [ "$(losses "$2")" = "$(losses "$3")" ] ||
        fail "$1: the losses differ, first $(diff <(losses "$2") <(losses "$3") | sed -n 2p)"
}

bitwise() { # NAME FOLDER REFERENCE
    identical "$1" "$(checkpoint_of "$2" 20)" "$(checkpoint_of "$3" 20)" || return
    same_losses "$1" "$2" "$3"
}

# -- The same mesh, bit for bit ------------------------------------------------------------------------------------------

shapes=("1 1 1" "1 1 2" "1 2 1" "2 1 1" "2 2 1" "2 1 2")
for type in fp32 bf16; do
    for shape in "${shapes[@]}"; do
        mesh $shape
        name="$type, $(mesh_name $shape)"
        MESH+=(--set "compute.type=$type")
        row="$type.${shape// /.}.row"
        half="$type.${shape// /.}.half"
        before=$failures
        train "$name, in a row" $ranks "$row" "${MESH[@]}" || continue
        train "$name, first half" $ranks "$half" "${MESH[@]}" --set training.stop_at=10 || continue
        steps_are "$half" 1 10 || fail "$name: stop_at=10 did not stop after step 10"
        cp -r "$half" "$half.kept"
        train "$name, second half" $ranks "$half" "${MESH[@]}" || continue
        grep -q "resuming after step 10 " err || fail "$name: the second half did not say that it resumes after step 10"
        bitwise "$name" "$half" "$row"
        [ $failures -eq $before ] && say "$name: 10 + 10 steps are bit for bit 20, loss $(losses "$row" | tail -n 1)"
    done
done

# -- In the middle of the warm-up of the routers' capacity ---------------------------------------------------------------

for kind in mod mor; do
    for shape in "1 1 1" "1 2 1"; do
        mesh $shape
        name="$kind, $(mesh_name $shape)"
        MESH+=(--set "model.depth.kind=$kind" --set model.layers=8 --set training.capacity_warmup_steps=14)
        row="$kind.${shape// /.}.row"
        half="$kind.${shape// /.}.half"
        before=$failures
        train "$name, in a row" $ranks "$row" "${MESH[@]}" || continue
        train "$name, first half" $ranks "$half" "${MESH[@]}" --set training.stop_at=10 || continue
        train "$name, second half" $ranks "$half" "${MESH[@]}" || continue
        bitwise "$name" "$half" "$row"
        [ $failures -eq $before ] && say "$name: 10 + 10 steps are bit for bit 20, loss $(losses "$row" | tail -n 1)"
    done
    deviation=$(largest_deviation <(losses $kind.1.2.1.row) <(losses $kind.1.1.1.row))
    within "$deviation" 1e-5 || fail "$kind: losses of two stages deviate by $deviation from those of one rank"
done

# -- The second half on another mesh -------------------------------------------------------------------------------------

row=fp32.1.1.1.row
for pair in "1 1 1:2 2 1" "2 2 1:1 1 1" "1 1 2:1 2 1" "1 2 1:2 1 2" "2 1 2:1 4 1"; do
    first=${pair%:*}
    second=${pair#*:}
    name="$(mesh_name $first), then $(mesh_name $second)"
    rm -rf changed
    cp -r "fp32.${first// /.}.half.kept" changed
    mesh $second
    train "$name" $ranks changed "${MESH[@]}" || continue
    steps_are changed 1 20 || fail "$name: the metrics have not each step once"
    deviation=$(largest_deviation <(losses changed) <(losses $row))
    within "$deviation" 1e-5 || fail "$name: losses deviate by $deviation"
    say "$name: losses to $deviation"
done

# -- The metrics of a run that went on after its last checkpoint -----------------------------------------------------------

half=fp32.1.1.1.half.kept

# later NAME COMMAND: resumes a copy of the first half that COMMAND has changed.
later() {
    rm -rf copy
    cp -r $half copy
    (cd copy && eval "$2") || give_up "$1: $2 failed"
    train "$1" 1 copy || return
    bitwise "$1" copy $row && say "$1: each step once, bit for bit"
}

rm -rf further
cp -r $half further
train "four steps more" 1 further --set training.stop_at=14
steps_are further 1 14 || fail "four steps more: the metrics do not have the steps 1 to 14"
later "metrics four steps ahead of the checkpoint" "cp ../further/metrics.jsonl ."
later "metrics with a torn last line" "cp ../further/metrics.jsonl . && truncate -s -30 metrics.jsonl"
later "metrics that end with half a line of the step to come" "printf '{\"step\":11,\"tok' >>metrics.jsonl"
later "latest names a file that is gone" "echo step-00000099.h5 >checkpoints/latest"
later "no file latest" "rm checkpoints/latest"
later "a torn write beside the checkpoint" "head -c 5000 checkpoints/step-00000010.h5 >checkpoints/.step-00000012.h5.partial"
[ -z "$(partial_files copy)" ] || fail "a torn write was left: $(partial_files copy)"

# A finished run that is started again has nothing to do and says nothing twice.
rm -rf again
cp -r $row again
train "finished run started again" 1 again
cmp -s again/metrics.jsonl $row/metrics.jsonl ||
    fail "finished run started again: metrics.jsonl changed: $(diff $row/metrics.jsonl again/metrics.jsonl | sed -n 2p)"
identical "finished run started again" "$(checkpoint_of again 20)" "$(checkpoint_of $row 20)"

# -- --resume ------------------------------------------------------------------------------------------------------------

file=$(checkpoint_of $half 10)
train "--resume FILE in a new folder" 1 new --resume "$file" &&
    identical "--resume FILE in a new folder" "$(checkpoint_of new 20)" "$(checkpoint_of $row 20)"
steps_are new 11 20 || fail "--resume FILE in a new folder: the metrics do not have the steps 11 to 20"

# Back to step 10 in the folder of a finished run.
rm -rf back
cp -r $row back
train "--resume FILE in its own folder" 1 back --resume "$file" && bitwise "--resume FILE in its own folder" back $row

# Starting anew loses nothing of what was there.
rm -rf anew
cp -r $half anew
train "--resume none" 1 anew --resume none --set optimizer.learning_rate=1e-3
steps_are anew 1 20 || fail "--resume none: the new run does not have the steps 1 to 20"
[ "$(losses anew | tail -n 1)" != "$(losses $row | tail -n 1)" ] || fail "--resume none: the new run is the old one"
cmp -s anew/checkpoints.1/step-00000010.h5 "$file" || fail "--resume none: the old checkpoint is not in checkpoints.1"
cmp -s anew/metrics.jsonl.1 $half/metrics.jsonl || fail "--resume none: the old metrics are not in metrics.jsonl.1"
cmp -s anew/config.yaml.1 $half/config.yaml || fail "--resume none: the old configuration is not in config.yaml.1"
train "--resume none again" 1 anew --resume none --set training.steps=5
steps_are anew 1 5 || fail "--resume none again: the new run does not have the steps 1 to 5"
[ -f anew/checkpoints.2/step-00000020.h5 ] && [ -f anew/checkpoints.1/step-00000010.h5 ] ||
    fail "--resume none again: checkpoints.1 and checkpoints.2 do not hold the runs before"
say "--resume: FILE in a new folder and back in its own, none twice"

finish
