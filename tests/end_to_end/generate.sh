#!/bin/bash
# What a trained model says and how well it does depend on the checkpoint, the options and the seed alone, not on the
# ranks that compute it.
set -u
. "$(dirname "$0")/library.sh" "$@"

text_file text.txt 1500
token_file tokens.bin 20000 211
cat >bytes.yaml <<END
model: {vocabulary: 256, width: 64, layers: 3, heads: 4, kv_heads: 2, hidden: 160}
data: {train: text.txt, validation_fraction: 0.03}
optimizer: {learning_rate: 1e-2, warmup_steps: 10}
training: {steps: 120, batch: 8, micro_batch: 4, sequence_length: 48}
END
cat >tokens.yaml <<END
model: {vocabulary: 211, width: 40, layers: 2, heads: 4, hidden: 90, positions: learned, max_positions: 40}
data: {train: tokens.bin, validation_fraction: 0.03}
optimizer: {learning_rate: 5e-3}
training: {steps: 10, batch: 4, sequence_length: 30}
END
must "training on bytes" 1 train bytes.yaml --set run.folder=bytes || give_up "no model to speak"
must "training on tokens" 2 train tokens.yaml --set run.folder=tokens || give_up "no model to speak"
file=$(checkpoint_of bytes 120)
PROMPT="the old fox "

shapes=("1 1 1" "1 1 2" "1 2 1" "1 2 2" "1 1 4" "1 3 1")

# speak NAME RANKS ARGUMENT...: sets $spoken
speak() {
    local name=$1 count=$2
    shift 2
    spoken=
    must "$name" "$count" generate "$@" && spoken=$(cat out)
}

# -- The mesh does not matter --------------------------------------------------------------------------------------------

