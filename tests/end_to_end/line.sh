#!/bin/bash
# One line of history: whichever way a run goes back, what it leaves does not come back; a typing error costs no good
# checkpoint; settings do not change without a word.
set -u
. "$(dirname "$0")/library.sh" "$@"

text_file text.txt 700
cat >tiny.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64}
data: {train: [text.txt], format: bytes, validation_fraction: 0}
training: {steps: 10, batch: 4, sequence_length: 32}
optimizer: {schedule: constant}
checkpoint: {every: 2, keep_last: 2}
END

saved() { (cd "$1" && ls step-*.h5 2>/dev/null | sed 's/step-0*//; s/.h5//' | sort -n | paste -sd ' '); }
# has NAME FOLDER STEPS
has() { [ "$(saved "$2")" = "$3" ] || fail "$1: $2 has the steps $(saved "$2"), not $3"; }
# said NAME WORDS
said() { grep -qF -- "$2" err || fail "$1: \"$2\" is not said: $(cat err)"; }

# -- A typing error --------------------------------------------------------------------------------------------------------

must "ten steps" 1 train tiny.yaml --set run.folder=typo || give_up "no run"
has "ten steps" typo/checkpoints "8 10"
cp -r typo typo.kept
run 1 train tiny.yaml --set run.folder=typo --set optimizer.learning_rate=3e4 --set training.steps=20
[ "$status" -eq 2 ] || fail "another rate: $(last_words)"
said "another rate" "changed after step 10: optimizer.learning_rate 0.0003 -> 30000.0"
said "another rate" "its run had other settings: optimizer.learning_rate 0.0003 -> 30000.0"
diff -r typo typo.kept >diff.out || fail "another rate: the run has changed: $(cat diff.out)"
for ranks in 1 2; do
    run $ranks train tiny.yaml --set run.folder=typo --set optimizer.learning_rate=3e4 --set training.steps=20 \
        --set mesh.data=$ranks --accept-changes
    [ "$status" -eq 1 ] || fail "a ruinous rate, $ranks ranks: exit $status"
    has "a ruinous rate, $ranks ranks" typo/checkpoints "8 10"
done
# It ends before ten steps have been skipped in a row, and so by itself.
for steps in 11 12 14; do
    run 1 train tiny.yaml --set run.folder=typo --set optimizer.learning_rate=3e4 --set training.steps=$steps \
        --accept-changes
    [ "$status" -eq 1 ] || fail "a ruinous rate for $steps steps: exit $status: $(last_words)"
    has "a ruinous rate for $steps steps" typo/checkpoints "8 10"
done
must "the right rate" 1 train tiny.yaml --set run.folder=typo --set training.steps=14
said "the right rate" "resuming after step 10 "
steps_are typo 1 14 || fail "the right rate: steps $(losses typo | cut -d ' ' -f 1 | paste -sd ' ')"
has "the right rate" typo/checkpoints "12 14"
must "in a row" 1 train tiny.yaml --set run.folder=row --set training.steps=14
[ "$(losses typo)" = "$(losses row)" ] || fail "the right rate: the losses are not those of a run without the mistake"
! grep -q 30000 typo/config.yaml || fail "the right rate: config.yaml tells of steps that are gone: $(grep 30000 typo/config.yaml)"
# A rate at which losses stay finite, and are far from where they began.
run 1 train tiny.yaml --set run.folder=typo --set optimizer.learning_rate=20 --set training.steps=20 \
    --set watch.compare_every=0 --accept-changes
[ "$status" -eq 1 ] || fail "a rate of 20: exit $status"
has "a rate of 20" typo/checkpoints "12 14"

# -- Changes ---------------------------------------------------------------------------------------------------------------

for change in data.seed=3 training.seed=3 training.batch=2 training.sequence_length=16 optimizer.beta2=0.9 \
    data.sampling=stream \
    optimizer.schedule=linear data.train=text.txt,text.txt compute.type=bf16; do
    run 1 train tiny.yaml --set run.folder=row --set training.steps=16 --set "$change"
    [ "$status" -eq 2 ] && grep -q "^cairn: .*: ${change%%=*} .* -> .*--accept-changes" err || fail "$change: $(last_words)"
done
# Files that hold something else under the same names, as a folder that has grown: seen by their size, or by a sample.
mkdir -p books
cp text.txt books/a.txt
books=(--set data.train=books --set data.validation=held.txt --set run.folder=books.run --set training.stop_at=4)
cp text.txt held.txt
must "books" 1 train tiny.yaml "${books[@]}"
for case in 'flip books/a.txt 100 1:train' 'echo more >>books/a.txt:train' 'cp text.txt books/b.txt:train' 'flip held.txt 9 1:validation'; do
    eval "${case%:*}"
    run 1 train tiny.yaml "${books[@]}" --set training.stop_at=6
    [ "$status" -eq 2 ] && grep -q "^cairn: .*: data.${case##*:} content [12] files\{0,1\}, .* -> .*--accept-changes" err ||
        fail "${case%:*}: $(last_words)"
    rm -r books && mkdir books
    cp text.txt books/a.txt
    cp text.txt held.txt
