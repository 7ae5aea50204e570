#!/bin/bash
# Damage to a checkpoint, a single byte of it anywhere, is found and named; a run then continues from the one before and
# ends bit for bit as if nothing had happened; with none left it refuses.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

SEED=${SEED:-11}

text_file text.txt 1500
cat >run.yaml <<END
model: {vocabulary: 256, width: 40, layers: 3, heads: 4, hidden: 90}
data: {train: text.txt, validation_fraction: 0}
optimizer: {learning_rate: 3e-3, warmup_steps: 5}
training: {steps: 12, batch: 4, micro_batch: 2, sequence_length: 32}
checkpoint: {every: 2}
END
must "run in a row" 2 train run.yaml --set run.folder=row || give_up "nothing to compare with"
must "run to be damaged" 2 train run.yaml --set run.folder=good --set training.stop_at=8 || give_up "nothing to damage"
newest=$(checkpoint_of good 8)
before=$(checkpoint_of good 6)
[ -f "$before" ] || give_up "only one checkpoint is kept, two were asked for"
size=$(size_of "$newest")

# -- Every kind of damage is found ---------------------------------------------------------------------------------------

found=0
tries=0

damaged() { # NAME FILE: verify has to refuse it with one line that names it
    tries=$((tries + 1))
    run 1 checkpoint verify "$2"
    if [ "$status" -ne 1 ]; then
        fail "$1: verify ends with $status instead of 1"
    elif [ "$(grep -c '^cairn: ' err)" -ne 1 ] || ! grep -q "^cairn: .*$(basename "$2")" err; then
        fail "$1: verify does not name the file: $(last_words)"
    elif grep -q HDF5-DIAG err; then
        fail "$1: HDF5 prints its own errors"
    else
        found=$((found + 1))
    fi
}

run 1 checkpoint verify "$newest"
[ "$status" -eq 0 ] || fail "verify refuses a good file: $(last_words)"

say "seed $SEED, $size bytes"
places=$(
    numbers "$SEED" 30 "$size"
    numbers $((SEED + 1)) 10 3000 # the seal and the first metadata
    numbers $((SEED + 2)) 10 6000 | awk -v size="$size" '{ print size - 1 - $1 }'
    echo 0
    echo $((size - 1))
)
masks=(1 2 4 8 16 32 64 128 255)
for place in $places; do
    cp "$newest" flipped.h5
    mask=${masks[place % 9]}
    flip flipped.h5 "$place" "$mask"
    cmp -s flipped.h5 "$newest" && give_up "the byte $place was not flipped"
    damaged "byte $place xor $mask" flipped.h5
done
for bytes in 0 1 511 512 2048 $((size / 2)) $((size - 1)); do
    head -c "$bytes" "$newest" >cut.h5
    damaged "cut to $bytes bytes" cut.h5
done
for bytes in 1 512 4096; do
    cp "$newest" longer.h5
    head -c "$bytes" /dev/zero >>longer.h5
    damaged "$bytes zeros behind the end" longer.h5
done
cp "$newest" zeros.h5
head -c 4096 /dev/zero | dd of=zeros.h5 bs=4096 seek=$((size / 8192)) conv=notrunc status=none
damaged "a page of zeros" zeros.h5
cat "$before" "$newest" >both.h5
damaged "two files in one" both.h5
say "verify found $found of $tries damages"

# -- A run continues from the one before ----------------------------------------------------------------------------------

fallback() { # NAME RANKS COMMAND: resumes a copy whose newest checkpoint, $file, COMMAND has damaged
    local name=$1 ranks=$2
    rm -rf copy
    cp -r good copy
    file=$(checkpoint_of copy 8)
    eval "$3" || give_up "$name: $3 failed"
    must "$name" "$ranks" train run.yaml --set run.folder=copy --set "mesh.data=$ranks" || return
    grep -q "step-00000008.h5.* damaged" err || fail "$name: the run does not say that the newest checkpoint is damaged"
    grep -q "resuming after step 6 from .*step-00000006.h5" err || fail "$name: the run does not say that it goes on after step 6"
    steps_are copy 1 12 || fail "$name: the metrics have not each step once"
    if [ "$ranks" -eq 2 ]; then
        identical "$name" "$(checkpoint_of copy 12)" "$(checkpoint_of row 12)" && say "$name: resumed after step 6, bit for bit"
    else
        compare_checkpoints "$(checkpoint_of copy 12)" "$(checkpoint_of row 12)" 1e-3 || fail "$name: $furthest deviates by $largest"
        say "$name: resumed after step 6 on $ranks ranks, $largest from the run in a row"
    fi
}

fallback "a byte of the seal" 2 'flip "$file" 30 1'
fallback "a byte of the signature" 2 'flip "$file" 512 4'
fallback "a byte of the metadata" 2 'flip "$file" 1500 16'
fallback "a byte in the middle" 2 'flip "$file" $((size / 2)) 64'
fallback "the last byte" 2 'flip "$file" $((size - 1)) 128'
fallback "cut in the middle" 2 'truncate -s $((size / 2)) "$file"'
fallback "an empty file" 2 'truncate -s 0 "$file"'
fallback "a longer file" 2 'printf x >>"$file"'
fallback "a text in its place" 2 'echo "not a checkpoint" >"$file"'
fallback "a byte in the middle, resumed by one" 1 'flip "$file" $((size / 3)) 1'
fallback "a byte in the middle, resumed by three" 3 'flip "$file" $((size / 3)) 1'

# -- None left, or the damaged one asked for -----------------------------------------------------------------------------

refuses() { # NAME WORDS RANKS ARGUMENT...: exit 1, one line that holds the words
    local name=$1 words=$2
    shift 2
    run "$@"
    [ "$status" -eq 1 ] && [ "$(grep -c '^cairn: ' err)" -eq 1 ] && grep '^cairn: ' err | grep -q "$words" && return
    fail "$name on $1 ranks: should end with 1 and one line with \"$words\": $(last_words)"
}

rm -rf none
cp -r good none
flip "$(checkpoint_of none 8)" $((size / 2)) 1
flip "$(checkpoint_of none 6)" $((size / 3)) 1
cp -r none none.kept
flip flipped.h5 $((size / 2)) 2
for count in 1 2; do
    refuses "all damaged" "damaged" $count train run.yaml --set run.folder=none
    diff -r none none.kept >/dev/null || fail "all damaged on $count ranks: the refused run changed the folder"
    refuses "eval of a damaged file" "flipped.h5" $count eval run.yaml --checkpoint flipped.h5 --data text.txt
    refuses "generate from a damaged file" "flipped.h5" $count generate --checkpoint flipped.h5 --prompt the --tokens 3
    refuses "--resume of a damaged file" "flipped.h5" $count train run.yaml --set run.folder=other --resume flipped.h5
    refuses "inspect of a text" "text.txt" $count checkpoint inspect text.txt
    refuses "diff with a damaged file" "cut.h5" $count checkpoint diff cut.h5 "$newest"
done
say "all damaged, or the damaged one named: train, eval, generate, inspect and diff refuse"

# eval finds the good one of a folder by itself.
rm -rf copy
cp -r good copy
flip "$(checkpoint_of copy 8)" $((size / 2)) 1
must "eval of a folder" 2 eval run.yaml --checkpoint copy --data text.txt
expected=$(sed 's/;.*//' out)
must "eval of the one before" 2 eval run.yaml --checkpoint "$before" --data text.txt
[ "$expected" = "$(sed 's/;.*//' out)" ] || fail "eval of a folder whose newest is damaged does not use the one before"

finish
