#!/bin/bash
# tokens.sh SOURCE BUILD: texts to token files, the same whatever the ranks, and what uses a tokenizer.
set -euo pipefail
source=$1
cairn=$2/cairn
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() {
    echo "$*"
    exit 1
}
llama=$source/tests/unit/tokenizers/llama3.json

# -- Token files -----------------------------------------------------------------------------------------------------------

# JSON lines of more than one unit of work, of which a unit ends inside of a line; empty texts and blank lines; texts
# and lines that are compressed in two members.
awk 'BEGIN {
    for (i = 0; i < 70000; i++)
        printf "{\"id\": %d, \"text\": \"Whale number %d, call me Ishmael \\u00e9%s\"}\n", i, i, substr("abcdefghij", 1, i % 10)
    printf "\n{\"text\": \"\"}\n{\"text\": \"the end\"}"
}' >many.jsonl
printf 'Call me Ishmael. <|endoftext|> Some years ago' >one.txt
{ printf '{"body": "in a gz"}\n' | gzip -c && printf '{"body": "of two members"}\n' | gzip -c; } >packed.jsonl.gz

"$cairn" data tokenize many.jsonl one.txt --tokenizer "$llama" --output alone >out
mpirun -n 3 "$cairn" data tokenize many.jsonl one.txt --tokenizer "$llama" --output three >out3
cmp alone.bin three.bin || fail "the tokens depend on the number of ranks"
cmp alone.idx three.idx || fail "the index depends on the number of ranks"
grep -q '^alone.bin: 70003 documents' out || fail "$(cat out)"
[ ! -e alone.parts ] && [ ! -e alone.bin.tmp ] || fail "parts are left: $(ls)"

# The last documents, as the tokens of `cairn tokenizer encode`; special tokens in a text are text.
tail_ids() { od -An -v -t u2 -w2 "$1" | tail -n "$2" | awk '{ printf "%s%d", (NR > 1 ? " " : ""), $1 }'; }
want="0 $("$cairn" tokenizer encode "$llama" --text 'the end') 0 $("$cairn" tokenizer encode "$llama" one.txt) 0"
count=$(wc -w <<<"$want")
[ "$(tail_ids alone.bin "$count")" = "$want" ] || fail "ends in $(tail_ids alone.bin "$count") instead of $want"
read -r -a special < <("$cairn" tokenizer encode "$llama" one.txt --special)
[ "${#special[@]}" -lt "$("$cairn" tokenizer encode "$llama" one.txt | wc -w)" ] || fail "special tokens are not found"

"$cairn" data tokenize packed.jsonl.gz --tokenizer "$llama" --output packed --field body --end none --begin '<|im_start|>'
want="1 $("$cairn" tokenizer encode "$llama" --text 'in a gz') 1 $("$cairn" tokenizer encode "$llama" --text 'of two members')"
[ "$(tail_ids packed.bin 99)" = "$want" ] || fail "gz: $(tail_ids packed.bin 99) instead of $want"

# What was done before a start that failed is not done again: a token that is changed in a part shows it.
mkdir again.bin
! "$cairn" data tokenize one.txt --tokenizer "$llama" --output again 2>err || fail "writes a file over a folder"
grep -q '^cairn: again.bin: cannot be written' err || fail "$(cat err)"
printf '\7\0' | dd of=again.parts/00000000 bs=1 seek=56 conv=notrunc 2>/dev/null
rmdir again.bin
"$cairn" data tokenize one.txt --tokenizer "$llama" --output again >/dev/null
[ "$(od -An -t u2 -N 2 again.bin | tr -d ' ')" = 7 ] || fail "a part that was there was made again"
# Parts of other work are no use.
mkdir other.bin
! "$cairn" data tokenize one.txt --tokenizer "$llama" --output other 2>/dev/null || fail "writes a file over a folder"
printf '\7\0' | dd of=other.parts/00000000 bs=1 seek=56 conv=notrunc 2>/dev/null
rmdir other.bin
"$cairn" data tokenize one.txt --tokenizer "$llama" --output other --special >/dev/null
[ "$(od -An -t u2 -N 2 other.bin | tr -d ' ')" != 7 ] || fail "a part of other work was taken"

