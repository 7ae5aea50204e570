#!/bin/bash
# Ranks that do not have the same run: two of them start in folders of their own that differ in one thing. All end at
# once, with the exit status of a usage error and one message that names what differs and where.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

LIMIT=30
for side in a b; do
    mkdir $side
    (cd $side && text_file text.txt 300 && text_file other.txt 200)
    cat >$side/run.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64}
mesh: {data: auto}
data: {train: text.txt, validation: other.txt, format: bytes}
training: {steps: 3, batch: 4, sequence_length: 32}
run: {folder: $WORK/run}
END
done
must "a run" 1 train a/run.yaml --set data.train=a/text.txt --set data.validation=a/other.txt || give_up "no run"
cp -r run keep
cp -r run/checkpoints a/saved
cp -r run/checkpoints b/saved
cp -r a a.kept
cp -r b b.kept

# together COMMAND OF a, COMMAND OF b, ENVIRONMENT OF b: words of the command line.
together() {
    # shellcheck disable=SC2086
    timeout -k 5 "$(limit)" "$MPIRUN" -n 1 --wdir "$WORK/a" "$CAIRN" $1 : -n 1 --wdir "$WORK/b" env ${3:-} "$CAIRN" $2 \
        >out 2>err </dev/null
    status=$?
}

# differ WORDS COMMAND [COMMAND OF b [ENVIRONMENT OF b]]
differ() {
    together "$2" "${3:-$2}" "${4:-}"
    [ "$status" -eq 2 ] || fail "$1: ends with $status: $(last_words)"
    [ "$(grep -c '^cairn:' err)" -eq 1 ] || fail "$1: $(grep -c '^cairn:' err) messages: $(cat err)"
    grep -q '^cairn: the ranks do not have the same run: ' err || fail "$1: $(last_words)"
    grep '^cairn:' err | grep -qF -- "$1" || fail "$1: the message is $(last_words)"
    grep '^cairn:' err | grep -q "on rank 1 (host .*); 1 of 2 ranks" || fail "$1: no place: $(last_words)"
    diff -r run keep >/dev/null || fail "$1: the run was changed"
    rm -rf a b run
    cp -r a.kept a
    cp -r b.kept b
    cp -r keep run
}

together "train run.yaml --set run.folder=$WORK/same" "train run.yaml --set run.folder=$WORK/same"
[ "$status" -eq 0 ] || fail "two folders that are alike: $(last_words)"

set_b() { sed -i "s/$1/$2/" b/run.yaml; }
set_b 'training: {' 'optimizer: {learning_rate: 1e-3}\ntraining: {'
differ "optimizer.learning_rate: 0.0003 on rank 0" "train run.yaml"
set_b 'steps: 3' 'steps: 5'
differ "training.steps: 3 on rank 0" "train run.yaml"
set_b 'width: 32' 'width: 64'
differ "model.width: 32 on rank 0" "train run.yaml"
set_b 'mesh: {data: auto}' 'mesh: {tensor: auto, data: 1}'
differ "mesh.data: auto on rank 0" "train run.yaml"
flip b/text.txt 3000 4
differ "data.train text.txt: " "train run.yaml"
echo more >>b/text.txt
differ "data.train text.txt: " "train run.yaml"
rm b/text.txt
differ "No such file or directory on rank 1" "train run.yaml"
echo more >>b/other.txt
differ "data.validation other.txt: " "eval run.yaml --checkpoint saved"
flip b/saved/step-00000003.h5 9000 1
differ "checkpoint saved/step-00000003.h5: " "eval run.yaml --checkpoint saved"
flip b/saved/step-00000003.h5 9000 1
differ "checkpoint saved/step-00000003.h5: " "generate --checkpoint saved/step-00000003.h5 --prompt the"
flip b/saved/step-00000003.h5 9000 1
differ "checkpoint saved/step-00000003.h5: " "train run.yaml --resume saved/step-00000003.h5"
differ "option --resume: auto on rank 0" "train run.yaml --resume auto" "train run.yaml --resume none"
differ "option --prompt: a on rank 0" "generate --checkpoint saved --prompt a" "generate --checkpoint saved --prompt b"
differ "option --steps: 1 on rank 0" "bench step run.yaml --quick --steps 1" "bench step run.yaml --quick --steps 2"
differ "tool: inspect on rank 0" "checkpoint inspect saved/step-00000003.h5" "checkpoint verify saved/step-00000003.h5"
differ "tool: kernels on rank 0" "bench kernels --quick" "bench collectives --quick"
flip b/saved/step-00000003.h5 9000 1
differ "checkpoint saved/step-00000003.h5: " "checkpoint verify saved/step-00000003.h5"
echo more >>b/other.txt
differ "other.txt: " "eval run.yaml --checkpoint saved --data other.txt"
differ "command: eval on rank 0" "eval run.yaml" "train run.yaml"
set_b 'heads: 2' 'heads: 4'
differ "model.heads: 2 on rank 0" "plan run.yaml --measure --steps 1"
set_b 'heads: 2' 'heads: 4'
differ "model.heads: 2 on rank 0" "bench step run.yaml --quick --steps 1"
differ "run.log_every: 1 on rank 0" "train run.yaml --set run.log_every=1" "train run.yaml --set run.log_every=2"

