#!/bin/bash
# A stretch of garbage in the training text makes the loss spike: the run goes back before it and leaves the data out, the
# same on one rank and on four, and the same when it is interrupted; each step is in the metrics once. After too many
# spikes it ends.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=70
# Streams read the text in order, 4 x 32 tokens a step: the second half is good again.
text_file good.txt 700
LENGTH=$(size_of good.txt)
numbers 11 2200 256 | awk '{ printf "%c", 33 + $1 % 94 }' >garbage.txt
cat good.txt good.txt good.txt >long.txt
# Every stream begins at a quarter of the text; the garbage is in the second one only, from its step 40 on.
quarter=$(((3 * LENGTH + 2200) / 4))
head -c $((quarter + 40 * 32)) long.txt >text.txt
cat garbage.txt >>text.txt
tail -c +$((quarter + 40 * 32 + 1)) long.txt >>text.txt
cat >run.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 4, hidden: 64}
data: {train: text.txt, validation_fraction: 0, sampling: stream}
optimizer: {learning_rate: 5e-3, warmup_steps: 5}
training: {steps: $STEPS, batch: 4, micro_batch: 1, sequence_length: 32}
checkpoint: {every: 10, keep_last: 3}
watch: {spike_factor: 4, spike_window: 16, spike_steps: 2, spike_skip: 68}
END

# spiked NAME FOLDER: what the run says of it, and its metrics.
spiked() {
    steps_are "$2" 1 $STEPS || fail "$1: the metrics have not each step once"
    [ "$(values "$2" rewind_from | wc -l)" -eq 1 ] || fail "$1: went back $(values "$2" rewind_from | wc -l) times"
}

must "one rank" 1 train run.yaml --set run.folder=one || give_up "nothing to compare with"
spiked "one rank" one
line=$(grep 'the loss has spiked since step' err)
say "one rank: $line"
read -r to from < <(values one rewind_from)
read -r _ first < <(values one rewind_spike)
read -r _ left < <(values one rewind_skipped)
[ "$to" -lt "$first" ] && [ "$first" -lt "$from" ] && [ $((to % 10)) -eq 0 ] && [ "$from" -eq $((first + 1)) ] ||
    fail "one rank: from $from to $to, spike since $first"
[ "$left" -eq $((from - to + 68)) ] || fail "one rank: left out $left steps"
last=$(losses one | tail -n 1 | cut -d ' ' -f 2)
usual=$(losses one | sed -n "${to}p" | cut -d ' ' -f 2)
within "$last" "$(echo "$usual" | awk '{ print 1.3 * $1 }')" || fail "one rank: ends at $last, $usual before the spike"

must "four ranks" 4 train run.yaml --set run.folder=four --set mesh.tensor=2 --set mesh.pipeline=2
spiked "four ranks" four
losses one >one.losses
losses four >four.losses
deviation=$(largest_deviation four.losses one.losses)
within "$deviation" 1e-5 || fail "four ranks: losses deviate by $deviation"
[ "$(values four rewind_from)" = "$(values one rewind_from)" ] || fail "four ranks: another spike"
say "four ranks: losses to $deviation"

# Interrupted in the spike, and again right behind it.
must "stopped in it" 1 train run.yaml --set run.folder=cut --set training.stop_at="$first"
must "stopped behind it" 1 train run.yaml --set run.folder=cut --set training.stop_at="$from"
grep -q "back to step $to," err && steps_are cut 1 "$from" || fail "stopped behind it: $(last_words)"
cmp -s <(losses cut | tail -n +$((to + 1))) <(losses one | sed -n "$((to + 1)),${from}p") ||
    fail "stopped behind it: $(diff <(losses cut) <(losses one) | sed -n 2p)"
must "gone on" 1 train run.yaml --set run.folder=cut
spiked "interrupted" cut
[ "$(losses cut)" = "$(losses one)" ] || fail "interrupted: first $(diff <(losses cut) <(losses one) | sed -n 2p)"
identical "interrupted" "$(checkpoint_of cut $STEPS)" "$(checkpoint_of one $STEPS)"

run 2 train run.yaml --set run.folder=limited --set watch.spike_limit=0 --set mesh.data=2
[ "$status" -eq 1 ] && grep -q "the loss spikes at step $first, and the run has gone back 0 times" err ||
    fail "a limit: $(last_words)"
# A second spike, for the garbage is not left out: one time back is not enough.
run 1 train run.yaml --set run.folder=twice --set watch.spike_limit=1 --set watch.spike_skip=0 \
    --set watch.spike_factor=3
[ "$status" -eq 1 ] && grep -q "the loss spikes at step .*, and the run has gone back 1 times" err ||
    fail "a limit of one: $(last_words)"
[ "$(values twice rewind_from | wc -l)" -le 1 ] || fail "a limit of one: $(values twice rewind_from)"
# Nothing is saved while it lasts, due as it may be: the run goes back to the step right before it, and no checkpoint is
# in the way.
must "a save due in it" 1 train run.yaml --set run.folder=due --set checkpoint.every=1 --set checkpoint.keep_last=100
[ "$(values due rewind_spike)" = "$((first - 1)) $first" ] || fail "a save due in it: $(values due rewind_spike)"
[ ! -e due/checkpoints.1 ] || fail "a save due in it: it was done: $(ls due/checkpoints.1)"
# What lies ahead when it goes back is moved aside, and memories do not go along to another place of the text.
sed -e 's/hidden: 64}/hidden: 64, attention: {kind: infini, segment: 16}}/' run.yaml >memory.yaml
must "memories" 1 train memory.yaml --set run.folder=memory --set checkpoint.keep_last=100
read -r back _ < <(values memory rewind_from)
filled=$(h5dump -d /memory/layers.0/norm -y -w 0 "$(checkpoint_of memory "$back")" | tr -cd '1-9' | wc -c)
before=$(h5dump -d /memory/layers.0/norm -y -w 0 "$(checkpoint_of memory "$((back - 10))")" | tr -cd '1-9' | wc -c)
header=$(h5dump -d /memory/layers.0/norm -H "$(checkpoint_of memory "$back")" | tr -cd '1-9' | wc -c)
[ "$back" -ge 20 ] && [ "$before" -gt $((header + 50)) ] && [ "$filled" -le $((header + 8)) ] ||
    fail "memories: $filled digits after going back to $back, $before ten steps before, $header without any"
must "nowhere to go" 1 train run.yaml --set run.folder=nowhere --set checkpoint.every=0 &&
    grep -q "there is no checkpoint from before to go back to; training goes on" err ||
    fail "nowhere to go: $(last_words)"
steps_are nowhere 1 $STEPS || fail "nowhere to go: the metrics have not each step once"
must "off" 1 train run.yaml --set run.folder=off --set watch.spike_factor=0
grep -q spiked err && fail "off: $(last_words)"

finish