# Each bad file has its message.
refuses() {
    local message=$1
    shift
    ! "$cairn" data tokenize "$@" --tokenizer "$llama" --output bad 2>err || fail "$* is taken"
    grep -qF -e "$message" err || fail "$*: $(cat err)"
    [ ! -e bad.idx ] || fail "$*: leaves an index"
}
printf '{"text": "a"}\n{"text": 5}\n' >number.jsonl
printf '{"text": "a"}\n{"text"\n' >broken.jsonl
head -c 30 packed.jsonl.gz >cut.jsonl.gz
printf '\x28\xb5\x2f\xfd\x04' >cut.zst
printf '\x28\xb5\x2f\xfdxxxxxxxxxxxx' >damaged.zst
printf '{"text": "a"}' >json.txt
: >empty.txt
refuses 'number.jsonl: line 2: no text "text"; --field names another' number.jsonl
refuses 'broken.jsonl: line 2: no JSON:' broken.jsonl
refuses 'cut.jsonl.gz: the gzip file is damaged or cut off' cut.jsonl.gz
refuses 'cut.zst: the zstd file is cut off' cut.zst
refuses 'damaged.zst: the zstd file is damaged' damaged.zst
refuses 'json.txt: begins as JSON does, but is not named .jsonl' json.txt
refuses 'empty.txt: is empty' empty.txt
refuses '--end: "nope" is no token of' one.txt --end nope
refuses '--format: expected auto, text or jsonl' one.txt --format csv
"$cairn" data tokenize broken.jsonl number.jsonl --tokenizer "$llama" --output bad --skip-bad | grep -q '^2 lines' ||
    fail "--skip-bad does not count"

# -- Learning --------------------------------------------------------------------------------------------------------------

# The same tokenizer whatever the ranks; what it learned is read, and cuts the text into fewer tokens.
"$cairn" tokenizer train many.jsonl one.txt --size 400 --output learned1.json 2>/dev/null >out
mpirun -n 3 "$cairn" tokenizer train many.jsonl one.txt --size 400 --output learned3.json >/dev/null 2>&1
cmp learned1.json learned3.json || fail "a tokenizer depends on the number of ranks"
grep -q '^learned1.json: 400 tokens, hash [0-9a-f]*, learned of 70003 documents' out || fail "$(cat out)"
"$cairn" tokenizer encode learned1.json one.txt >ids
"$cairn" tokenizer decode learned1.json ids | cmp - one.txt || fail "a text does not come back"
[ "$(wc -w <ids)" -lt 40 ] || fail "nothing was learned: $(cat ids)"
! "$cairn" tokenizer train one.txt --size 256 --output none.json 2>err || fail "learns less than the bytes"
grep -q '^cairn: --size: ' err || fail "$(cat err)"

# -- A run of texts --------------------------------------------------------------------------------------------------------

