#!/bin/bash
# The page of two real runs, one of which was stopped and went on.
set -u
. "$(dirname "$0")/library.sh" "$@"

LIMIT=200
text_file text.txt 400
cat >tiny.yaml <<'END'
data: {train: text.txt, validation_fraction: 0.1}
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64, attention: {kind: infini, segment: 8}}
training: {steps: 12, batch: 4, micro_batch: 4, sequence_length: 32}
optimizer: {warmup_steps: 2}
evaluation: {every: 6, batches: 2}
END
must "the first run" 1 train tiny.yaml --set run.folder=first --set training.stop_at=8
must "its rest" 1 train tiny.yaml --set run.folder=first
must "the second run" 1 train tiny.yaml --set run.folder=second --set run.tensorboard=true --set model.depth.kind=mod --set optimizer.learning_rate=1e-4

# points FIGURE LINE: what the figure draws.
points() { sed -n "/^\\\$line$2 << END/,/^END/p" "first/report/plots/$1.gnuplot" | grep -v END; }

if must "the page" 1 report first second; then
    page=first/report/index.html
    # Steps and losses as metrics.jsonl has them.
    [ "$(points loss 0 | cut -d ' ' -f 1)" = "$(seq 1 12)" ] || fail "not every step is drawn: $(points loss 0)"
    points loss 0 >drawn
    losses first >written
    cut -d ' ' -f 1,2 drawn >drawn.losses
    within "$(largest_deviation drawn.losses written)" 1e-5 || fail "the losses are others"
    [ "$(points loss 1 | wc -l)" -eq "$(values first validation_loss | wc -l)" ] || fail "held-out losses are missing"
    for figure in learning-rate gradient-norm tokens-per-second mfu memory gates router-load; do
        [ -s "first/report/plots/$figure.gnuplot" ] || fail "no figure $figure"
    done
    ! command -v gnuplot >/dev/null || [ "$(grep -c '^<div class="narrow">' $page)" -ge 8 ] || fail "only $(grep -c '^<svg' $page) plots in the page"
    grep -q '<td>optimizer.learning_rate</td>' $page || fail "the difference of the settings is missing"
    ! grep -q '<td>model.width</td>' $page || fail "settings that are alike are shown"
    ! grep -qiE '<script|<link|src=|url\(' $page || fail "the page needs more than itself"
    # The sum of the steps' times, and called so.
    grep -q 'time in steps' out || fail "the time in steps is not called that: $(head -1 out)"
    sum=$(values first seconds | awk '{ s += $2 } END { printf "%.1fs", s }')
    grep '^first ' out | grep -qF " $sum " || fail "time in steps is not $sum: $(cat out)"
    grep -q "^first  *12 " out && grep -q "^second  *12 " out || fail "no summary: $(cat out)"
fi
if PATH=/nowhere "$CAIRN" report second --output bare >out 2>err; then
    grep -q '^gnuplot is not installed' err && grep -q '</html>' bare/index.html || fail "without gnuplot: $(cat err)"
else
    fail "without gnuplot: $(cat err)"
fi
# Events of a run afterwards, and of one as it goes: a file each, with the steps in it.
must "events" 1 report first second --tensorboard boards
for run in first second; do
    [ "$(find boards/$run -name 'events.out.tfevents.*' | wc -l)" -eq 1 ] || fail "events of $run: $(find boards)"
    grep -aq 'brain.Event:2' boards/$run/* && grep -aq grad_norm boards/$run/* && grep -aq optimizer.learning_rate boards/$run/* ||
        fail "events of $run lack something"
done
grep -aq grad_norm second/events.out.tfevents.* && [ -z "$(find first -name 'events*')" ] || fail "run.tensorboard is not obeyed"
run 1 report first --tensorboard boards --output x
[ "$status" -eq 2 ] || fail "a page and events at once: $(last_words)"
run 1 report nowhere
[ "$status" -eq 1 ] && grep -q '^cairn: nowhere/metrics.jsonl' err || fail "a run that is not there: $(last_words)"
run 1 report
[ "$status" -eq 2 ] || fail "no run: $(last_words)"

finish
