#!/bin/bash
# A checkpoint gets its name only when it is sealed and on disk, and is the newest only when its name is: the order of the
# system's calls, seen by a library in between. A flush that fails costs the checkpoint, not the run; and what is copied
# slowly behind the training is what it was when the copy began.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

ORDER=$(dirname "$CAIRN")/tests/liborder.so
text_file text.txt 1500
cat >run.yaml <<END
model: {vocabulary: 256, width: 64, layers: 2, heads: 4, hidden: 128}
data: {train: text.txt, validation_fraction: 0}
optimizer: {learning_rate: 1e-2, warmup_steps: 2}
training: {steps: 15, batch: 4, sequence_length: 32}
checkpoint: {every: 5, keep_last: 9}
mesh: {data: 2}
END

# train FOLDER BACKGROUND VARIABLE... -- ARGUMENT...: with the library and the variables, on two ranks.
train() {
    local folder=$1 background=$2 variables=()
    shift 2
    while [ "$1" != -- ]; do variables+=("$1") && shift; done
    shift
    rm -f log
    timeout -k 5 "$LIMIT" "$MPIRUN" -n 2 env LD_PRELOAD="$ORDER" ORDER_LOG="$WORK/log" "${variables[@]}" "$CAIRN" \
        train run.yaml --set run.folder="$folder" --set checkpoint.background="$background" "$@" >out 2>err </dev/null
    status=$?
}

in_order() { # NAME: of the calls in the file log
    awk -v name="$1" '
        function fault(what) { print name ": " what ", line " NR " of its calls: " $0; faults++ }
        function dirty_ones(file, but,   key, part, n) {
            n = 0
            for (key in dirty) { split(key, part, SUBSEP); n += part[1] == file && part[2] != but }
            return n
        }
        { file = $3; sub(/.*\/checkpoints/, "checkpoints", file) }
        $2 == "write" || $2 == "begin" {
            if (sealed[file]) fault("written behind its seal")
            if ($2 == "begin" && dirty_ones(file, $1)) fault("sealed before the elements of other ranks are on disk")
            if ($2 == "begin" && unflushed) fault("another file before the name of the last is on disk")
            sealed[file] = $2 == "begin"
            dirty[file, $1] = 1
        }
        $2 == "flush" { delete dirty[file, $1]; if (file == "checkpoints") unflushed = 0 }
        $2 == "rename" {
            if (!sealed[file]) fault("renamed before it is sealed")
            if (dirty_ones(file, "")) fault("renamed before it is on disk")
            sealed[file] = 0
            unflushed = 1
            renames++
        }
        END { if (unflushed) fault("its name is not on disk"); if (renames < 4) fault("too few checkpoints"); exit faults > 0 }' log
}

for background in false true; do
    name=$([ $background = true ] && echo behind || echo "at once")
    train "run.$background" $background X=1 --
    [ $status -eq 0 ] || fail "$name: $(last_words)"
    in_order "$name" || fail "$name: the calls are not in order"
    say "$name: $(wc -l <log) calls in order, $(grep -c ' rename ' log) files renamed"
done

for background in false true; do
    name="a flush that fails, $([ $background = true ] && echo behind || echo "at once")"
    train failed.$background $background ORDER_FAIL=.step-00000005.h5.partial --
    [ $status -eq 0 ] || fail "$name: $(last_words)"
    grep -q '^checkpoint of step 5 failed: .*step-00000005.h5.partial: cannot be written to disk: .*nput/output error.*; training goes on' err ||
        fail "$name: $(grep failed err)"
    [ ! -e "$(checkpoint_of failed.$background 5)" ] || fail "$name: it has its name all the same"
    ! grep -q ' rename .*00000005' log || fail "$name: it was renamed"
    [ -z "$(partial_files failed.$background)" ] || fail "$name: left behind: $(partial_files failed.$background)"
    identical "$name" "$(checkpoint_of failed.$background 15)" "$(checkpoint_of run.false 15)"
done

# What fails behind the last byte fails all the same: the one before stays the newest, and a run that cannot save its end
# has failed.
for background in false true; do
    name="a name that is not taken, $([ $background = true ] && echo behind || echo "at once")"
    train unnamed.$background $background ORDER_FAIL_NAME=/step-00000005.h5 --
    [ $status -eq 0 ] || fail "$name: $(last_words)"
    grep -q '^checkpoint of step 5 failed: .*cannot be renamed to .*; training goes on' err || fail "$name: $(grep failed err)"
    [ -z "$(partial_files unnamed.$background)" ] || fail "$name: left behind: $(partial_files unnamed.$background)"
    ! grep -q '"checkpoint_step":5,' unnamed.$background/metrics.jsonl || fail "$name: the metrics have it"
    train endless.$background $background ORDER_FAIL_NAME=/step-00000015.h5 --
    [ $status -eq 1 ] && grep -q '^cairn: .*cannot be renamed to .*step-00000015.h5' err || fail "$name, at the end: $(last_words)"
done
grep -q '"checkpoint_step":15,' unnamed.true/metrics.jsonl || fail "the metrics lack the last checkpoint"

train slow true ORDER_DELAY=100000 -- --set checkpoint.every=3
[ $status -eq 0 ] || fail "a slow copy: $(last_words)"
must "to compare with" 2 train run.yaml --set run.folder=once --set checkpoint.every=3
held=$(values slow checkpoint_held_seconds | head -n 1 | cut -d ' ' -f 2)
within 0.1 "${held:-0}" || fail "a slow copy: training stood still for ${held:-nothing} s, so it was not slow"
same=0
for file in slow/checkpoints/step-*.h5; do
    identical "a slow copy" "$file" "once/checkpoints/$(basename "$file")" && same=$((same + 1))
done
[ $same -ge 2 ] || fail "a slow copy: $same checkpoints"
say "a slow copy: held up for $held s, $same checkpoints equal to the bit"

finish
