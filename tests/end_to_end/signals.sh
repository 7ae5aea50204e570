#!/bin/bash
# One rank of several gets a signal, or a file asks, or the time of the job is over: all ranks save the same step and end
# with 85, and so does mpirun; the next start goes on, and after many such stops the run is bit for bit what it is in a
# row. A second signal ends a process at once, even one that waits for a rank that does not answer.
set -u
. "$(dirname "$0")/library.sh" "$@"

LIMIT=150 # for a machine that has other work, too

# Of widths that make a step take tens of milliseconds; more steps than will be done.
text_file text.txt 5000
cat >run.yaml <<END
model: {vocabulary: 256, width: 192, layers: 2, heads: 4, kv_heads: 2, hidden: 400}
data: {train: text.txt, validation_fraction: 0.3}
optimizer: {learning_rate: 1e-3, warmup_steps: 5, schedule: constant}
training: {steps: 100000, batch: 4, micro_batch: 2, sequence_length: 64}
checkpoint: {every: 0}
run: {folder: run}
END

# Whether a process runs; one that nobody has asked for its status does not.
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

ends_soon() { # PID: within two seconds
    local try
    for try in {1..100}; do
        alive "$1" || return 0
        sleep 0.02
    done
    return 1
}

# The step of the newest line of metrics.jsonl, training or evaluation; 0 before there are any.
last() {
    local step
    step=$(tail -n 1 run/metrics.jsonl 2>/dev/null | sed -n 's/^{"step":\([0-9]*\),.*/\1/p')
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

# start ARGUMENT...: $job is mpirun, or the program on one rank; what it says goes to the file log, and $before is the
# step it goes on from.
start() {
    local launch=()
    before=$(ls run/checkpoints 2>/dev/null | sed -n 's/^step-0*\([0-9]*\)\.h5$/\1/p' | sort -n | tail -n 1)
    before=${before:-0}
    [ $ranks -eq 1 ] || launch=("$MPIRUN" -n $ranks)
    timeout -k 5 "$(limit)" ${launch[@]+"${launch[@]}"} "$CAIRN" train run.yaml "${MESH[@]}" "$@" >out 2>log </dev/null &
    launcher=$!
    job=$launcher
    for try in {1..500}; do # below timeout
        job=$(pgrep -P $launcher) && break
        sleep 0.02
    done
}

# rank NUMBER: its process.
rank() { if [ $ranks -eq 1 ]; then echo "$job"; else pgrep -P "$job" | sort -n | sed -n "$(($1 + 1))p"; fi; }

# Some steps behind where it began.
trained() { wait_until "grep -q ^mesh: log && [ \$(last) -ge $((before + 3)) ]"; }

# ended NAME STATUS: waits for the end of the job.
ended() {
    wait "$launcher"
    local code=$?
    [ $code -eq "$2" ] || fail "$1: ends with $code, not $2: $(grep -v '^ *$' log | tail -n 3 | paste -sd ' ')"
}

# stopped NAME REASON: the job ends with 85, having saved the last step that it did.
stopped() {
    ended "$1" 85
    local step
    step=$(losses run | tail -n 1 | cut -d ' ' -f 1)
    grep -q "^stopped after step $step of .* by $2" log || fail "$1: does not say that it was stopped after step $step by $2"
    [ "$(cat run/checkpoints/latest)" = "$(basename "$(checkpoint_of run "$step")")" ] ||
        fail "$1: latest names $(cat run/checkpoints/latest), the last step was $step"
    run 1 checkpoint verify "$(checkpoint_of run "$step")"
    [ "$status" -eq 0 ] || fail "$1: $(last_words)"
    [ "$step" -gt "$before" ] || fail "$1: no step was done"
    [ -z "$(partial_files run)" ] || fail "$1: left behind: $(partial_files run)"
    [ "$before" -eq 0 ] || grep -q "^resuming after step $before " log || fail "$1: did not go on after step $before"
    grep -q "\"end\":.*\"step\":$step,\"exit\":85" run/starts.jsonl || fail "$1: starts.jsonl does not tell of this end"
    say "$1: step $before to $step, $2"
}

signal_rank() { # SIGNAL RANK [SIGNAL]: after some steps; the one at once behind it belongs to it
    start
    trained || fail "$1 to rank $2: $(tail -n 1 log)"
    kill -"$1" "$(rank "$2")"
    [ $# -lt 3 ] || kill -"$3" "$(rank "$2")"
    reason="a signal to another rank"
    [ "$2" -ne 0 ] || reason=$1
    stopped "$1 to rank $2 of $ranks" "$reason"
}

# The same steps in a row, on the same mesh.
in_a_row() { # NAME
    local step
    step=$(losses run | tail -n 1 | cut -d ' ' -f 1)
    must "$1, in a row" $ranks train run.yaml "${MESH[@]}" --set run.folder=row --set training.stop_at="$step" \
        --set data.validation_fraction=0.3 || return
    identical "$1" "$(checkpoint_of run "$step")" "$(checkpoint_of row "$step")" || return
    steps_are run 1 "$step" || fail "$1: the metrics have not each step once"
    [ "$(losses run)" = "$(losses row)" ] || fail "$1: the losses are not those of the run in a row"
    say "$1: $step steps, $(grep -c start run/starts.jsonl) starts, bit for bit those of the run in a row"
    rm -rf run row
}

# -- Signals, files, the time limit: one run, stopped again and again -------------------------------------------------------

mesh 2 2 1
signal_rank USR1 3
signal_rank USR2 0
signal_rank TERM 1 TERM

start
wait_until 'grep -q "ranks, " log' || fail "start: $(tail -n 1 log)"
kill -USR1 "$(rank 2)"
stopped "USR1 while the run is set up" "a signal to another rank"

start
trained
kill -USR1 "$job"
stopped "USR1 to mpirun" 'USR1\|a signal to another rank' # whichever comes first

# mpirun answers TERM by ending its ranks, of which it tells them by CONT: they save meanwhile.
OMPI_MCA_odls_base_sigkill_timeout=3 start
trained
reached=$(last)
kill -TERM "$job"
wait "$launcher"
code=$?
[ $code -ne 0 ] && [ $code -ne 124 ] || fail "TERM to mpirun: ends with $code"
saved=$(sed -n 's/^step-0*\([0-9]*\)\.h5$/\1/p' run/checkpoints/latest)
[ "$saved" -ge "$reached" ] || fail "TERM to mpirun: step $reached was done, the newest checkpoint is of step $saved"
grep -q '^got CONT, which mpirun sends' log || fail "TERM to mpirun: CONT is not told of"
[ -z "$(partial_files run)" ] || fail "TERM to mpirun: left behind: $(partial_files run)"
say "TERM to mpirun: step $before to $saved"

# What an earlier start was asked for is not asked of this one; time is left to the step with which it ends.
touch run/stop
SLURM_JOB_END_TIME=$(($(date +%s) - 100)) start --set training.stop_at=$((saved + 12))
ended "a file stop and a limit from before the start" 0
grep -q '^run/stop: was there before this start, so it is not obeyed, but removed' log || fail "an old file stop: $(grep -v ^step log)"
grep -q '^SLURM_JOB_END_TIME was 10[0-9] s ago, so it is that of another job' log || fail "an old SLURM_JOB_END_TIME: $(grep -v ^step log)"
[ "$(last)" -ge $((saved + 12)) ] && [ ! -e run/stop ] || fail "a file stop from before the start: ended after step $(last)"
tr '\r' '\n' <log | sed -n 's/.* MFU [0-9.]* %  \(.*\) left.*/\1/p' | grep -q '[dh]' &&
    fail "time left: $(tr '\r' '\n' <log | grep -m 1 '[dh].* left')"
grep -q "^step $((saved + 12))/100000 .* left" log || fail "time left: the last step of this start is not shown"

start
trained
touch run/stop
stopped "the file stop" "the file run/stop"
[ ! -e run/stop ] || fail "the file stop: is still there"

start
trained
touch run/save
wait_until '[ ! -e run/save ]' || fail "the file save: is still there"
saved=$(sed -n 's/^step-0*\([0-9]*\)\.h5$/\1/p' run/checkpoints/latest)
[ "$saved" -gt "$before" ] || fail "the file save: the newest checkpoint is of step $saved"
wait_until "[ \$(last) -ge $((saved + 2)) ]" || fail "the file save: the run does not go on"
kill -USR2 "$(rank 1)"
stopped "the file save (step $saved), then USR2" "a signal to another rank"

# An evaluation after each step, which takes longer than the step.
evaluated() { values run validation_loss | tail -n 1 | cut -d ' ' -f 1; }
start --set evaluation.every=1
wait_until "[ \$(losses run | tail -n 1 | cut -d ' ' -f 1) -eq $((before + 1)) ]"
sleep 0.2
kill -USR1 "$(rank 2)"
stopped "USR1 during an evaluation" "a signal to another rank"
[ "$(last)" -eq $((before + 1)) ] && [ "$(evaluated)" != $((before + 1)) ] || fail "USR1 during an evaluation: it was not stopped"
start --set evaluation.every=1
wait_until "[ \"\$(evaluated)\" = $before ]" || fail "USR1 during an evaluation: the next start does not begin with it"
kill -USR1 "$(rank 2)"
stopped "USR1 behind that evaluation" "a signal to another rank"

begin=$(date +%s%N)
start --time-limit 0:04
stopped "--time-limit 0:04" "the time limit of the job"
took=$((($(date +%s%N) - begin) / 1000000))
grep -q 'more jobs like this one finish it' log || fail "--time-limit: does not say how many more jobs it takes"
say "--time-limit 0:04 took $took ms, with the start of mpirun"

end=$(($(date +%s) + 12))
SLURM_JOB_END_TIME=$end start
stopped "SLURM_JOB_END_TIME" "the time limit of the job"
[ "$(date +%s)" -le $end ] || fail "SLURM_JOB_END_TIME: ended too late"

start --set job.time_limit=0:01 # before a step is done
stopped "a limit that is too near" "the time limit of the job"

in_a_row "$(mesh_name 2 2 1)"

# -- One rank, without mpirun ----------------------------------------------------------------------------------------------

mesh 1 1 1
signal_rank USR1 0
signal_rank TERM 0
in_a_row "one rank"

# -- A second signal ---------------------------------------------------------------------------------------------------------

mesh 1 1 2
signal_rank USR2 1
start
trained
frozen=$(rank 1)
first=$(rank 0)
kill -STOP "$frozen"
kill -USR1 "$first"
sleep 1.5
alive "$first" || fail "a second signal: the first one has ended the process"
kill -USR1 "$first"
ends_soon "$first" || fail "a second signal: the process still runs"
wait "$launcher"
code=$?
[ $code -ne 0 ] && [ $code -ne 85 ] || fail "a second signal: mpirun ends with $code"
ends_soon "$frozen" || fail "a second signal: the other rank still runs"
signal_rank USR1 0
grep -q '"lost":' run/starts.jsonl || fail "a second signal: the next start does not count it as lost"
in_a_row "$(mesh_name 1 1 2), after a second signal"

# -- Ends that are none ------------------------------------------------------------------------------------------------------

# A signal in the last step: the run is finished, and says so.
mesh 2 1 1
start --set training.stop_at=1 --set data.validation_fraction=0
wait_until 'grep -q "ranks, " log'
kill -USR1 "$(rank 1)"
ended "USR1 in the last step" 0
[ -f "$(checkpoint_of run 1)" ] || fail "USR1 in the last step: there is no checkpoint"
rm -rf run

# Evaluating takes longer than the job may: no number of starts would bring it further, so it is not asked for.
must "before the limit" 2 train run.yaml "${MESH[@]}" --set training.stop_at=2 --set data.validation_fraction=0
run 2 train run.yaml "${MESH[@]}" --set training.stop_at=2 --time-limit 0:01 --accept-changes
[ "$status" -eq 2 ] && grep -q '^cairn: the time limit of the job leaves no time for the evaluation after step 2' err ||
    fail "an evaluation longer than the job: $(last_words)"

# The text at the end, however long: a run that is finished, and stays so.
rm -rf run
for ranks in 1 2; do
    mesh $ranks 1 1
    start --set training.stop_at=1 --set data.validation_fraction=0 --set run.prompt=the --set run.prompt_tokens=2147483647
    wait_until '[ $(wc -c <out) -gt 50 ]' || fail "an endless text: does not begin: $(tail -n 1 log)"
    kill -TERM "$(rank $((ranks - 1)))"
    ended "TERM in an endless text" 0
    grep -q '^stopped after [1-9][0-9]* of the 2147483647 tokens of run.prompt_tokens' log || fail "an endless text: $(tail -n 1 log)"
    [ -f "$(checkpoint_of run 1)" ] || fail "an endless text: there is no checkpoint"
    rm -rf run
done

# Other commands know no requests: a signal ends them.
"$CAIRN" eval run.yaml --set mesh.data=1 --set data.validation_fraction=0.9 --set data.train=text.txt >out 2>err </dev/null &
job=$!
sleep 1
kill -TERM $job 2>/dev/null && {
    wait $job
    code=$?
    [ $code -eq 143 ] || fail "TERM to cairn eval: ends with $code"
}

finish