done
mv books/a.txt books/z.txt
must "books by another name" 1 train tiny.yaml "${books[@]}" --set training.stop_at=5
echo more >>books/z.txt
must "more books" 2 train tiny.yaml "${books[@]}" --set training.stop_at=6 --set mesh.data=2 --accept-changes
grep -q '^# after step 5: data.train content 1 file, .* -> 1 file, ' books.run/config.yaml || fail "more books: $(grep '^#' books.run/config.yaml)"
run 1 train tiny.yaml --set run.folder=falling --set optimizer.schedule=cosine
run 1 train tiny.yaml --set run.folder=falling --set optimizer.schedule=cosine --set training.steps=30
[ "$status" -eq 2 ] && grep -q "training.steps 10 -> 30" err || fail "a schedule with other steps: $(last_words)"
must "harmless changes" 1 train tiny.yaml --set run.folder=row --set training.steps=16 --set run.log_every=2
said "harmless changes" "changed after step 14: run.log_every 1 -> 2"
must "accepted" 1 train tiny.yaml --set run.folder=row --set training.steps=18 --set run.log_every=2 \
    --set optimizer.learning_rate=1e-4 --accept-changes
grep -qx '# after step 14: run.log_every 1 -> 2' row/config.yaml &&
    grep -qx '# after step 16: optimizer.learning_rate 0.0003 -> 0.0001' row/config.yaml &&
    grep -q 'learning_rate: 0.0001' row/config.yaml || fail "accepted: config.yaml has $(grep '^#' row/config.yaml)"
must "its own config.yaml" 1 train row/config.yaml --set training.steps=20
cp row/config.yaml config.kept
run 1 train tiny.yaml --set run.folder=row --set training.steps=20 --set optimizer.learning_rate=1 --accept-changes
cmp row/config.yaml config.kept || fail "a finished run: config.yaml tells of a rate that no step had"

# The time left is that until the run stops.
must "few of many" 1 train tiny.yaml --set run.folder=few --set training.steps=1000000 --set training.stop_at=3
grep -q 'step 3/1000000 .* 0m 00s left' err || fail "few of many: $(grep 'step 3/' err)"

# -- Going back ------------------------------------------------------------------------------------------------------------

must "thirty steps" 1 train tiny.yaml --set run.folder=back --set training.steps=30 --set checkpoint.every=5 \
    --set checkpoint.keep_last=10
old=(--set checkpoint.every=5 --set checkpoint.keep_last=10 --set training.steps=30)
again=(train tiny.yaml --set run.folder=back "${old[@]}" --set training.stop_at=12 --resume back/checkpoints/step-00000005.h5)
must "back to 5" 1 "${again[@]}"
said "back to 5" "moved 5 checkpoints of another line of the run from back/checkpoints to back/checkpoints.1"
has "back to 5" back/checkpoints "5 10 12"
has "back to 5" back/checkpoints.1 "10 15 20 25 30"
[ "$(cat back/checkpoints/latest)" = step-00000012.h5 ] || fail "back to 5: latest is $(cat back/checkpoints/latest)"
[ "$(sed -n 's/^{"step":\([0-9]*\),.*"loss".*/\1/p' back/metrics.jsonl.1 | paste -sd ' ')" = "$(seq 6 30 | paste -sd ' ')" ] ||
    fail "back to 5: the metrics of the steps that were left are not kept"
steps_are back 1 12 || fail "back to 5: steps $(losses back | cut -d ' ' -f 1 | paste -sd ' ')"
# The same command again, as a scheduler would, goes on; by another hand it goes back.
must "the same again" 2 "${again[@]}" --set mesh.data=2
said "the same again, on other ranks" "resuming after step 5 "
must "the same again" 2 "${again[@]}" --set mesh.data=2
said "the same again" "--anew follows it again"
said "the same again" "resuming after step 12 "
must "anew" 2 "${again[@]}" --set mesh.data=2 --anew
said "anew" "resuming after step 5 "
must "on from there" 1 train tiny.yaml --set run.folder=back "${old[@]}"
said "on from there" "resuming after step 12 "
steps_are back 1 30 || fail "on from there: steps $(losses back | cut -d ' ' -f 1 | paste -sd ' ')"
must "none" 1 train tiny.yaml --set run.folder=back "${old[@]}" --set training.stop_at=3 --resume none
has "none" back/checkpoints 3
for name in checkpoints metrics.jsonl starts.jsonl config.yaml; do said "none" "moved back/$name to back/$name."; done
steps_are back 1 3 || fail "none: steps $(losses back | cut -d ' ' -f 1 | paste -sd ' ')"
must "none again" 1 train tiny.yaml --set run.folder=back "${old[@]}" --set training.stop_at=3 --resume none
said "none again" "resuming after step 3 "
must "eval" 1 eval tiny.yaml --checkpoint back --data text.txt
folder=$(sed 's/;.*//' out)
must "eval" 1 eval tiny.yaml --checkpoint back/checkpoints/step-00000003.h5 --data text.txt
[ "$folder" = "$(sed 's/;.*//' out)" ] || fail "eval takes another line's checkpoint: $folder"

