#!/bin/bash
# Whatever is wrong with the command line, the settings, the data or the disk: every rank ends soon, with the exit status
# that the mistake has, one line on standard error that names it, and the folder of an earlier run as it was.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

LIMIT=20
CRASH="HDF5-DIAG|on signal|Segmentation|Assertion|core dumped"
cases=0
runs=0

text_file text.txt 500
token_file tokens.bin 4000 211
cat >good.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 4, kv_heads: 2, hidden: 64}
mesh: {data: auto}
data: {train: text.txt, validation_fraction: 0.02}
optimizer: {learning_rate: 3e-3, warmup_steps: 2}
training: {steps: 6, batch: 6, micro_batch: 2, sequence_length: 32}
checkpoint: {every: 2}
run: {folder: kept}
END
must "the run that has to stay as it is" 1 train good.yaml --set training.stop_at=4 || give_up "no run to protect"
file=$(checkpoint_of kept 4)
cp -a kept kept.copy

# Names, sizes, times and contents of all that is in it; a lock may have come and gone.
snapshot() { find kept -mindepth 1 -exec ls -ld --time-style=full-iso {} + -type f -exec cksum {} +; }

verdict() { # NAME EXIT WORDS: the run that has just ended; the words are separated by bars
    local lines word words
    runs=$((runs + 1))
    lines=$(grep -c '^cairn:' err)
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        fail "$1: still running after $LIMIT s"
        return
    fi
    [ "$status" -eq "$2" ] || fail "$1: ends with $status instead of $2 ($(last_words))"
    [ "$lines" -eq 1 ] || fail "$1: $lines lines on standard error begin with \"cairn:\" instead of one"
    ! grep -Eq "$CRASH" err || fail "$1: $(grep -Em 1 "$CRASH" err)"
    IFS='|' read -r -a words <<<"$3"
    for word in "${words[@]}"; do
        grep '^cairn:' err | grep -qF -- "$word" || fail "$1: the message does not name \"$word\" ($(last_words))"
    done
}

# wrong NAME EXIT WORDS ARGUMENT...: on 1 and on 2 ranks, or on those in $RANKS.
wrong() {
    local name=$1 code=$2 words=$3 before count
    local failed=$failures
    shift 3
    cases=$((cases + 1))
    before=$(snapshot)
    for count in ${RANKS:-1 2}; do
        run "$count" "$@"
        verdict "$name, ranks $count" "$code" "$words"
        [ "$(snapshot)" = "$before" ] && continue
        fail "$name, ranks $count: the folder of the earlier run has changed: $(ls kept | paste -sd ' ')"
        rm -rf kept
        cp -a kept.copy kept
        before=$(snapshot)
    done
    [ $failures -ne $failed ] || say "$name: $(last_words | cut -c 1-150)"
}

# setting NAME EXIT WORDS KEY=VALUE...: with these settings.
setting() {
    local name=$1 code=$2 words=$3 key sets=()
    shift 3
    for key; do sets+=(--set "$key"); done
    wrong "$name" "$code" "$words" train good.yaml "${sets[@]}"
}

# -- The command line ----------------------------------------------------------------------------------------------------

