#!/bin/bash
# What counts: evaluation reads documents as training does, padding is no token, and where there is nothing to predict
# there is no loss, rather than one of 0.
set -u
. "$(dirname "$0")/library.sh" "$@"

cat >tiny.yaml <<END
model: {vocabulary: 256, width: 32, layers: 2, heads: 2, hidden: 64,
        attention: {kind: infini, segment: 16}}
data: {format: bytes, sampling: stream}
training: {steps: 8, batch: 2, sequence_length: 32}
watch: {spike_factor: 6, spike_window: 8}
END

# -- Documents apart: each file is one, of 100, 37 and 1 bytes -------------------------------------------------------------

text_file whole.txt 60
head -c 100 whole.txt >a.txt
head -c 37 whole.txt >b.txt
head -c 1 whole.txt >c.txt
must "documents" 2 train tiny.yaml --set data.train=a.txt,b.txt --set data.validation=a.txt,b.txt,c.txt \
    --set run.folder=documents --set mesh.data=2
counted=$(values documents validation_tokens | tail -n 1)
[ "$counted" = "8 $((99 + 36))" ] || fail "documents: the last evaluation is of \"$counted\" targets"
# A step reads a window of 32 of each stream; those of the first file are 32, 32, 32 and 3, of the second 32 and 4.
read -r _ tokens < <(values documents tokens | tail -n 1)
[ "$tokens" -lt $((8 * 2 * 32)) ] || fail "documents: padding counts, $tokens tokens"
[ "$tokens" = "$(values documents targets | awk '{ sum += $2 } END { print sum }')" ] ||
    fail "documents: $tokens tokens, but $(values documents targets | awk '{ sum += $2 } END { print sum }') targets"
values documents tokens_per_second | paste -d ' ' - <(values documents seconds) <(values documents targets) |
    awk '{ rate = $6 / $4; if ($2 / rate < 0.999 || $2 / rate > 1.001) bad = 1 } END { exit bad || NR != 8 }' ||
    fail "documents: tokens a second are not those that were read"
must "documents, eval" 1 eval tiny.yaml --checkpoint documents --set data.train=a.txt \
    --set data.validation=a.txt,b.txt,c.txt --json
grep -o '"targets": *[0-9]*' out | grep -q ' 135$' || fail "eval: $(cat out)"
must "documents, run together" 1 eval tiny.yaml --checkpoint documents --set data.train=a.txt --set data.sampling=shuffle \
    --set data.validation=a.txt,b.txt,c.txt --json
grep -o '"targets": *[0-9]*' out | grep -q " $((100 + 37 + 1 - 1))\$" || fail "eval, shuffle: $(cat out)"

# A context longer than any text ends with the text.
must "long context" 1 eval tiny.yaml --checkpoint documents --data a.txt --context-length 2000000000 --json
grep -o '"targets": *[0-9]*' out | grep -q ' 99$' || fail "long context: $(cat out)"

sed '/attention/d; s/hidden: 64,/hidden: 64}/' tiny.yaml >causal.yaml
must "a causal model" 1 train causal.yaml --set run.folder=causal --set data.train=a.txt --set data.validation_fraction=0
for length in 99 100000 2147483647; do
    must "long context, causal" 1 eval causal.yaml --checkpoint causal --data a.txt --context-length $length --json
    [ "$(grep -o '"context": [0-9]*\|"targets": [0-9]*\|"window": [0-9]*' out | paste -sd ' ')" = \
        '"targets": 99 "context": 99 "window": 99' ] || fail "long context, causal: $(cat out)"
done

# Of four contexts the two that are evaluated are spread over the text: the first and the third.
for ((i = 0; i < 4; i++)); do printf x && tail -c +$((i * 200 + 1)) whole.txt | head -c 31; done >four.txt
{ head -c 32 four.txt && tail -c +65 four.txt | head -c 32; } >two.txt
echo -n x | tee -a four.txt >>two.txt
still=(--set data.train=whole.txt --set data.sampling=shuffle --set optimizer.learning_rate=0 --set training.steps=1)
must "four contexts" 1 train tiny.yaml "${still[@]}" --set run.folder=four --set data.validation=four.txt \
    --set evaluation.final_batches=1
must "two contexts" 1 train tiny.yaml "${still[@]}" --set run.folder=two --set data.validation=two.txt
for field in loss tokens; do
    [ "$(values four validation_$field)" = "$(values two validation_$field)" ] ||
        fail "two of four contexts: validation_$field $(values four validation_$field), not $(values two validation_$field)"
done
[ "$(values two validation_tokens)" = "1 64" ] || fail "two contexts: $(values two validation_tokens) targets"

