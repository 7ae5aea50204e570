#!/bin/bash
# The folder of a run belongs to one job at a time: a second one is refused before it changes anything, and after a job
# that was killed the next start goes on by itself. What a run writes of itself neither ends it, when that cannot be
# written, nor is it lost, when a part is damaged.
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

# -- Damage ----------------------------------------------------------------------------------------------------------------

short() { must "$1" 1 train run.yaml --set mesh.data=1 --set run.folder=short "${@:2}"; }

short "damage" --set training.stop_at=30
cp short/metrics.jsonl whole
sed -i '5s/.*/ /; 9s/.$/\r/; 12s/"loss"/"lo/' short/metrics.jsonl
printf '\0\0{"step":30,"validation_lo' >>short/metrics.jsonl
echo garbage >>short/starts.jsonl
"$CAIRN" report short --output page >out 2>err || fail "damage: report ends with $?: $(last_words)"
grep -q '^short/metrics.jsonl: 4 lines are broken and left out' err || fail "damage: report says $(cat err)"
short "damage, gone on" --set training.stop_at=40
grep -q '^short/metrics.jsonl: 5 damaged lines are kept in short/metrics.jsonl.damaged' err || fail "damage: $(cat err)"
grep -q '^short/starts.jsonl: 1 damaged lines are passed over' err || fail "damage: $(cat err)"
[ "$(losses short | cut -d ' ' -f 1 | paste -sd ' ')" = "$(seq 40 | grep -vx '5\|9\|12' | paste -sd ' ')" ] ||
    fail "damage: the metrics have the steps $(losses short | cut -d ' ' -f 1 | paste -sd ' ')"
for step in 9 12; do
    grep -q "^{\"step\":$step," short/metrics.jsonl.damaged || fail "damage: step $step is not kept"
done
[ "$(grep -c '"start":' short/starts.jsonl)" -eq 2 ] && grep -qx garbage short/starts.jsonl ||
    fail "damage: starts.jsonl: $(cat short/starts.jsonl)"
rm -rf short

# -- Data that shrinks while it is read ------------------------------------------------------------------------------------

# Told once, however many ranks see it; in a step, and in an evaluation.
for settings in "" "--set data.validation=shrinks.txt --set evaluation.every=1"; do
    cp text.txt shrinks.txt
    data=shrinks.txt
    [ -z "$settings" ] || data=text.txt
    start --set run.folder=shrunk --set data.train=$data $settings
    wait_until '[ $(last shrunk) -ge 3 ]' || fail "shrinking data: does not begin: $(tail -n 1 log)"
    truncate -s 1000 shrinks.txt
    wait "$launcher"
    code=$?
    [ $code -eq 1 ] && [ "$(grep -c '^cairn' log)" -eq 1 ] && grep -q '^cairn: shrinks.txt: has shrunk from [0-9]* to 1000 bytes' log ||
        fail "shrinking data, $settings: ends with $code: $(grep '^cairn' log)"
    rm -rf shrunk
done

# -- A disk that is full for a while, a folder that is gone ------------------------------------------------------------------

# disturbed NAME COMMAND [COMMAND]: a run of many short steps beside which the commands are done, some steps after each
# other. It has to come to its end with all that it writes.
disturbed() {
    start --set training.stop_at=100000 --set run.folder=disk/run --set checkpoint.every=0
    wait_until '[ $(last disk/run) -ge 10 ]' || fail "$1: does not begin: $(tail -n 1 log)"
    eval "$2"
    wait_until "$3" || fail "$1: is not told: $(grep -v ^step log | tail -n 3 | paste -sd ' ')"
    sleep 0.5
    eval "${4:-}"
    wait_until 'grep -q "metrics.jsonl: written again, with [0-9]* lines that waited" log' || fail "$1: is not filled in: $(grep -v ^step log | tail -n 2)"
    kill -USR1 "$(pgrep -P "$job" | head -n 1)"
    wait "$launcher"
    local code=$?
    [ $code -eq 85 ] || fail "$1: ends with $code: $(grep '^cairn' log)"
    local steps
    steps=$(sed -n 's/^stopped after step \([0-9]*\) of.*/\1/p' log)
    steps_are disk/run 1 "${steps:-0}" || fail "$1: the metrics have not each step once: $(losses disk/run | wc -l) of $steps"
    [ "$(grep -c 'metrics.jsonl: cannot be written' log)" -eq 1 ] || fail "$1: told $(grep -c 'metrics.jsonl: cannot be written' log) times"
    [ -f "$(checkpoint_of disk/run "$steps")" ] || fail "$1: no checkpoint of step $steps"
    [ "$(wc -l <disk/run/starts.jsonl)" -eq 2 ] || fail "$1: starts.jsonl: $(cat disk/run/starts.jsonl)"
    "$CAIRN" config disk/run/config.yaml >/dev/null 2>err || fail "$1: config.yaml: $(cat err)"
    [ -z "$(partial_files disk/run)" ] || fail "$1: left behind: $(partial_files disk/run)"
    say "$1: $steps steps"
    rm -rf disk/run
}

