#!/bin/bash
# Spectra of real runs: the same from any number of ranks, as a table, JSON, CSV and a page, of one checkpoint, of two,
# and of all of a run.
set -u
. "$(dirname "$0")/library.sh" "$@"

LIMIT=200
text_file text.txt 200
cat >tiny.yaml <<'END'
data: {train: text.txt, sampling: stream}
model: {vocabulary: 256, width: 16, layers: 3, heads: 2, hidden: 24, attention: {kind: infini, segment: 8}}
training: {steps: 6, batch: 2, sequence_length: 32}
checkpoint: {every: 2, keep_last: 5}
END
must "a run" 1 train tiny.yaml --set run.folder=run --set optimizer.learning_rate=1e-2 || give_up "nothing to analyse"
first=$(checkpoint_of run 2)
last=$(checkpoint_of run 6)

must "the newest" 1 analyze run && cp out table
[ "$(head -n 1 table)" = "$last, step 6" ] || fail "not the newest: $(head -n 1 table)"
[ "$(grep -c '^model.layers.[0-2]\..* x ' table)" -eq 21 ] || fail "there are not 7 matrices of 3 layers: $(cat table)"
grep -q '^memory/layers.2/state  *4 of 8 x 8  ' table || fail "no memories of 2 streams and 2 heads: $(cat table)"
must "on three ranks" 3 analyze run && { cmp -s out table || fail "three ranks find something else"; }

# The largest singular value is between the norm and its share; the norm is what inspect says.
inspected=$("$CAIRN" checkpoint inspect "$last" | awk '$1 == "/parameters/model.layers.1.mlp.up_proj.weight" { print $(NF - 1) }')
awk -v wanted="$inspected" '$1 == "model.layers.1.mlp.up_proj.weight" {
        d = $5 - wanted; found = (d < 0 ? -d : d) < 1e-3 * wanted && $6 <= $5 && $6 * $6 * 16 >= $5 * $5 && $7 <= $6 }
    END { exit !found }' table || fail "the norm is not $inspected: $(grep layers.1.mlp.up_proj table)"

must "beside another" 2 analyze "$first" "$last" --match '*mlp*' --directions 2 --output beside && cp out table
awk 'NR > 3 && NF > 3 && $NF + 0 > 0 && $(NF - 3) + 0 > 0 { n++ } END { exit n < 9 }' table ||
    fail "matrices that were trained have not moved: $(cat table)"
must "beside itself" 1 analyze "$last" "$last" --match '*mlp*' --json &&
    { [ "$(grep -c '"moved": 0.0' out)" -eq 9 ] || fail "what did not move has moved: $(grep moved out)"; }
[ "$(wc -l <beside/matrices.csv)" -eq 10 ] || fail "matrices.csv has $(wc -l <beside/matrices.csv) lines"
[ "$(head -n 1 beside/singular_values.csv)" = "step,matrix,number,singular_value" ] || fail "heads of singular_values.csv"
[ "$(wc -l <beside/singular_values.csv)" -eq $((1 + 9 * 16)) ] || fail "not every singular value is in the file"
for figure in moved left-angle right-angle effective-rank stable-rank norm spectrum-mlp.up_proj; do
    [ -s "beside/plots/$figure.gnuplot" ] || fail "no figure $figure"
done
if command -v gnuplot >/dev/null; then
    [ "$(grep -c '^<div class="narrow">' beside/index.html)" -ge 9 ] || fail "plots are missing in the page"
fi
! grep -qiE '<script|<link|src=|url\(' beside/index.html || fail "the page needs more than itself"

must "through time" 2 analyze run --all --match '*self_attn*' --output course
[ "$(cut -d , -f 1 course/matrices.csv | sort -u | paste -sd ' ')" = "2 4 6 step" ] || fail "not every checkpoint is there"
[ "$(sed -n '/^\$line0 << END/,/^END/p' course/plots/course-self_attn.q_proj.gnuplot | grep -v END | cut -d ' ' -f 1 | paste -sd ' ')" = "2 4 6" ] ||
    fail "the course of the largest singular value has other steps"
[ -s course/plots/course.gnuplot ] || fail "no course of the effective rank"

refused() { # STATUS PATTERN ARGUMENT...
    local code=$1 pattern=$2
    shift 2
    for ranks in 1 2; do
        run $ranks analyze "$@"
        [ "$status" -eq "$code" ] && grep -q "^cairn: .*$pattern" err || fail "should end with $code and say $pattern: $(last_words)"
    done
}
refused 1 'text.txt' text.txt
refused 1 'nowhere' nowhere
refused 2 'is named like "model.layer.\*"; the first is model.embed_tokens.weight' run --match 'model.layer.*'
refused 2 'name a checkpoint'
refused 2 'beside no other' run run --all
refused 2 '--directions' run --directions 0
refused 2 'takes no --set' run --set model.width=3
must "another model" 1 train tiny.yaml --set run.folder=wide --set model.width=20 --set training.steps=0
refused 2 'has none of the [0-9]* matrices of ' "$last" wide --match '*_proj*'
finish
