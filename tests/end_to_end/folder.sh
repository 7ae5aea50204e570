#!/bin/bash
# The folder of a run belongs to one job at a time: a second one is refused before it changes anything, and after a job
# that was killed the next start goes on by itself.
set -u
. "$(dirname "$0")/library.sh" "$@"

text_file text.txt 2000
cat >run.yaml <<END
model: {vocabulary: 256, width: 64, layers: 2, heads: 4, hidden: 128}
data: {train: text.txt, validation_fraction: 0}
optimizer: {learning_rate: 1e-3, warmup_steps: 5, schedule: constant}
training: {steps: 100000, batch: 4, sequence_length: 32}
checkpoint: {every: 20, keep_last: 2}
run: {folder: run}
mesh: {data: 2}
END

alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

last() {
    local step
    step=$(tail -n 1 "$1/metrics.jsonl" 2>/dev/null | sed -n 's/^{"step":\([0-9]*\),.*/\1/p')
    echo "${step:-0}"
}

wait_until() { # CONDITION: false if the job has ended or a minute has passed
    local tries
    for tries in {1..3000}; do
        eval "$1" && return 0
        alive "$job" || return 1
        sleep 0.02
    done
    return 1
}

start() { # ARGUMENT...: on two ranks, as $job
    timeout -k 5 "$(limit)" "$MPIRUN" -n 2 "$CAIRN" train run.yaml "$@" >/dev/null 2>log </dev/null &
    launcher=$!
    job=
    while [ -z "$job" ] && alive $launcher; do job=$(pgrep -P $launcher) || sleep 0.02; done
}

# -- Two jobs ----------------------------------------------------------------------------------------------------------

export SLURM_JOB_ID=4711 # of the first one only
start
unset SLURM_JOB_ID
wait_until '[ $(last run) -ge 30 ]' || give_up "two jobs: the first one does not begin: $(tail -n 1 log)"
owner=$(sed -n 's/.*"process":\([0-9]*\),.*/\1/p' run/lock)
pgrep -P "$job" | grep -qx "$owner" || fail "two jobs: run/lock names process $owner, which is no rank"
refused() { # NAME RANKS ARGUMENT...
    local name=$1
    shift
    touch run/stay # whatever a start of its own would remove or move aside is there
    cp run/config.yaml before.yaml
    run "$@"
    [ "$status" -eq 2 ] || fail "$name: $(last_words)"
    grep -q "^cairn: run.folder: another job writes into this folder: run/lock belongs to process $owner on host $(hostname) (job 4711), since 20.*; wait for its end, end it, or choose another run.folder" err ||
        fail "$name: $(last_words)"
    cmp -s run/config.yaml before.yaml || fail "$name: config.yaml is another"
    [ "$(ls -d run/*.1 2>/dev/null)" = "" ] || fail "$name: moved aside: $(ls -d run/*.1)"
}
refused "the same command" 2 train run.yaml
refused "to begin anew" 2 train run.yaml --resume none
alive "$job" || fail "two jobs: the first one has ended: $(tail -n 1 log)"
touch run/stop
wait "$launcher"
[ $? -eq 85 ] || fail "two jobs: the first one: $(tail -n 1 log)"
steps_are run 1 "$(losses run | wc -l)" || fail "two jobs: the metrics have not each step once"
[ "$(ls -A run | paste -sd ' ')" = "checkpoints config.yaml metrics.jsonl starts.jsonl stay" ] ||
    fail "two jobs: the folder holds $(ls -A run | paste -sd ' ')"
say "two jobs: the second was refused twice, the first has done $(last run) steps"

# -- After a job that was killed -----------------------------------------------------------------------------------------

start
wait_until "[ \$(last run) -ge $(($(last run) + 25)) ]" || fail "killed: does not begin: $(tail -n 1 log)"
kill -9 $(pgrep -P "$job") "$job"
wait "$launcher" 2>/dev/null
[ -e run/lock ] || fail "killed: there is no lock to find"
reached=$(last run)
begin=$SECONDS
must "killed" 2 train run.yaml --set training.stop_at=$((reached + 5))
grep -q '^took over run/lock, which process .* left behind' err || fail "killed: does not say that it took over the lock"
steps_are run 1 $((reached + 5)) || fail "killed: the metrics have not each step once"
[ ! -e run/lock ] || fail "killed: the lock is still there"

# Taken for dead while it was only stopped: it ends, and saves nothing over what the other one does.
start
wait_until "[ \$(last run) -ge $((reached + 10)) ]" || fail "cut off: does not begin: $(tail -n 1 log)"
echo '{"host":"elsewhere","process":1,"boot":"x","since":1e9}' >other
mv other run/lock
wait "$launcher"
[ $? -eq 1 ] || fail "cut off: $(tail -n 1 log)"
grep -q '^cairn: run.folder: this job was taken for dead, and run/lock now belongs to process 1 on host elsewhere' log ||
    fail "cut off: $(grep ^cairn log)"
grep -q elsewhere run/lock || fail "cut off: the lock of the other one is gone"
rm run/lock

# -- Others that write there -----------------------------------------------------------------------------------------------

mkdir made
"$CAIRN" config run.yaml >/dev/null || fail "config: ends with $?"
printf '{"host":"%s","process":%d,"born":%d,"boot":"%s","processes":"%s","since":1e9}\n' "$(hostname)" $$ \
    "$(sed 's/.*) //' /proc/$$/stat | cut -d ' ' -f 20)" "$(cat /proc/sys/kernel/random/boot_id)" \
    "$(readlink /proc/$$/ns/pid)" >made/lock
run 1 checkpoint convert "$(checkpoint_of run 20 | xargs ls 2>/dev/null || ls run/checkpoints/step-*.h5 | head -n 1)" made \
    --to run.yaml --set mesh.data=1
[ "$status" -eq 2 ] && grep -q "made/lock belongs to process $$ on host $(hostname), since 20" err ||
    fail "convert into the folder of another: $(last_words)"
[ ! -e made/checkpoints ] || fail "convert into the folder of another: it has written there"

finish