wrong "no command" 2 "command"
wrong "unknown command" 2 "trane: unknown command; did you mean train?" trane good.yaml
wrong "unknown command like none" 2 "xyzzyx: unknown command; see" xyzzyx
wrong "help on an unknown command" 2 "evall: unknown command; did you mean eval?" help evall
wrong "help on an unknown setting" 2 "optimizer.bta1: unknown key; did you mean optimizer.beta1?" help config optimizer.bta1
many=()
for ((i = 0; i < 65; i++)); do many+=(--set run.log_every=1); done
wrong "65 times --set" 2 "more than 64 times --set" train good.yaml "${many[@]}"
wrong "unknown option" 2 "--sett: unknown option; did you mean --set?" train good.yaml --sett a=b
wrong "unknown option with a value" 2 "--time_limit=3: unknown option; did you mean --time-limit?" train good.yaml --time_limit=3
wrong "unknown option like none" 2 "--quiet: unknown option; see --help" train good.yaml --quiet
wrong "an option with one dash" 2 "-resume: unknown option; did you mean --resume?" train good.yaml -resume none
wrong "option of another command" 2 "--tokens" train good.yaml --tokens 3
wrong "option without a value" 2 "--resume" train good.yaml --resume
wrong "--set without a value" 2 "--set" train good.yaml --set
wrong "--set without =" 2 "run.folder" train good.yaml --set run.folder
wrong "--set of an unknown key" 2 "run.foldr" train good.yaml --set run.foldr=x
wrong "two configurations" 2 "other.yaml" train good.yaml other.yaml
wrong "train without a configuration" 2 "configuration" train
wrong "eval without a configuration" 2 "configuration" eval
wrong "generate without a checkpoint" 2 "--checkpoint" generate --prompt x
wrong "generate without a prompt" 2 "--prompt" generate --checkpoint "$file"
wrong "generate with an empty prompt" 2 "--prompt" generate --checkpoint "$file" --prompt ""
wrong "generate with tokens that are no number" 2 "--tokens|many" generate --checkpoint "$file" --prompt a --tokens many
wrong "generate with a negative number of tokens" 2 "--tokens|-1" generate --checkpoint "$file" --prompt a --tokens -1
wrong "generate with a hexadecimal temperature" 2 "--temperature|0x1p3" generate --checkpoint "$file" --prompt a --temperature 0x1p3
wrong "generate with a temperature that is not a number" 2 "--temperature|nan" generate --checkpoint "$file" --prompt a --temperature nan
wrong "checkpoint without a tool" 2 "checkpoint" checkpoint
wrong "checkpoint diff with one file" 2 "diff" checkpoint diff "$file"
wrong "a tolerance below 0" 2 "--tolerance" checkpoint diff "$file" "$file" --tolerance -1
wrong "context length 0" 2 "--context-length" eval good.yaml --context-length 0
wrong "context length that is no number" 2 "--context-length|long" eval good.yaml --context-length long

# -- Home directories: shells leave a ~ alone behind = or in quotes ------------------------------------------------------

export HOME=$WORK/nobody
at_home="$WORK/nobody/there"
wrong "a run's folder of another's" 2 "run.folder=~bob/x|of HOME" train good.yaml --set run.folder=~bob/x
wrong "a configuration at home" 2 "$at_home" train "~/there"
wrong "a checkpoint of another's" 2 "--checkpoint ~bob/x|of HOME" eval good.yaml --checkpoint=~bob/x
wrong "a checkpoint at home" 1 "$at_home" eval good.yaml --checkpoint=~/there
wrong "a checkpoint to generate from at home" 1 "$at_home" generate --checkpoint=~/there --prompt x
wrong "text at home" 1 "$at_home" eval good.yaml --checkpoint kept --data=~/there
wrong "a checkpoint to start from at home" 1 "$at_home" train good.yaml --resume=~/there
wrong "a configuration to convert to at home" 2 "$at_home" checkpoint convert kept new --to=~/there
wrong "data at home" 1 "$at_home" train good.yaml --set data.train=~/there
RANKS=1 wrong "a network at home" 2 "$at_home" plan good.yaml --ranks 1 --network=~/there
RANKS=1 wrong "a job file at home" 1 "$at_home" plan good.yaml --ranks 1 --sbatch=~/there
RANKS=1 wrong "a run at home" 1 "$at_home" report "~/there"
mkdir nobody
"$CAIRN" report kept --output=~/page >out 2>err && [ -f nobody/page/index.html ] || fail "a page at home: $(last_words)"

# -- The configuration ---------------------------------------------------------------------------------------------------

: >empty.yaml
printf '\0\1\2\377\376 nothing to read' >binary.yaml
sed 's/hidden: 64}/hidden: 64, depht: 3}/' good.yaml >unknown.yaml
sed 's/width: 32/width: wide/' good.yaml >type.yaml
sed 's/3e-3/.nan/' good.yaml >nan.yaml
sed 's/3e-3/.inf/' good.yaml >infinite.yaml
sed 's/3e-3/-3e-3/' good.yaml >negative.yaml
sed 's/vocabulary: 256, //' good.yaml >missing.yaml
sed 's/^mesh:.*/mesh: {data: auto/' good.yaml >unclosed.yaml
sed 's/^mesh:.*/model: {layers: 3}/' good.yaml >twice.yaml

