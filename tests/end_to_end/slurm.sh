#!/bin/bash
# Jobs on a real Slurm cluster inside this machine: submitted, asked to stop, over their time limit, cancelled, left by a
# node. Each run that comes back ends bit for bit as one in a row, or to 1e-5 of the loss on another mesh.
set -u
. "$(dirname "$0")/library.sh" "$@"

SOURCE=$1
CLUSTER=("$SOURCE/slurm/devcluster.sh" --name crntest --folder "$WORK/cluster" --cpus 2)
NODES=11
STEPS=200

down() {
    "${CLUSTER[@]}" down
    clean_up
}

trap down EXIT
# What was left by one that was killed.
"${CLUSTER[@]}" down 2>/dev/null
said=$("${CLUSTER[@]}" up $NODES 2>&1)
case $? in
    0) say "$NODES nodes are up after $SECONDS s" ;;
    3)
        skip "a Slurm cluster: $(tail -n 1 <<<"$said")"
        finish
        ;;
    *) give_up "no cluster: $said" ;;
esac
. cluster/environment
export CAIRN SRUN_MPI=pmix_v4

text_file text.txt 1500
cat >run.yaml <<END
model: {vocabulary: 256, width: 64, layers: 2, heads: 4, kv_heads: 2, hidden: 100}
mesh: {tensor: 2}
data: {train: text.txt, validation_fraction: 0.02}
optimizer: {learning_rate: 1e-3, warmup_steps: 5}
training: {steps: $STEPS, batch: 12, micro_batch: 2, sequence_length: 64}
checkpoint: {every: 50}
END
# submit NAME OPTION... -- ARGUMENT...: sets $job; the log is NAME.log, the run's folder NAME.
submit() {
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    shift
    job=$(sbatch --parsable --job-name="$name" --output="$name.log" --exclusive --time=10 \
        ${options[@]+"${options[@]}"} "$SOURCE/slurm/train.sbatch" run.yaml --set "run.folder=$name" "$@") ||
        give_up "$name: sbatch refuses"
}

state() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'; }
last_step() { sed -n '$s/^{"step":\([0-9]*\),.*/\1/p' "$1/metrics.jsonl" 2>/dev/null | grep . || echo 0; }
starts() { cat "$1.log" 2>/dev/null | grep -c '^train.sbatch: start '; }
resumed_from() { sed -n 's/^resuming after step \([0-9]*\) .*/\1/p' "$1.log" | paste -sd ' '; }

at_step() { [ "$(last_step "$1")" -ge "$2" ]; }
says() { grep -q -- "$2" "$1.log" 2>/dev/null; }
over() { case $(state "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) return 1 ;; esac; }

wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1 * SLOWNESS))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# The processes of a run; those of all nodes are seen from here.
ranks_of() {
    local pid
    for pid in $(pgrep -x cairn); do
        { tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q " run.folder=$1 " && echo "$pid"; } 2>/dev/null
    done
}

# The job has come to its end in so many starts or (on a slow machine, with a time limit) more, and the run is whole.
ended() { # NAME JOB STARTS STEPS [MOST]
    wait_for 300 over "$2" || fail "$1: the job is $(state "$2") at last, at step $(last_step "$1"): $(tail -n 2 "$1.log")"
    [ "$(state "$2")" = COMPLETED ] || fail "$1: the job is $(state "$2"): $(tail -n 3 "$1.log")"
    if [ "$(starts "$1")" -lt "$3" ] || [ "$(starts "$1")" -gt "${5:-$3}" ]; then
        fail "$1: $(starts "$1") starts, not $3"
    fi
    steps_are "$1" 1 "$4" || fail "$1: the metrics have not the steps 1 to $4, each once"
}

same_as_row() { # NAME
    identical "$1" "$(checkpoint_of "$1" $STEPS)" "$(checkpoint_of row $STEPS)" || return
    [ "$(losses "$1")" = "$(losses row)" ] || fail "$1: the losses are not those of the run in a row"
    say "$1: resumed after step $(resumed_from "$1"), bit for bit the run in a row"
}

# For runs that stop at step PART: its losses are the first of the run in a row.
same_as_first_of_row() { # NAME
    [ "$(losses "$1")" = "$(losses row | head -n $PART)" ] || fail "$1: the losses are not the first of the run in a row"
    say "$1: resumed after step $(resumed_from "$1"), the losses of the run in a row"
}

# -- Started together ----------------------------------------------------------------------------------------------------

submit row --nodes=2 -- && row=$job
# A minute is the least that Slurm takes. The run learns of it from Slurm's time of the end, not by a signal.
submit limit --nodes=2 --time=1 --signal=URG@1 -- && limit=$job
# This one takes it that it has a day, so that Slurm has to end it.
submit blind --nodes=2 --time=1 --signal=URG@1 -- --set job.time_limit=1-00:00:00 && blind=$job
submit lost --nodes=2-3 --exclude=crntest[1-6,10-11] -- && lost=$job

