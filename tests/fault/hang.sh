#!/bin/bash
# A job that hangs says who is behind and ends with 85: a rank that left a collective out, one that stays outside of MPI,
# one that is stopped. One that is only slow is named and waited for.
set -u
. "$(dirname "$0")/../end_to_end/library.sh" "$@"

PLAY=$(dirname "$CAIRN")/tests/hang_program
QUIET=$((2 * SLOWNESS)) # seconds without a move that are a hang; the machine may be busy when a run trains

# play ARGUMENT...: on 4 ranks; leaves status, err and the seconds it took in $took.
play() {
    local begin=$SECONDS
    rm -rf folder
    mkdir folder
    timeout -k 5 "$(limit)" "$MPIRUN" -n 4 "$PLAY" folder $QUIET "$@" >out 2>err </dev/null
    status=$?
    took=$((SECONDS - begin))
}

# hangs NAME WORDS ARGUMENT...: the job ends with 85 and one message, with the words in it.
hangs() {
    local name=$1 words=$2
    shift 2
    play "$@"
    verdict "$name" "$words"
}

verdict() {
    [ $status -eq 85 ] || fail "$1: $(last_words)"
    [ $took -le $((QUIET + 15 * SLOWNESS)) ] || fail "$1: took $took s"
    [ "$(grep -c '^cairn: hang: ' err)" -eq 1 ] || fail "$1: $(grep -c '^cairn: hang: ' err) messages"
    local still
    still=$(sed -n 's/^cairn: hang: nothing has moved for \([0-9]*\) s: .*/\1/p' err)
    [ "$still" -ge "$QUIET" ] && [ "$still" -le $((took + 1)) ] || fail "$1: nothing has moved for \"$still\" s of $took"
    grep -q "^cairn: hang: .*$2" err || fail "$1: not \"$2\" but \"$(grep '^cairn: hang' err)\""
    say "$1: $took s; $(grep '^cairn: hang' err | cut -c 1-240)"
}

# Beside the others, since they take long. Where nothing can be written each rank ends the job by itself; where all wait
# for the disk nobody is waited for.
timeout -k 5 "$(limit)" "$MPIRUN" -n 4 "$PLAY" no/such/folder $QUIET stay 1 >nowhere.out 2>nowhere.err </dev/null &
nowhere=$!
mkdir disks
timeout -k 5 "$(limit)" "$MPIRUN" -n 4 "$PLAY" disks $QUIET disks >disks.out 2>disks.err </dev/null &
disks=$!

HOST=$(hostname)
play nothing
[ $status -eq 0 ] && [ ! -s err ] || fail "nothing: $(last_words)"
[ -z "$(ls folder)" ] || fail "nothing: left $(ls folder)"

hangs "left out on tensor" "rank 3 on host $HOST is behind: its last collective on tensor was number 19, and it waits in \
all-reduce number [0-9]* on [a-z]* (step [45], .*; rank 2 waits in all-reduce number 20 on tensor (step 4, in training, \
micro-batch 1, backward, layer 4)" skip 3 tensor
hangs "left out on team" "rank 0 on host $HOST is behind: its last collective on team was number [0-9]*, and it waits in" \
    skip 0 team
hangs "outside of MPI" "rank 1 on host $HOST is behind: its last collective on tensor was number 18, it is outside of MPI \
(step 4, in training, micro-batch 1, backward, layer 3); rank 0 waits in all-reduce number 19 on tensor (step 4, .*layer \
3); ranks 2-3 wait in all-reduce number 4 on replica (step 4, in the optimiser)" stay 1
[ "$(ls folder/hang | paste -sd ' ')" = "rank-00000.json rank-00001.json rank-00002.json rank-00003.json" ] ||
    fail "outside of MPI: folder/hang holds $(ls folder/hang | paste -sd ' ')"
hangs "inside of ScaLAPACK" "rank 2 on host $HOST does not answer: stopped, dead or cut off; ranks 0-1, 3 wait in ScaLAPACK \
call number [0-9]* on team (step 4, in the optimiser)" grid 2

play slow 2
[ $status -eq 0 ] || fail "slow: $(last_words)"
grep -q "have waited for more than $QUIET s; rank 2 on host $HOST is still at work" err ||
    fail "slow: $(last_words)"
[ -z "$(ls folder)" ] || fail "slow: left $(ls folder)"
say "slow: $(last_words)"

play disk 2
[ $status -eq 0 ] || fail "disk: $(last_words)"
grep -q "have waited for more than $QUIET s; rank 2 on host $HOST is still waiting for its disk" err ||
    fail "disk: $(last_words)"
[ -z "$(ls folder)" ] || fail "disk: left $(ls folder)"
say "disk: $(last_words)"

wait $disks || fail "disks: ends with $?: $(cat disks.err)"
[ ! -s disks.err ] || fail "disks: $(cat disks.err)"
wait $nowhere
[ $? -eq 85 ] && grep -q '^cairn: hang: nothing has moved for .* s: no more can be told' nowhere.err ||
    fail "nowhere: $(cat nowhere.err)"

# -- A training run of which a rank is stopped ----------------------------------------------------------------------------

text_file text.txt 400
cat >run.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64}
data: {train: text.txt, validation_fraction: 0}
training: {steps: 1000000, batch: 4, micro_batch: 1, sequence_length: 32}
checkpoint: {every: 50}
mesh: {pipeline: 2, tensor: 2}
watch: {hang_seconds: $((3 * QUIET))}
run: {folder: run}
END
mkdir -p run/hang
touch run/hang/rank-00007.json
timeout -k 5 "$(limit)" "$MPIRUN" -n 4 "$CAIRN" train run.yaml >out 2>err </dev/null &
job=$!
until ls run/checkpoints/step-*.h5 >/dev/null 2>&1 || ! kill -0 $job 2>/dev/null; do sleep 0.1; done
[ ! -e run/hang ] || fail "stopped: what an earlier hang left is still there"
mapfile -t ranks < <(pgrep -P "$(pgrep -P $job)")
kill -STOP "${ranks[2]}"
begin=$SECONDS
wait $job
status=$?
took=$((SECONDS - begin))
verdict "stopped" "rank 2 on host $HOST does not answer: stopped, dead or cut off; "
runs() { grep -qs 'State:[[:space:]]*[RSDTt]' "/proc/$1/status"; }
for pid in "${ranks[@]}"; do
    for _ in $(seq 100); do runs "$pid" && sleep 0.1; done
    runs "$pid" && fail "stopped: process $pid is still there"
done
must "gone on" 4 train run.yaml --set training.stop_at=$(($(losses run | tail -n 1 | cut -d ' ' -f 1) + 5))
grep -q 'resuming after step ' err || fail "gone on: $(last_words)"

finish