wrong "configuration that is missing" 2 "nowhere.yaml" train nowhere.yaml
wrong "configuration in a folder that is missing" 2 "nowhere/c.yaml" train nowhere/c.yaml
wrong "configuration that is a folder" 2 "kept" train kept
wrong "empty configuration" 2 "empty.yaml" train empty.yaml
wrong "binary configuration" 2 "binary.yaml" train binary.yaml
wrong "brace that is not closed" 2 "unclosed.yaml:" train unclosed.yaml
wrong "key that is there twice" 2 "twice.yaml:2|model" train twice.yaml
wrong "unknown key" 2 "unknown.yaml:1|depht" train unknown.yaml
wrong "wrong type" 2 "type.yaml:1|model.width|wide" train type.yaml
wrong "learning rate that is not a number" 2 "nan.yaml:4|optimizer.learning_rate" train nan.yaml
wrong "infinite learning rate" 2 "infinite.yaml:4|optimizer.learning_rate" train infinite.yaml
wrong "negative learning rate" 2 "negative.yaml:4|optimizer.learning_rate" train negative.yaml
wrong "required key missing" 2 "missing.yaml|model.vocabulary" train missing.yaml
wrong "config of a file that is missing" 2 "nowhere.yaml" config nowhere.yaml
wrong "eval with a configuration that is missing" 2 "nowhere.yaml" eval nowhere.yaml --checkpoint kept
wrong "config of more tensor ranks than heads" 2 "mesh.tensor|4 heads" config good.yaml --set mesh.tensor=5
wrong "config of more stages than layers" 2 "mesh.pipeline|2 layers" config good.yaml --set mesh.pipeline=3
wrong "config of more chunks than layers" 2 "virtual_stages|2 layers" config good.yaml --set mesh.pipeline=2 --set mesh.virtual_stages=2
wrong "config of two sizes auto" 2 "only one of the sizes may be auto" config good.yaml --set mesh.tensor=auto
setting "nan by --set" 2 "optimizer.clip" optimizer.clip=nan
setting "heads that key heads do not divide" 2 "model.kv_heads" model.kv_heads=3
setting "odd head width" 2 "model.head_width" model.head_width=7
setting "warm-up beyond the end" 2 "optimizer.warmup_steps" optimizer.warmup_steps=7
setting "a number beyond 64 bits" 2 "training.steps" training.steps=99999999999999999999
setting "learned positions for less than a sequence" 2 "model.max_positions" model.positions=learned model.max_positions=31

# -- The mesh ------------------------------------------------------------------------------------------------------------

setting "mesh for other ranks" 2 "mesh|5" mesh.data=1 mesh.tensor=5
RANKS=3 setting "mesh that does not divide the ranks" 2 "mesh|3 ranks" mesh.tensor=2
RANKS=2 setting "mesh of fewer ranks" 2 "mesh|2 were started" mesh.data=1
setting "two sizes auto" 2 "auto" mesh.data=auto mesh.tensor=auto
RANKS="2 3" setting "more tensor ranks than heads" 2 "mesh.tensor|heads" model.heads=1 model.kv_heads=1 mesh.tensor=auto mesh.data=1
RANKS="2 3" setting "more stages than layers" 2 "mesh.pipeline|layers" model.layers=1 mesh.pipeline=auto mesh.data=1
RANKS=2 setting "more chunks than layers" 2 "virtual_stages|layers" mesh.pipeline=2 mesh.data=1 mesh.virtual_stages=2
setting "chunks without a pipeline" 2 "mesh.virtual_stages" mesh.virtual_stages=2
RANKS=2 setting "chunks with a pipeline of one by auto" 2 "mesh.virtual_stages" mesh.virtual_stages=2 mesh.pipeline=auto mesh.data=2
RANKS="2 3" wrong "generate with more ranks than heads" 2 "mesh.tensor" generate --checkpoint "$file" --prompt a --set model.heads=1 --set model.kv_heads=1

# -- The data ------------------------------------------------------------------------------------------------------------

: >nothing.txt
printf x >one.txt
head -c 32 text.txt >short.txt
head -c 2047 tokens.bin >odd.bin
# llm.c: magic, version and number of tokens in 1024 bytes, then tokens; fewer than promised.
{ printf '\x88\xd8\x34\x01\x01\0\0\0\x10\x27\0\0' && head -c 1012 /dev/zero && head -c 2000 tokens.bin; } >promise.bin
head -c 600 promise.bin >header.bin

sed 's/text.txt/[]/' good.yaml >none.yaml
sed 's/text.txt/[text.txt, nowhere.txt]/' good.yaml >second.yaml
wrong "no data" 2 "data.train" train none.yaml
setting "data missing" 1 "nowhere.txt" data.train=nowhere.txt
setting "data that is a folder" 1 "kept" data.train=kept
setting "empty data" 1 "nothing.txt|empty" data.train=nothing.txt
wrong "second file missing" 1 "nowhere.txt" train second.yaml
setting "text shorter than a sequence" 1 "short.txt|33" data.train=short.txt data.validation_fraction=0
setting "tokens of odd bytes" 1 "odd.bin|2047" data.train=odd.bin
setting "llm.c header that promises more" 1 "promise.bin|10000" data.train=promise.bin
setting "llm.c header cut off" 1 "header.bin|600" data.train=header.bin
setting "token beyond the vocabulary" 1 "tokens.bin|100" data.train=tokens.bin model.vocabulary=100 run.folder=other
setting "validation data missing" 1 "nowhere.txt" data.validation=nowhere.txt
wrong "eval with data missing" 1 "nowhere.txt" eval good.yaml --data nowhere.txt
wrong "eval with data of one byte" 1 "one.txt" eval good.yaml --data one.txt