# 150 tokens go well beyond the 48 that the model sees at once.
greedy=(--checkpoint "$file" --prompt "$PROMPT" --tokens 150 --temperature 0)
drawn=(--checkpoint "$file" --prompt "$PROMPT" --tokens 60 --temperature 0.8 --seed 3)
speak "greedy" 1 "${greedy[@]}"
expected=$spoken
speak "drawn" 1 "${drawn[@]}"
expected_drawn=$spoken
[ ${#expected} -eq $((${#PROMPT} + 150)) ] || fail "greedy: ${#expected} bytes instead of ${#PROMPT} + 150"
case $expected in "$PROMPT"*) ;; *) fail "greedy: the text does not begin with the prompt" ;; esac
[ "$(printf %s "${expected#"$PROMPT"}" | fold -w 1 | sort -u | wc -l)" -ge 8 ] ||
    fail "greedy: too few different letters to compare anything: $expected"
for shape in "${shapes[@]:1}"; do
    mesh $shape
    speak "greedy, $(mesh_name $shape)" $ranks "${greedy[@]}" "${MESH[@]}"
    [ "$spoken" = "$expected" ] || fail "greedy, $(mesh_name $shape): another text: $spoken"
    speak "drawn, $(mesh_name $shape)" $ranks "${drawn[@]}" "${MESH[@]}"
    [ "$spoken" = "$expected_drawn" ] || fail "drawn, $(mesh_name $shape): another text: $spoken"
done
speak "greedy, two ranks without a setting" 2 "${greedy[@]}"
[ "$spoken" = "$expected" ] || fail "greedy, two ranks without a setting: another text: $spoken"
say "greedy and drawn: the same text on ${#shapes[@]} meshes: ...$(printf %s "$expected" | tail -c 60)"

# -- The options do ------------------------------------------------------------------------------------------------------

speak "same seed" 1 "${drawn[@]}"
[ "$spoken" = "$expected_drawn" ] || fail "the same seed says another text"
speak "other seed" 1 "${drawn[@]}" --seed 4
[ "$spoken" != "$expected_drawn" ] || fail "another seed says the same text"
[ "$expected_drawn" != "${expected:0:${#expected_drawn}}" ] || fail "a draw with temperature 0.8 is the greedy text"
speak "top-k 1" 2 "${greedy[@]}" --temperature 1.5 --top-k 1
[ "$spoken" = "$expected" ] || fail "--top-k 1 is not greedy: $spoken"
speak "top-p 0" 1 "${greedy[@]}" --temperature 1.5 --top-p 0
[ "$spoken" = "$expected" ] || fail "--top-p 0 is not greedy: $spoken"
speak "no tokens" 1 "${greedy[@]}" --tokens 0
[ "$spoken" = "${PROMPT% }" ] || [ "$spoken" = "$PROMPT" ] || fail "--tokens 0 says more than the prompt: $spoken"
for word in --help -h --tokens; do
    speak "a prompt that looks like an option" 1 --checkpoint "$file" --prompt $word --tokens 5 --temperature 0
    [ ${#spoken} -eq $((${#word} + 5)) ] && [ "${spoken#"$word"}" != "$spoken" ] || fail "the prompt $word: $spoken"
done
must "help behind other options" 1 generate --checkpoint "$file" --prompt a --help
grep -q '^usage: cairn generate' out || fail "--help is not heard: $(cat out)"
speak "a run's folder" 1 --checkpoint bytes "${greedy[@]:2}"
[ "$spoken" = "$expected" ] || fail "--checkpoint FOLDER says another text than FILE"
long=$(head -c 500 text.txt | tr '\n' ' ')
speak "a prompt longer than the model sees" 1 --checkpoint "$file" --prompt "$long" --tokens 30 --temperature 0
expected=$spoken
[ ${#spoken} -eq 530 ] || fail "a long prompt: ${#spoken} bytes instead of 530"
speak "a prompt longer than the model sees" 4 --checkpoint "$file" --prompt "$long" --tokens 30 --temperature 0 \
    --set mesh.pipeline=2 --set mesh.tensor=2
[ "$spoken" = "$expected" ] || fail "a long prompt: another text on 4 ranks"
say "seeds, top-k 1, top-p 0, folders and long prompts"

# Learned positions end at 40, and a memory does not bring them back: prompt and answer have to fit.
learned=(--set model.attention.kind=infini --set model.attention.segment=10 --set training.steps=2 --set run.folder=learned)
must "learned positions with a memory" 1 train tokens.yaml "${learned[@]}"
speak "as many tokens as positions" 1 --checkpoint learned --prompt "1 2 3" --tokens 37 --temperature 0
run 1 generate --checkpoint learned --prompt "1 2 3" --tokens 38 --temperature 0
[ "$status" -eq 2 ] && grep -q '^cairn: prompt and continuation have 41 tokens, but the model has learned positions for 40 only' err ||
    fail "more tokens than positions: $(last_words)"

# -- Token numbers -------------------------------------------------------------------------------------------------------

for shape in "1 1 1" "1 2 2"; do
    mesh $shape
    speak "token numbers" $ranks --checkpoint tokens --prompt "5, 28 143" --tokens 50 --temperature 0 "${MESH[@]}"
    echo "$spoken" | grep -Eq '^5, 28 143( [0-9]+){50}$' || fail "token numbers: not the prompt and 50 numbers: $spoken"
    echo "${spoken#5, }" | tr ' ' '\n' | awk '$1 > 210 { exit 1 }' || fail "token numbers: one beyond the vocabulary: $spoken"
    [ $ranks -eq 1 ] && expected=$spoken
    [ "$spoken" = "$expected" ] || fail "token numbers: others on $(mesh_name $shape)"
done
for prompt in "no numbers" "5 211" "-1"; do
    run 2 generate --checkpoint tokens --prompt "$prompt" --tokens 3
    [ "$status" -eq 2 ] && grep -q '^cairn: .*--prompt' err || fail "prompt \"$prompt\" of token numbers: $(last_words)"
done
say "token numbers: 50 on two meshes, wrong ones refused"

# -- eval ----------------------------------------------------------------------------------------------------------------

# measure NAME RANKS ARGUMENT...: sets $loss and $counted
measure() {
    local name=$1 count=$2
    shift 2
    loss= counted=
    must "$name" "$count" eval "$@" || return
    loss=$(sed -n 's/^loss \([0-9.]*\) .*/\1/p' out)
    counted=$(sed -n 's/.* over \([0-9]*\) tokens.*/\1/p' out)
}

same_loss() { # NAME LOSS EXPECTED
    local deviation
    deviation=$(largest_deviation <(echo "1 $2") <(echo "1 $3"))
    within "$deviation" 1e-5 || fail "$1: loss $2 instead of $3"
    say "$1: loss $2, $deviation from $3"
}

trained=$(values bytes validation_loss | tail -n 1 | cut -d ' ' -f 2)
trained_tokens=$(values bytes validation_tokens | tail -n 1 | cut -d ' ' -f 2)
for shape in "${shapes[@]}" "3 1 1" "2 1 2" "2 2 2"; do
    mesh $shape
    measure "eval, $(mesh_name $shape)" $ranks bytes.yaml --checkpoint "$file" "${MESH[@]}"
    same_loss "eval, $(mesh_name $shape)" "$loss" "$trained"
    [ "$counted" = "$trained_tokens" ] || fail "eval, $(mesh_name $shape): over $counted tokens instead of $trained_tokens"
done
measure "eval of a run's folder" 1 bytes.yaml --checkpoint bytes
same_loss "eval of a run's folder" "$loss" "$trained"
measure "eval of run.folder" 1 bytes.yaml --set run.folder=bytes
same_loss "eval of run.folder" "$loss" "$trained"

# Every token but the first is a target once, whatever the windows are; a longer context does not make text harder.
for length in 1 7 16 100; do
    measure "context length $length" 1 bytes.yaml --checkpoint bytes --context-length $length
    expected=$loss
    [ "$counted" = "$trained_tokens" ] || fail "context length $length: over $counted tokens instead of $trained_tokens"
    measure "context length $length" 4 bytes.yaml --checkpoint bytes --context-length $length --set mesh.tensor=2
    same_loss "context length $length, data 2 x tensor 2" "$loss" "$expected"
    [ $length -ne 1 ] || awk -v a="$loss" -v b="$trained" 'BEGIN { exit !(a > b) }' ||
        fail "context length 1: the loss $loss is not above that of whole windows, $trained"
done
must "eval with learned positions" 1 eval tokens.yaml --checkpoint tokens --context-length 40
run 2 eval tokens.yaml --checkpoint tokens --context-length 41
[ "$status" -eq 2 ] && grep -q '^cairn: .*max_positions' err ||
    fail "more context than learned positions: should end with 2 and name max_positions, $(last_words)"

# Another file, in the place of the validation data.
tail -c 3000 text.txt >other.txt
measure "eval --data" 1 bytes.yaml --checkpoint bytes --data other.txt
[ "$counted" = 2999 ] || fail "eval --data: over $counted tokens instead of 2999"

# Looking at a run that is being trained must not touch what it writes.
echo "half a checkpoint" >bytes/checkpoints/.step-00000121.h5.partial
must "eval beside a training" 1 eval bytes.yaml --checkpoint bytes
[ -f bytes/checkpoints/.step-00000121.h5.partial ] || fail "eval of a run's folder removes a file that a training writes"
echo "half a checkpoint" >bytes/checkpoints/.step-00000121.h5.partial
must "generate beside a training" 1 generate --checkpoint bytes --prompt the --tokens 3
[ -f bytes/checkpoints/.step-00000121.h5.partial ] || fail "generate from a run's folder removes a file that a training writes"

finish