mkdir disk
if mount -t tmpfs -o size=4m none disk 2>/dev/null; then
    MOUNTS+=("$WORK/disk")
    disturbed "a disk that fills up" 'dd if=/dev/zero of=disk/filler bs=4k status=none 2>/dev/null' \
        'grep -q "metrics.jsonl: cannot be written: No space left on device; its lines wait" log' 'rm -f disk/filler'
    # From the beginning, and with an instruction to go back: what only records it does not end the run.
    must "a checkpoint from elsewhere" 2 train run.yaml --set training.stop_at=2 --set run.folder=elsewhere
    dd if=/dev/zero of=disk/filler bs=4k status=none 2>/dev/null
    run 2 train run.yaml --set run.folder=disk/run --resume "$(checkpoint_of elsewhere 2)" --set training.stop_at=4
    [ "$status" -eq 1 ] && grep -q '^disk/run/resumed: cannot write it: No space left .*training goes on' err &&
        grep -q '^checkpoint of step 2 failed: .*training goes on' err && grep -q '^step 4/' err &&
        grep -q '^cairn: checkpoint needs' err || fail "a full disk, --resume FILE: $(cat err)"
    rm -rf disk/run disk/filler
    dd if=/dev/zero of=disk/filler bs=4k status=none 2>/dev/null
    start --set training.stop_at=100000 --set run.folder=disk/run --set checkpoint.every=0 --resume none
    wait_until 'grep -q "^step" log' || fail "a full disk: does not begin: $(tail -n 1 log)"
    for file in resumed config.yaml starts.jsonl metrics.jsonl; do
        wait_until "grep -q '^disk/run/$file: cannot .*writ.*: No space left' log" || fail "a full disk: $file is not told of"
    done
    sleep 2.5
    rm -f disk/filler
    wait_until 'grep -q "metrics.jsonl: written again" log && grep -q "config.yaml: written" log && grep -q "resumed: written" log && grep -q "starts.jsonl: written" log' ||
        fail "a full disk: is not filled in: $(grep -v ^step log | tail -n 3 | paste -sd ' ')"
    touch disk/run/stop
    wait "$launcher"
    [ $? -eq 85 ] || fail "a full disk: $(grep ^cairn log)"
    steps_are disk/run 1 "$(sed -n 's/^stopped after step \([0-9]*\) of.*/\1/p' log)" || fail "a full disk: the metrics have not each step once"
    grep -q '^training:' disk/run/config.yaml || fail "a full disk: config.yaml has no settings"
    [ "$(cat disk/run/resumed | tail -n 1)" = "after step 0" ] || fail "a full disk: resumed: $(cat disk/run/resumed)"
    [ "$(grep -c 'config.yaml: cannot write it' log)" -eq 1 ] || fail "a full disk: config.yaml is told of more than once"
    rm -rf disk/run
else
    skip "a disk that fills up: mount is not permitted"
fi
disturbed "a folder that is moved away" 'mv disk/run disk/other' \
    'grep -q "metrics.jsonl: cannot be written: No such file" log' 'mv disk/other disk/run; rm disk/run/metrics.jsonl'
disturbed "a folder that is removed" 'cp disk/run/starts.jsonl disk/run/config.yaml .; rm -rf disk/run' \
    'grep -q "metrics.jsonl: cannot be written: No such file" log' 'mkdir disk/run; mv starts.jsonl config.yaml disk/run'

finish