cp "$llama" llama.json
head -c 40000 many.jsonl | cut -c 12-60 >book.txt
cat >tiny.yaml <<'END'
model: {vocabulary: 620, width: 32, layers: 2, heads: 2, hidden: 64}
data: {train: [book.txt], tokenizer: llama.json, validation_fraction: 0.1}
training: {steps: 4, batch: 4, micro_batch: 2, sequence_length: 32}
evaluation: {every: 4}
run: {prompt: "Call me", prompt_tokens: 6}
END
"$cairn" train tiny.yaml --set run.folder=one >out 2>&1 || fail "train: $(tail -n 3 out)"
mpirun -n 2 "$cairn" train tiny.yaml --set run.folder=ranks --set mesh.data=2 >out3 2>&1 || fail "train: $(tail -n 3 out3)"
grep -q '"validation_bits_per_byte":' one/metrics.jsonl || fail "no bits a byte: $(tail -n 1 one/metrics.jsonl)"
cmp one/tokens/*.bin ranks/tokens/*.bin || fail "the tokens of a run depend on its ranks"
cmp one/tokenizer.json "$llama" || fail "the run does not keep its tokenizer"
grep -q '^Call me' out || fail "no sample: $(cat out)"
# Bits a byte follow from the loss, the tokens and the bytes.
"$cairn" eval tiny.yaml --set run.folder=one --json 2>/dev/null | tr -d '\n' >eval
awk -v RS=, -F': *' '{ gsub(/[{}" ]/, "", $1); value[$1] = $2 }
    END { bits = value["loss"] * value["targets"] / value["bytes"] / log(2)
          d = bits - value["bits_per_byte"]; exit !(value["bytes"] > 0 && d * d < 1e-10) }' eval || fail "eval: $(cat eval)"

# The prompt from an option, a file and standard input; on several ranks.
generate() { "$cairn" generate --checkpoint one --tokens 12 --temperature 0 "$@" 2>err; }
generate --prompt 'Call me é' >said
printf 'Call me é' >prompt
generate --file prompt | cmp - said || fail "another prompt from a file"
generate <prompt | cmp - said || fail "another prompt from standard input"
mpirun -n 2 "$cairn" generate --checkpoint one --tokens 12 --temperature 0 --set mesh.tensor=2 2>err <prompt |
    cmp - said || fail "another text on two ranks: $(cat err)"
iconv -f UTF-8 -t UTF-8 said >/dev/null || fail "what is said is no UTF-8"

# Another tokenizer is refused: for a prompt, for data, for files of tokens, and when a run goes on.
other=$source/tests/unit/tokenizers/gpt2.json
! generate --prompt x --tokenizer "$other" >/dev/null || fail "generates by another tokenizer"
grep -q 'gpt2.json: its hash is [0-9a-f]*, but one/checkpoints/.* was trained with the tokenizer [0-9a-f]*;' err ||
    fail "$(cat err)"
"$cairn" data tokenize book.txt --tokenizer "$other" --output other_tokens >/dev/null
! "$cairn" train tiny.yaml --set run.folder=two --set data.train=other_tokens 2>err || fail "trains on other tokens"
grep -q '^cairn: other_tokens: its tokens are of the tokenizer' err || fail "$(cat err)"
! "$cairn" train tiny.yaml --set run.folder=one --set data.tokenizer= --set data.train=other_tokens \
    --set training.steps=6 --accept-changes 2>err || fail "goes on with other tokens"
grep -q 'was trained on tokens of the tokenizer [0-9a-f]*, but the data are of' err || fail "$(cat err)"
! "$cairn" train tiny.yaml --set run.folder=two --set model.vocabulary=300 2>err || fail "trains with too few tokens"
grep -q '^cairn: llama.json: it has 601 ids, but model.vocabulary is 300' err || fail "$(cat err)"

# Texts in shares: a run that is stopped, and goes on with other ranks, sees what it would have seen.
head -c 9000 many.jsonl | cut -c 2- >second.txt
shares=(--set 'data.train=book.txt,second.txt' --set 'data.weights=0.8,0.2' --set training.steps=6 --set run.log_every=1)
"$cairn" train tiny.yaml --set run.folder=shares "${shares[@]}" >out 2>&1 || fail "shares: $(tail -n 3 out)"
grep -q 'in 2 files in 2 shares to train on' out || fail "shares: $(cat out)"
mpirun -n 2 "$cairn" train tiny.yaml --set run.folder=halves "${shares[@]}" --set mesh.data=2 --set training.stop_at=3 \
    >out 2>&1 && "$cairn" train tiny.yaml --set run.folder=halves "${shares[@]}" >out 2>&1 || fail "$(tail -n 3 out)"
last_loss() { grep '"step":6,' "$1/metrics.jsonl" | grep -o '"loss":[^,]*' | cut -c 8-14; }
[ -n "$(last_loss shares)" ] && [ "$(last_loss shares)" = "$(last_loss halves)" ] ||
    fail "shares: $(last_loss shares), and $(last_loss halves) after a stop"
! "$cairn" train tiny.yaml --set run.folder=none "${shares[@]}" --set data.sampling=stream 2>err || fail "shares of streams"
grep -q '^cairn: data.weights: expected data.sampling shuffle' err || fail "$(cat err)"
! "$cairn" train tiny.yaml --set run.folder=none --set 'data.weights=1,2' 2>err || fail "two weights for one text"
grep -q 'data.weights: expected a weight for each of the 1 names of data.train, got 2' err || fail "$(cat err)"

# It goes out with the model and comes in with it.
"$cairn" export one folder >/dev/null 2>&1
cmp folder/tokenizer.json "$llama" || fail "export leaves the tokenizer behind"
"$cairn" import folder imported >/dev/null 2>&1
grep -q 'tokenizer: "imported/tokenizer.json"' imported/config.yaml || fail "import does not name the tokenizer"
"$cairn" generate --checkpoint imported --tokens 12 --temperature 0 <prompt 2>/dev/null | cmp - said ||
    fail "an imported model says something else"