# The run's folder, seen by its lock; and checkpoints of one name in it, neither of which is damaged.
differ "run.folder, by its file own/lock: " "train run.yaml --set run.folder=own"
mkdir -p a.kept/own b.kept/own a/own b/own
differ "run.folder, by its file own/lock: " "train run.yaml --set run.folder=own"
for command in "eval run.yaml --checkpoint other" "checkpoint convert other new --to run.yaml"; do
    for side in a b; do
        mkdir -p $side/other/checkpoints
        cp keep/checkpoints/step-00000003.h5 $side/other/checkpoints
    done
    must "another run" 1 train a/run.yaml --set data.train=a/text.txt --set data.validation=a/other.txt --set training.seed=3 \
        --set run.folder="$WORK/b/other" --resume none
    differ "checkpoint other/checkpoints/step-00000003.h5: " "$command"
done

# Both files of a pair, of which settings name the common part; and what is set in the environment.
for side in a.kept b.kept a b; do
    cp a.kept/text.txt $side/pair.bin
    head -c 600 a.kept/text.txt >$side/pair.idx
done
flip b/pair.idx 100 1
differ "data.train pair.idx: 600 bytes" "train run.yaml --set data.train=pair --set data.format=megatron"
echo more >>b/pair.bin
differ "data.train pair.bin: " "train run.yaml --set data.train=pair --set data.format=megatron"
differ "CAIRN_CHECKPOINT_IO: not set on rank 0" "train run.yaml" "train run.yaml" CAIRN_CHECKPOINT_IO=collective

# What one rank alone cannot read ends all of them, with its message.
alone() { # WORDS, COMMAND OF a, COMMAND OF b
    together "$2" "$3"
    [ "$status" -eq 2 ] || fail "$1: ends with $status: $(last_words)"
    [ "$(grep -c '^cairn:' err)" -eq 1 ] || fail "$1: $(grep -c '^cairn:' err) messages: $(cat err)"
    grep '^cairn:' err | grep -qF -- "$1" || fail "$1: the message is $(last_words)"
}
for command in "train FILE" "eval FILE" "bench step FILE" "plan FILE --measure"; do
    good=${command/FILE/run.yaml}
    alone "more: one argument too many" "$good" "${command/FILE/run.yaml more}"
    alone "gone.yaml: cannot be opened" "$good" "${command/FILE/gone.yaml}"
    alone "gone.yaml: cannot be opened" "${command/FILE/gone.yaml}" "$good"
    alone "--set model.width=x: expected" "$good" "$good --set model.width=x"
    alone "--set needs a value" "$good" "$good --set"
done
alone "--set model.width=x: expected" "generate --checkpoint saved --prompt a" \
    "generate --checkpoint saved --prompt a --set model.width=x"
mv b/run.yaml b/gone.yaml
alone "run.yaml: cannot be opened" "checkpoint convert saved new --to run.yaml" "checkpoint convert saved new --to run.yaml"
mv b/gone.yaml b/run.yaml

# Processors that differ: all use the instructions that each of them has.
if grep -q '^flags.* avx2 ' /proc/cpuinfo; then
    runs=("train run.yaml --set run.folder=$WORK/mixed" "train run.yaml --set run.folder=$WORK/avx2")
    timeout -k 5 "$(limit)" "$MPIRUN" -n 1 --wdir "$WORK/a" "$CAIRN" ${runs[0]} : \
        -n 1 --wdir "$WORK/b" env CAIRN_CPU=reference "$CAIRN" ${runs[0]} >out 2>err </dev/null
    status=$?
    [ "$status" -eq 0 ] || fail "different processors: $(last_words)"
    grep -q 'hosts differ in their instructions, .* and reference: all ranks use reference kernels' err ||
        fail "different processors: not told: $(cat err)"
    CAIRN_CPU=reference timeout -k 5 "$(limit)" "$MPIRUN" -n 2 --wdir "$WORK/a" "$CAIRN" ${runs[1]} >out 2>err </dev/null
    identical "different processors" "$(checkpoint_of mixed 3)" "$(checkpoint_of avx2 3)"
else
    skip "different processors: this one has only one set of instructions"
fi
finish
