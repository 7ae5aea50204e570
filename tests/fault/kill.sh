#!/bin/bash
# Ranks that are killed at random moments, many of them inside the write of a checkpoint, cost nothing but the steps
# since the last checkpoint: the other ranks end at once, every file that has the name of a checkpoint is a good one,
# and the run that was resumed each time ends bit for bit as one that was left alone.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

unset OMPI_MCA_odls_base_sigkill_timeout # ranks that outlive another get all the time they would have

STEPS=60
KILLS=10 # on each of two meshes
SEED=${SEED:-4711}
RANDOM=$SEED
GONE_WITHIN=10 # seconds

text_file text.txt 1500
cat >run.yaml <<END
model: {vocabulary: 256, width: 256, layers: 2, heads: 4, hidden: 512}
data: {train: text.txt, validation_fraction: 0}
optimizer: {learning_rate: 1e-3, warmup_steps: 5}
training: {steps: $STEPS, batch: 2, sequence_length: 32}
checkpoint: {every: 2, keep_last: 2}
END

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }
alive() { kill -0 "$1" 2>/dev/null; }

last_step() { # of FOLDER's metrics; 0 before there are any
    local step
    step=$(tail -n 1 "$1/metrics.jsonl" 2>/dev/null | sed -n 's/^{"step":\([0-9]*\),.*/\1/p')
    echo "${step:-0}"
}

start() { # FOLDER: sets $job; what it says goes to the file log
    "$MPIRUN" -n 2 "$CAIRN" train run.yaml --set "run.folder=$1" "${MESH[@]}" >/dev/null 2>log </dev/null &
    job=$!
}

# Waits until CONDITION holds; false if the job has ended or a minute has passed.
wait_until() {
    local end=$(($(milliseconds) + 60000))
    until eval "$1"; do
        alive "$job" && [ "$(milliseconds)" -lt $end ] || return 1
        sleep 0.01
    done
}

# Comes to the moment for a kill: in the start of the run, or some steps after it. False if the run is over.
moment() { # FOLDER NUMBER
    if [ $(($2 % 5)) -eq 0 ]; then
        wait_until '[ -n "$(pgrep -P $job)" ]' || return 1
        pause $((RANDOM % 600))
    else
        wait_until 'grep -q ^mesh: log' || return 1
        local target=$(($(last_step "$1") + 1 + RANDOM % 3))
        wait_until "[ \$(last_step '$1') -ge $target ]" || return 1
        pause $((RANDOM % 60))
    fi
    alive "$job"
}

# After a kill: nobody is left within seconds. Sets $took.
all_gone() { # NAME PID...
    local name=$1 begin end pid
    shift
    begin=$(milliseconds)
    end=$((begin + GONE_WITHIN * 1000))
    for pid in "$@" "$job"; do
        while alive "$pid" && [ "$(milliseconds)" -lt $end ]; do sleep 0.01; done
        if alive "$pid"; then
            fail "$name: process $pid still runs $GONE_WITHIN s after the kill"
            kill -9 "$@" "$job" 2>/dev/null
        fi
    done
    wait "$job" 2>/dev/null && fail "$name: mpirun ended with 0"
    took=$(($(milliseconds) - begin))
}

all_good() { # NAME FOLDER: every file that is called a checkpoint is one
    local file
    for file in "$2"/checkpoints/step-*.h5; do
        [ -e "$file" ] || continue
        run 1 checkpoint verify "$file"
        [ "$status" -eq 0 ] || fail "$1: $(last_words)"
    done
}

kills=0
in_write=0
slowest=0

kill_once() { # NAME FOLDER NUMBER
    local pids victims who running=
    start "$2"
    if ! moment "$2" "$3"; then
        wait "$job" && fail "$1: the run was over before it could be killed" || fail "$1: $(tail -n 1 log)"
        return
    fi
    grep -q '^mesh: ' log && running=yes
    if [ -n "$running" ] && [ -n "$torn" ]; then
        grep -q "^removed .*$(basename "$torn")" log || fail "$1: $torn was left by the kill before and is not removed"
    fi
    read -r -d '' -a pids < <(pgrep -P "$job")
    who=$((RANDOM % 3))
    victims=("${pids[@]}")
    [ $who -lt 2 ] && victims=("${pids[@]:$who:1}")
    kill -9 "${victims[@]}" 2>/dev/null
    all_gone "$1" "${pids[@]}"
    kills=$((kills + 1))
    [ "$took" -gt $slowest ] && slowest=$took
    torn=$(partial_files "$2")
    [ -n "$running" ] && [ -n "$torn" ] && in_write=$((in_write + 1)) && running="in a write"
    all_good "$1" "$2"
    say "$1, ${#victims[@]} of ${#pids[@]} ranks, at step $(last_step "$2")," \
        "$(case $running in '') echo starting ;; yes) echo training ;; *) echo "$running" ;; esac): gone after $took ms"
}

say "seed $SEED"
for shape in "1 1 2" "2 1 1"; do
    mesh $shape
    name=$(mesh_name $shape)
    # On one of the meshes saves are written behind the training; some are left out while another is on its way.
    behind=$([ "$shape" = "2 1 1" ] && echo true || echo false)
    [ $behind = false ] || name="$name, saves behind the training"
    MESH+=(--set "checkpoint.background=$behind")
    must "$name, left alone" 2 train run.yaml --set run.folder=alone "${MESH[@]}" || give_up "nothing to compare with"
    torn=
    for number in $(seq $KILLS); do
        kill_once "$name, kill $number" killed "$number"
    done
    must "$name, to its end" 2 train run.yaml --set run.folder=killed "${MESH[@]}" || continue
    [ -z "$(partial_files killed)" ] || fail "$name: left behind: $(partial_files killed)"
    [ $behind = true ] || [ "$(ls killed/checkpoints)" = "$(ls alone/checkpoints)" ] ||
        fail "$name: the checkpoints folder holds $(ls killed/checkpoints | paste -sd ' ')"
    steps_are killed 1 $STEPS || fail "$name: the metrics have not each step once"
    [ "$(losses killed)" = "$(losses alone)" ] || fail "$name: the losses are not those of the run left alone"
    identical "$name" "$(checkpoint_of killed $STEPS)" "$(checkpoint_of alone $STEPS)" &&
        say "$name: final loss $(losses killed | tail -n 1 | cut -d ' ' -f 2), bit for bit that of the run left alone"
    rm -rf alone killed
done

[ $kills -eq $((2 * KILLS)) ] || fail "only $kills of $((2 * KILLS)) kills"
[ $in_write -gt 0 ] || fail "no kill fell into a write"
say "$kills kills, $in_write of them in a write; all processes gone within $slowest ms"
finish