# Those of a minute are held at some step until it is nearly over, or over.
hold() { # NAME: sets $held
    held=()
    wait_for 300 eval "at_step $1 60 || says $1 'starting again'" || fail "$1: not at step 60: $(tail -n 2 "$1.log")"
    ! says "$1" 'starting again' || return # as slow as this the machine is
    mapfile -t held < <(ranks_of "$1")
    [ ${#held[@]} -eq 4 ] || fail "$1: four ranks should be there, not ${held[*]}"
    kill -STOP "${held[@]}"
}

hold limit
if [ ${#held[@]} -gt 0 ]; then
    limit_end=$(date -d "$(squeue -h -j "$limit" -o %e)" +%s)
    (
        while [ "$(date +%s)" -lt $((limit_end - 1)) ]; do sleep 0.2; done
        kill -CONT "${held[@]}"
    ) &
fi
hold blind
if [ ${#held[@]} -gt 0 ]; then
    (
        wait_for 300 says blind 'DUE TO TIME LIMIT'
        kill -CONT "${held[@]}"
    ) &
fi

wait_for 300 at_step lost 60 || fail "lost: not at step 60: $(tail -n 2 lost.log)"
mapfile -t its_nodes < <(scontrol show hostnames "$(squeue -h -j "$lost" -o %N)")
[ ${#its_nodes[@]} -eq 3 ] || fail "lost: it runs on ${its_nodes[*]}"
gone=${its_nodes[1]}
gone_at=$(date +%s)
"${CLUSTER[@]}" lose "$gone" || fail "lost: $gone cannot be taken away"

ended row "$row" 1 $STEPS
if ! says row '^train.sbatch: start 0 .*: 4 ranks of 1 threads' || ! says row '^mesh: data 2 x .* x tensor 2,'; then
    fail "row: not the mesh that was asked for: $(grep -e '^train.sbatch' -e '^mesh:' row.log)"
fi
say "row: $STEPS steps by srun on two nodes, loss $(losses row | tail -n 1 | cut -d ' ' -f 2)"

# -- Asked to stop: by a signal to the ranks or to the script -------------------------------------------------------------

stop() { # NAME JOB STARTS OPTION...: when the run has made some progress, until it is started again
    local name=$1 job=$2 count=$3 pids
    shift 3
    wait_for 300 at_step "$name" $(($(last_step "$name") + 10)) || fail "$name: no progress: $(tail -n 2 "$name.log")"
    mapfile -t pids < <(ranks_of "$name")
    kill -STOP "${pids[@]}" # so that it cannot be over before it is asked
    scancel "$@" "$job" 2>scancel.err # for elements of arrays it says that it cannot, but does
    sleep 0.5
    kill -CONT "${pids[@]}" 2>/dev/null # Slurm may have done it
    wait_for 300 eval "[ \$(starts $name) -gt $count ]" || fail "$name, scancel $*: no start after it: $(tail -n 3 "$name.log")"
}

submit asked --nodes=2 -- && asked=$job
stop asked "$asked" 1 --signal=USR1
stop asked "$asked" 2 --signal=TERM

PART=80
LAUNCH=mpirun submit mpirun --nodes=2 -- --set training.stop_at=$PART && mpirun=$job
stop mpirun "$mpirun" 1 --signal=USR2 --batch

# Where Slurm does not requeue, the job submits itself anew.
mkdir bin
cat >bin/scontrol <<END
#!/bin/sh
[ "\$1" != requeue ] || exit 1
exec $(command -v scontrol) "\$@"
END
chmod +x bin/scontrol
PATH=$WORK/bin:$PATH submit anew --nodes=2 -- --set training.stop_at=$PART && anew=$job
stop anew "$anew" 1 --signal=USR1

# -- Ends for good ---------------------------------------------------------------------------------------------------------

submit wrong --nodes=1 -- --set training.step=5 && wrong=$job
submit cancelled --nodes=1 -- && cancelled=$job
wait_for 300 at_step cancelled 20
scancel "$cancelled"
CAIRN_IDLE_STARTS=2 submit dies --nodes=1 -- --set checkpoint.every=0 && dies=$job
for count in 1 2; do
    wait_for 300 eval "[ \$(starts dies) -eq $count ] && at_step dies 1 && [ -n \"\$(ranks_of dies)\" ]" ||
        fail "dies: start $count makes no step: $(tail -n 2 dies.log)"
    kill -9 "$(ranks_of dies | tail -n 1)"
    [ "$count" -eq 2 ] || rm -f dies/metrics.jsonl
done
wait_for 300 over "$dies" || fail "dies: the job is $(state "$dies")"
[ "$(state "$dies")" = FAILED ] && [ "$(starts dies)" -eq 2 ] && says dies 'the job gives up' ||
    fail "dies: $(starts dies) starts, and the job is $(state "$dies")"

wait_for 300 says cancelled 'the job was cancelled' && wait_for 40 over "$cancelled"
[ "$(state "$wrong")" = FAILED ] && [ "$(starts wrong)" -eq 0 ] && says wrong training.step ||
    fail "wrong: the job is $(state "$wrong"): $(tail -n 3 wrong.log)"
say "for good: a wrong setting, two deaths without a checkpoint, scancel after saving step $(last_step cancelled)"

# -- A chain -----------------------------------------------------------------------------------------------------------------

chain=$("$SOURCE/slurm/chain.sh" 3 --parsable --output=chain.log --nodes=2 --ntasks-per-node=2 --time=10 \
    -- run.yaml --set run.folder=chain --set training.stop_at=$PART) || give_up "chain.sh refuses"
stop chain "${chain}_1" 1 --signal=USR1 --batch
wait_for 300 eval '[ -z "$(squeue -h -j $chain)" ]' || fail "chain: left are $(squeue -h -j "$chain")"
[ "$(state "${chain}_1") $(state "${chain}_2") $(state "${chain}_3")" = "FAILED COMPLETED CANCELLED" ] ||
    fail "chain: its jobs are $(state "${chain}_1") $(state "${chain}_2") $(state "${chain}_3")"
same_as_first_of_row chain

mapfile -t chain < <("$SOURCE/slurm/chain.sh" --singleton 3 --parsable --job-name=singly --nodes=2 --ntasks-per-node=2 --time=10 \
    -- run.yaml --set run.folder=singly --set training.stop_at=$PART)
[ ${#chain[@]} -eq 3 ] || give_up "chain.sh --singleton submits ${#chain[@]} jobs"
stop singly "${chain[0]}" 1 --signal=USR1 --batch
wait_for 300 over "${chain[2]}" || fail "singly: the third job is $(state "${chain[2]}")"
[ "$(state "${chain[0]}") $(state "${chain[1]}") $(state "${chain[2]}")" = "FAILED COMPLETED CANCELLED" ] ||
    fail "singly: its jobs are $(state "${chain[0]}") $(state "${chain[1]}") $(state "${chain[2]}")"
same_as_first_of_row singly

# -- What has become of the others -----------------------------------------------------------------------------------------

[ "$(state "$cancelled")" = CANCELLED ] && [ "$(starts cancelled)" -eq 1 ] ||
    fail "cancelled: $(starts cancelled) starts, and the job is $(state "$cancelled")"
[ "$(cat cancelled/checkpoints/latest)" = "$(basename "$(checkpoint_of cancelled "$(last_step cancelled)")")" ] ||
    fail "cancelled: the last step was $(last_step cancelled), saved was $(cat cancelled/checkpoints/latest)"

ended mpirun "$mpirun" 2 $PART
same_as_first_of_row mpirun
says anew 'submitting it anew' || fail "anew: the job was requeued"
again=$(sed -n 's/^Submitted batch job //p' anew.log)
scontrol show job "$again" | grep -q 'OverSubscribe=NO' || fail "anew: the second job shares its nodes with others"
[ "$(state "$anew")" = FAILED ] || fail "anew: the first job is $(state "$anew")"
ended anew "$again" 2 $PART
same_as_first_of_row anew
ended asked "$asked" 3 $STEPS
[ "$(grep -c '^stopped after step' asked.log)" -eq 2 ] || fail "asked: it did not save when asked: $(grep '^stopped' asked.log)"
same_as_row asked
ended limit "$limit" 2 $STEPS 5
says limit 'stopped after step .* by the time limit of the job' || fail "limit: stopped otherwise: $(grep stopped limit.log)"
same_as_row limit
ended blind "$blind" 2 $STEPS 5
same_as_row blind

ended lost "$lost" 2 $STEPS
says lost "Node failure on $gone" || fail "lost: $gone is not named"
at=$(sed -n 's/.* JOB [0-9]* ON .* CANCELLED AT \([^ ]*\) DUE TO NODE FAILURE.*/\1/p' lost.log)
named_after=$(($(date -d "${at:-tomorrow}" +%s) - gone_at))
back=$(sed -n 's/^train.sbatch: start 1 .* at \([^ ]*\) on .*/\1/p' lost.log)
back_after=$(($(date -d "${back:-tomorrow}" +%s) - gone_at))
[ $named_after -le 60 ] || fail "lost: the job ended $named_after s after $gone was lost"
[ "$(grep '^mesh:' lost.log | cut -d ' ' -f 3 | paste -sd ' ')" = "3 2" ] ||
    fail "lost: not first three data ranks, then two: $(grep '^mesh:' lost.log)"
deviation=$(largest_deviation <(losses lost) <(losses row))
within "$deviation" 1e-5 || fail "lost: losses deviate by $deviation from those of the run in a row"
say "lost: the job ended $named_after s after the loss of $gone, and began on the other nodes $back_after s after it," \
    "resumed after step $(resumed_from lost), losses to $deviation"

finish