# A checkpoint from elsewhere, of an earlier step than those that are there: theirs is another line.
must "from elsewhere" 1 train tiny.yaml --set run.folder=row --set training.steps=40 --set run.log_every=2 --accept-changes \
    --resume back/checkpoints/step-00000003.h5 --set training.stop_at=5
has "from elsewhere" row/checkpoints "4 5"
[ "$(cat row/checkpoints/latest)" = step-00000005.h5 ] || fail "from elsewhere: latest is $(cat row/checkpoints/latest)"

# A run's folder stands for its newest good checkpoint, of its own run, too, and for the same one when it has grown.
dd if=/dev/zero of=back/checkpoints/step-00000099.h5 bs=1 count=100 status=none
for ranks in 1 2; do
    must "a run's folder, $ranks ranks" $ranks train tiny.yaml --set run.folder=of.folder --set training.stop_at=5 \
        --set checkpoint.every=0 --set mesh.data=$ranks --set training.steps=30 --anew --resume back
    said "a run's folder, $ranks ranks" "checkpoint back/checkpoints/step-00000099.h5 is damaged"
    said "a run's folder, $ranks ranks" "resuming after step 3 from back/checkpoints/step-00000003.h5"
done
rm back/checkpoints/step-00000099.h5
must "on from it" 1 train tiny.yaml --set run.folder=back "${old[@]}" --set training.stop_at=4
must "the same folder again" 2 train tiny.yaml --set run.folder=of.folder --set training.stop_at=5 \
    --set checkpoint.every=0 --set mesh.data=2 --set training.steps=30 --resume back
said "the same folder again" "resuming after step 5 from of.folder/"
must "its own folder" 1 train tiny.yaml --set run.folder=back "${old[@]}" --set training.stop_at=5 --resume back
said "its own folder" "resuming after step 4 from back/"
mkdir empty
run 1 train tiny.yaml --set run.folder=of.nothing --resume empty
[ "$status" -eq 1 ] && grep -qx 'cairn: empty: no checkpoint there' err || fail "an empty folder: $(last_words)"

# In the way of the name of the newest: told, and nothing is lost.
mkdir -p in.the.way/checkpoints/latest
must "a folder latest" 1 train tiny.yaml --set run.folder=in.the.way
said "a folder latest" "in.the.way/checkpoints/latest: is a folder, in the place of a file: move it away"
has "a folder latest" in.the.way/checkpoints "8 10"
must "a folder latest, again" 1 train tiny.yaml --set run.folder=in.the.way --set training.steps=12
said "a folder latest, again" "resuming after step 10 "

# As are those that are there of earlier steps, and of the same step.
meets=(--set run.folder=meets --set checkpoint.keep_last=9 --set training.steps=8)
far=(--set run.folder=far --set training.seed=5)
must "a run" 1 train tiny.yaml "${meets[@]}" --set training.stop_at=6
must "another run" 1 train tiny.yaml "${far[@]}" --set training.stop_at=6
must "its last step" 1 train tiny.yaml "${meets[@]}" --accept-changes --resume far/checkpoints/step-00000006.h5
has "its last step" meets/checkpoints "6 8"
has "its last step" meets/checkpoints.1 "2 4 6"
identical "its last step" meets/checkpoints/step-00000006.h5 far/checkpoints/step-00000006.h5
# One that has come to its end is kept in its new place.
must "nothing to do" 1 train tiny.yaml --set run.folder=done --set training.seed=5 --set training.stop_at=6 \
    --resume far/checkpoints/step-00000006.h5
has "nothing to do" "done"/checkpoints 6

# Until there is a step of its own the same command goes back again.
still=(train tiny.yaml --set run.folder=far --set training.seed=5 --set training.stop_at=4 --resume far/checkpoints/step-00000004.h5)
for round in once twice; do
    must "no step, $round" 1 "${still[@]}"
    has "no step, $round" far/checkpoints 4
    ! grep -q 'was followed before' err || fail "no step, $round: $(grep followed err)"
done

# Data that a model finds far worse than its own are no ruin, where it is brought to them.
yes a | tr -d '\n' | head -c 20000 >same.txt
sure=(--set optimizer.learning_rate=1e-2 --set training.steps=60 --set data.train=same.txt)
must "a sure model" 1 train tiny.yaml --set run.folder=sure "${sure[@]}" || give_up "no model"
must "other data" 1 train tiny.yaml --set run.folder=other --set training.steps=62 --set optimizer.learning_rate=1e-5 \
    --accept-changes --resume sure/checkpoints/step-00000060.h5
losses other | awk '{ if ($2 < 12) low = 1 } END { exit low || NR != 2 }' || fail "other data: losses $(losses other | paste -sd ' ')"
has "other data" other/checkpoints "60 62"
finish