# -- Checkpoints ---------------------------------------------------------------------------------------------------------

echo "not a checkpoint, but longer than the few bytes that say what a file is" >text.h5
mkdir empty
setting "checkpoint of another width" 2 "$file|model.width|32|40" model.width=40
setting "checkpoint of other key heads" 2 "$file|model.kv_heads" model.kv_heads=4
setting "checkpoint of fewer layers" 2 "$file|model.layers" model.layers=3
setting "checkpoint of another kind of MLP" 2 "$file|model.mlp" model.mlp=gelu
wrong "eval of another width" 2 "$file|model.width" eval good.yaml --set model.width=40
wrong "--resume FILE missing" 1 "nowhere.h5" train good.yaml --resume nowhere.h5
wrong "--resume FILE that is a text" 1 "text.h5" train good.yaml --resume text.h5
wrong "--resume FILE that is a folder" 1 "empty" train good.yaml --resume empty
wrong "--resume none with a mesh for other ranks" 2 "mesh" train good.yaml --resume none --set mesh.data=4
wrong "--resume none with data missing" 1 "nowhere.txt" train good.yaml --resume none --set data.train=nowhere.txt
RANKS=2 wrong "--resume none with more stages than layers" 2 "mesh.pipeline" train good.yaml --resume none --set model.layers=1 --set mesh.pipeline=2
wrong "eval of a checkpoint that is missing" 1 "nowhere.h5" eval good.yaml --checkpoint nowhere.h5
wrong "eval of an empty folder" 1 "empty" eval good.yaml --checkpoint empty
wrong "eval of a text" 1 "text.h5" eval good.yaml --checkpoint text.h5
wrong "generate from a checkpoint that is missing" 1 "nowhere.h5" generate --checkpoint nowhere.h5 --prompt a
wrong "generate from a text" 1 "text.h5" generate --checkpoint text.h5 --prompt a
wrong "verify of a file that is missing" 1 "nowhere.h5" checkpoint verify nowhere.h5
wrong "inspect of a folder" 1 "empty" checkpoint inspect empty
wrong "diff with a file that is missing" 1 "nowhere.h5" checkpoint diff "$file" nowhere.h5

# -- The run's folder ----------------------------------------------------------------------------------------------------

echo text >occupied
setting "run.folder is a file" 1 "occupied" run.folder=occupied
setting "run.folder below a file" 1 "occupied" run.folder=occupied/run
setting "empty run.folder" 2 "run.folder" run.folder=

# -- What a run cannot do ------------------------------------------------------------------------------------------------

# More memory than there is must not be taken from others first, hence the limit of 8 GB.
memory_before=$(ulimit -S -v)
ulimit -S -v 8000000
setting "huge width" 1 "memory" model.width=65536 model.hidden=262144 run.folder=other
wrong "huge number of tokens" 1 "memory" generate --checkpoint "$file" --prompt a --tokens 2147483647
ulimit -S -v "$memory_before"

# Steps that are not finite are skipped and counted; when nothing else is left, the run ends.
for count in 1 2; do
    name="a learning rate beyond all reason, ranks $count"
    cases=$((cases + 1))
    rm -rf wild
    run $count train good.yaml --set run.folder=wild --set optimizer.learning_rate=1e30 --set optimizer.clip=0 \
        --set training.steps=60 --set training.skip_limit=4
    verdict "$name" 1 "4 steps in a row|optimizer.learning_rate"
    skipped=$(values wild skipped | tail -n 1 | cut -d ' ' -f 2)
    [ "${skipped:-0}" -ge 4 ] || fail "$name: the metrics count ${skipped:-no} skipped steps"
    [ "$(values wild skipped | tail -n 4 | awk 'NR > 1 && $2 != last + 1 { n++ } { last = $2 } END { print n + 0 }')" -eq 0 ] ||
        fail "$name: the last four steps are not counted one by one"
    say "$name: ended after $(values wild skipped | tail -n 1 | sed 's/ / steps, /') of them skipped"
done