# The held-out part is the end of each file, for the run and for eval; bits and perplexity are those of the loss.
bytes=$(wc -c <whole.txt)
held=$((bytes - bytes * 4 / 5 - 1))
must "held out" 1 train tiny.yaml --set data.train=whole.txt --set data.validation_fraction=0.2 --set training.steps=1 --set run.folder=held
[ "$(values held validation_tokens)" = "1 $held" ] || fail "held out: $(values held validation_tokens) of $held targets"
must "held out, eval" 1 eval tiny.yaml --set data.train=whole.txt --set data.validation_fraction=0.2 --checkpoint held
sed -n 's/^loss \([0-9.]*\) nats a token, perplexity \([0-9.]*\), \([0-9.]*\) bits a byte, over \([0-9]*\) tokens .*/\1 \2 \3 \4/p' out |
    awk -v held=$held 'function near(a, b) { return a - b < 1e-3 * b && b - a < 1e-3 * b }
        { right = near($2, exp($1)) && near($3, $1 / 0.69314718) && $4 == held } END { exit !right }' || fail "held out, eval: $(cat out)"

# -- Steps without a target ------------------------------------------------------------------------------------------------

# Only the last bytes of a sample are targets, so three of four windows have none; those only fill the memory.
must "samples" 1 data passkey keys --length 200 --count 4 --digits 1 --seed 3
sampled=(--set training.sequence_length=64 --set data.format=samples --set data.train=keys --set data.validation_fraction=0)
must "samples" 1 train tiny.yaml "${sampled[@]}" --set run.folder=samples
[ "$(values samples updates | tail -n 1)" = "8 2" ] || fail "samples: updates $(values samples updates | tail -n 1)"
[ "$(values samples targets | paste -sd ' ')" = "1 0 2 0 3 0 4 2 5 0 6 0 7 0 8 2" ] || fail "samples: targets $(values samples targets | paste -sd ' ')"
[ "$(values samples skipped | tail -n 1)" = "8 0" ] || fail "samples: skipped $(values samples skipped | tail -n 1)"
[ "$(losses samples | grep -c ' null$')" -eq 6 ] || fail "samples: losses $(losses samples | paste -sd ' ')"
[ "$(values samples tokens | tail -n 1)" = "8 $((8 * 2 * 64 - 2 * 2 * (64 - 7)))" ] || fail "samples: $(values samples tokens | tail -n 1)"
[ "$(grep -c 'no targets' err)" -ge 1 ] || fail "samples: not told: $(cat err)"
! grep -q 'SKIPPED\|spike' err || fail "samples: $(cat err)"
# Nor do they count among the losses by which spikes are known: of so many there are two.
known=$(h5dump -d /watch/losses -s 2 -c 1 -y -w 0 "$(checkpoint_of samples 8)" | tr -d ' \n' | grep -o 'DATA{[0-9.]*')
[ "$known" = "DATA{2" ] || fail "samples: losses known: $known"
# With parameters that stay, the losses in training are those of the whole samples read alone: memories carry what steps
# without targets read, and nothing from one sample to the next.
must "samples, still" 1 train tiny.yaml "${sampled[@]}" --set run.folder=still --set optimizer.learning_rate=0 \
    --set training.seed=5
must "samples, alone" 1 eval tiny.yaml "${sampled[@]}" --checkpoint still --data keys --context-length 200 --json
losses still | awk -v alone="$(sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' out)" '
    $2 != "null" { sum += $2; n++ }
    END { d = sum / n - alone; print n, sum / n, alone; exit !(n == 2 && d < 2e-6 && d > -2e-6) }' >still.losses ||
    fail "samples: in training and alone: $(cat still.losses)"
# What such steps left in the memories counts: a run that was stopped behind one goes on as if it had not been.
must "samples, stopped" 2 train tiny.yaml "${sampled[@]}" --set run.folder=stopped --set training.stop_at=3 \
    --set mesh.data=2
must "samples, resumed" 1 train tiny.yaml "${sampled[@]}" --set run.folder=stopped
compare_checkpoints "$(checkpoint_of samples 8)" "$(checkpoint_of stopped 8)" 1e-4 || fail "samples: $furthest $largest"
[ "$(values stopped updates | tail -n 1)" = "8 2" ] || fail "samples, resumed: $(values stopped updates | tail -n 1)"

# -- Nothing to evaluate ---------------------------------------------------------------------------------------------------

printf A >one.txt
run 2 train tiny.yaml --set data.train=a.txt --set data.validation=one.txt --set run.folder=nothing
[ "$status" -eq 1 ] && grep -q '^cairn: data.validation: one.txt: no document of two tokens' err ||
    fail "one byte to validate on: $(last_words)"
run 1 train tiny.yaml --set data.train=b.txt --set data.validation_fraction=0.001 --set run.folder=nothing
[ "$status" -eq 1 ] && grep -q '^cairn: data.validation_fraction: ' err || fail "no part held out: $(last_words)"
# Of samples the answers are what is evaluated, one byte each.
must "answers" 1 train tiny.yaml --set data.format=auto --set data.train=a.txt --set data.validation=keys --set training.steps=1 \
    --set run.folder=answers
[ "$(values answers validation_tokens)" = "1 4" ] || fail "answers: $(values answers validation_tokens)"
# Targets that an evaluation does not come to: absent, and said so.
must "no targets" 1 train tiny.yaml --set data.format=auto --set data.train=a.txt --set data.validation=keys \
    --set evaluation.final_batches=1 --set training.batch=1 --set run.folder=absent
grep -q 'step 8: no targets' err || fail "no targets: $(cat err)"
[ "$(values absent validation_loss)" = "8 null" ] || fail "no targets: $(values absent validation_loss)"

finish
