#!/bin/bash
# A run that meets one fault after another, and is started again by the same command each time, as a job script does it,
# ends as one that met none: bit for bit on one mesh, to 1e-5 when each start has another. Nothing is put right by hand.
#
# FAULTS=100 SEED=1 bash tests/fault/campaign.sh SOURCE BUILD    is a long campaign; the same seed, the same faults
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

FAULTS=${FAULTS:-8}
SEED=${SEED:-2718}
EVERY=2        # steps between checkpoints
GONE_WITHIN=30 # seconds, after a fault that ends the job
HANG=5         # seconds after which a rank that does not answer counts as hung

RANDOM=$SEED
LIMIT=$((120 + 6 * FAULTS))
text_file text.txt 1500

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# Whether a process runs; one that nobody has asked for its status does not.
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# -- The job ---------------------------------------------------------------------------------------------------------------

# The run's folder is a file system of its own where that is allowed, so that it can be filled.
mkdir disk
size=$((100 << 20)) # three checkpoints and a half
mount -t tmpfs -o size=$size none disk 2>/dev/null && MOUNTS+=("$WORK/disk")

last_step() {
    local step
    step=$(losses disk/run 2>/dev/null | tail -n 1 | cut -d ' ' -f 1)
    echo "${step:-0}"
}

# start: the command of the job, always the same but for the mesh; $job is mpirun.
starts=0
start() {
    [ -z "$moves" ] || mesh ${MESHES[RANDOM % ${#MESHES[@]}]}
    : >log
    "$MPIRUN" -n 2 "$CAIRN" train run.yaml --set run.folder=disk/run "${MESH[@]}" >/dev/null 2>log </dev/null &
    job=$!
    starts=$((starts + 1))
}

wait_until() { # CONDITION: false if the job has ended or a minute has passed
    local end=$(($(milliseconds) + 60000))
    until eval "$1"; do
        alive "$job" && [ "$(milliseconds)" -lt $end ] || return 1
        sleep 0.02
    done
}

# Steps done since this start went on from a checkpoint.
progress() { wait_until "grep -q ^mesh: log" && local from && from=$(last_step) && wait_until "[ \$(last_step) -ge $((from + $1)) ]"; }

ranks_of_job() { pgrep -P "$job"; }

# $rank: one of them. Not in a subshell, where RANDOM would begin anew.
pick_rank() {
    local number=$((1 + RANDOM % 2))
    rank=$(ranks_of_job | sed -n "${number}p")
}

# gone NAME: the job and its ranks are gone in time; $code is the status of mpirun.
gone() {
    local end=$(($(milliseconds) + GONE_WITHIN * 1000)) pid
    for pid in $victims "$job"; do
        while alive "$pid" && [ "$(milliseconds)" -lt $end ]; do sleep 0.02; done
        alive "$pid" || continue
        fail "$1: process $pid still runs after $GONE_WITHIN s"
        kill -9 $victims "$job" 2>/dev/null
    done
    wait "$job" 2>/dev/null
    code=$?
}

# -- Faults: each gets a running job, and leaves one that ends by itself -------------------------------------------------

fault_kill_one() {
    pause $((RANDOM % 60)) # some in a write
    pick_rank
    kill -9 "$rank"
}

fault_kill_all() {
    pause $((RANDOM % 60))
    kill -9 $(ranks_of_job)
}

fault_kill_launcher() { kill -9 "$job"; }

fault_stop_one() {
    pick_rank
    kill -STOP "$rank"
}

fault_signal() {
    local signals=(USR1 USR2 TERM)
    local signal=${signals[RANDOM % 3]}
    pick_rank
    kill -"$signal" "$rank"
}

# Others fill the disk, and after a while they are gone.
fault_fill_disk() {
    dd if=/dev/zero of=disk/filler bs=64k status=none 2>/dev/null
    full='No space left\|MiB free'
    wait_until 'grep -q "$full" log' || grep -q "$full" log || fail "fill_disk: the run does not notice it"
    rm -f disk/filler
    pick_rank
    kill -9 "$rank" 2>/dev/null
}

fault_corrupt() {
    wait_until "[ \$(last_step) -ge $(($(last_step) + 2 * EVERY + 1)) ]" # there are two of this start
    kill -STOP $(ranks_of_job)
    local file place=$((RANDOM * 32768 + RANDOM)) bit=$((RANDOM % 8))
    file=$(ls disk/run/checkpoints/step-*.h5 | tail -n 1)
    flip "$file" $((place % $(size_of "$file"))) $((1 << bit)) ||
        fail "corrupt: $file cannot be changed"
    kill -9 $(ranks_of_job)
    damaged=$(basename "$file")
}

kinds=(kill_one kill_all kill_launcher signal corrupt)
if "$CAIRN" config | grep -q hang_seconds; then
    kinds+=(stop_one)
    watch="watch: {hang_seconds: $HANG}"
else
    watch=
fi
if [ ${#MOUNTS[@]} -gt 0 ]; then kinds+=(fill_disk); else skip "a full disk: mount is not permitted"; fi

# -- A campaign --------------------------------------------------------------------------------------------------------------

# campaign NAME FAULTS: every kind in random order, again and again.
campaign() {
    local name=$1 number kind place order=() steps=$((8 * $2 + 10)) begin=$SECONDS
    local -A count=()
    cat >run.yaml <<END
model: {vocabulary: 256, width: 256, layers: 2, heads: 4, hidden: 512}
data: {train: text.txt, validation_fraction: 0}
optimizer: {learning_rate: $rate, warmup_steps: 5}
training: {steps: $steps, batch: 2, sequence_length: 32}
checkpoint: {every: $EVERY, keep_last: 2}
$watch
END
    must "$name, without faults" $ranks train run.yaml --set run.folder=alone "${MESH[@]}" || give_up "nothing to compare with"
    starts=0
    damaged=
    for number in $(seq "$2"); do
        [ ${#order[@]} -gt 0 ] || order=("${kinds[@]}")
        place=$((RANDOM % ${#order[@]}))
        kind=${order[place]}
        unset "order[place]"
        order=(${order[@]+"${order[@]}"})
        start
        if ! progress $((1 + RANDOM % 4)); then
            fail "$name, fault $number, $kind: the run ended before it: $(grep -v '^ *$' log | tail -n 1)"
            wait "$job"
            continue
        fi
        [ -z "$damaged" ] || grep -q "$damaged.* damaged" log || fail "$name, fault $number: nothing is said of $damaged"
        damaged=
        victims=$(ranks_of_job)
        fault_$kind
        gone "$name, fault $number, $kind"
        [ $code -ne 0 ] || fail "$name, fault $number, $kind: mpirun ends with 0"
        case $kind in signal | stop_one) [ $code -eq 85 ] || fail "$name, fault $number, $kind: ends with $code, not 85" ;; esac
        count[$kind]=$((${count[$kind]:-0} + 1))
        say "$name, fault $number, $kind at step $(last_step): status $code"
    done
    start
    wait "$job" || fail "$name, last start: $(grep -v '^ *$' log | tail -n 1)"
    steps_are disk/run 1 $steps || fail "$name: the metrics have not each step once"
    [ -z "$(partial_files disk/run)" ] || fail "$name: left behind: $(partial_files disk/run)"
    compare "$name" $steps
    say "$name: $(for kind in "${!count[@]}"; do printf '%s %s, ' "$kind" "${count[$kind]}"; done)$starts starts," \
        "$((SECONDS - begin)) s"
    rm -rf alone disk/run
}

compare() { # NAME STEPS
    local ends largest
    ends="final loss $(losses disk/run | tail -n 1 | cut -d ' ' -f 2)"
    if [ -z "$moves" ]; then
        [ "$(losses disk/run)" = "$(losses alone)" ] || fail "$1: the losses are not those without faults"
        identical "$1" "$(checkpoint_of disk/run "$2")" "$(checkpoint_of alone "$2")" &&
            say "$1: $ends, bit for bit as without faults"
        return
    fi
    largest=$(largest_deviation <(losses disk/run) <(losses alone))
    within "$largest" 1e-5 && say "$1: $ends, losses within $largest of those without faults" ||
        fail "$1: losses deviate by $largest from those without faults"
}

say "seed $SEED"
MESHES=("2 1 1" "1 2 1" "1 1 2")
moves=
rate=1e-3
mesh 1 1 2
campaign "one mesh" "$FAULTS"
moves=yes
rate=1e-4 # at a larger one two meshes without faults differ by 1e-4 after 100 steps: learning multiplies the rounding
mesh 1 1 1
campaign "another mesh at each start" $((FAULTS / 2))
finish