# What only one rank cannot do, every rank learns.
apart() { # NAME EXIT WORDS: rank 0 has the good configuration, rank 1 the one in other.yaml
    cases=$((cases + 1))
    timeout -k 5 "$(limit)" "$MPIRUN" -n 1 "$CAIRN" train good.yaml --set run.folder=apart : \
        -n 1 "$CAIRN" train other.yaml --set run.folder=apart >out 2>err </dev/null
    status=$?
    verdict "$1" "$2" "$3"
    say "$1: $(last_words)"
}
sed 's/text.txt/nowhere.txt/' good.yaml >other.yaml
apart "data that one rank does not see" 2 "data.train: \"text.txt\" on rank 0|\"nowhere.txt\" on rank 1"
sed 's/width: 32/width: wide/' good.yaml >other.yaml
apart "a configuration that one rank cannot read" 2 "model.width"

# -- The disk ------------------------------------------------------------------------------------------------------------

# disk NAME OPTIONS: mounts a file system of its own in the folder NAME.
disk() {
    mkdir -p "$1"
    mount -t tmpfs -o "$2" none "$1" 2>/dev/null && MOUNTS+=("$WORK/$1")
}

if disk readonly ro; then
    setting "run.folder that cannot be written" 1 "readonly|Read-only" run.folder=readonly
    setting "run.folder that cannot be made" 1 "readonly" run.folder=readonly/run
else
    skip "run.folder that cannot be written: mount is not permitted"
fi

if disk small size=300k; then
    for count in 1 2; do
        name="disk too small for a checkpoint, ranks $count"
        cases=$((cases + 1))
        run $count train good.yaml --set run.folder=small/run
        verdict "$name" 1 "small/run/checkpoints"
        [ "$(grep -c '^checkpoint of step [24] failed: .*; training goes on' err)" -eq 2 ] ||
            fail "$name: the checkpoints of steps 2 and 4 are not reported as failed"
        steps_are small/run 1 6 || fail "$name: training did not go on to step 6"
        [ -z "$(find small/run/checkpoints -type f)" ] || fail "$name: left behind: $(find small/run/checkpoints -type f | paste -sd ' ')"
        say "$name: $(last_words)"
        rm -rf small/run
    done
    # Space for the first checkpoint, but not for the second beside it: the first must stay and be good.
    size=$(size_of "$file")
    mount -o remount,size=$((size * 3 / 2)) "$WORK/small"
    for count in 1 2; do
        name="disk too small for a second checkpoint, ranks $count"
        cases=$((cases + 1))
        run $count train good.yaml --set run.folder=small/run
        verdict "$name" 1 "small/run/checkpoints"
        [ -z "$(partial_files small/run)" ] || fail "$name: left behind: $(partial_files small/run)"
        must "$name: verify of the first" 1 checkpoint verify "$(checkpoint_of small/run 2)"
        rm -rf small/run
    done
else
    skip "disk too small for a checkpoint: mount is not permitted"
fi

if disk tiny size=16k; then
    for count in 1 2; do
        name="disk too small for the metrics, ranks $count"
        cases=$((cases + 1))
        run $count train good.yaml --set run.folder=tiny/run --set training.steps=300 --set checkpoint.every=0
        verdict "$name" 1 "checkpoint needs |tiny/run/checkpoints has"
        grep -q '^step 300/300 ' err || fail "$name: training ended before its last step"
        grep -q '^tiny/run/metrics.jsonl: the last [0-9]* lines could not be written' err || fail "$name: lost lines are not told of"
        rm -rf tiny/run
    done
else
    skip "disk too small for the metrics: mount is not permitted"
fi

# Results that cannot be written are no results.
for command in "--version" "help" "train --help" "config" "config good.yaml" "doctor" "checkpoint inspect $file" \
    "checkpoint verify $file" "checkpoint diff $file $file" "eval good.yaml --checkpoint kept" \
    "eval good.yaml --checkpoint kept --json" "generate --checkpoint kept --prompt the --tokens 3" \
    "plan good.yaml --parameters" "plan good.yaml --ranks 1 --network latency=1e-6 --json" "bench kernels --quick --json" \
    "bench step good.yaml --quick --steps 1 --warmup 0" "scale good.yaml --list" "report kept --output report"; do
    cases=$((cases + 1))
    name="cairn $command to a full disk"
    # shellcheck disable=SC2086
    timeout -k 5 "$(limit)" "$CAIRN" $command >/dev/full 2>err </dev/null
    status=$?
    verdict "$name" 1 "standard output cannot be written|No space left on device"
done

say "$cases cases in $runs runs"
finish
