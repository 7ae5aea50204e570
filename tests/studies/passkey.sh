#!/bin/bash
# A memory that finds a key: trains a model with Infini-attention on texts that grow from 256 to 4,096 bytes and asks it
# for keys in texts of up to a million bytes, at the start, in the middle and at the end, and with the memory off.
#
#   passkey.sh CAIRN CONFIG FOLDER
#
# CONFIG is configs/passkey.yaml or the like. DIGITS in the environment is that of the keys (default 1), COUNT how many
# keys are asked for at each length and place (default 64; fewer of those of more than 65,536 bytes), SEED that of the
# questions. A stage that is finished is not repeated. Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -eq 3 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3
digits=${DIGITS:-1}
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"
read_settings

for length in 256 512 1024 2048 4096; do
    file=$folder/$length.samples
    [ -s "$file" ] || "$cairn" data passkey "$file" --length $length --digits "$digits" --count $((24000000 / length)) \
        --seed 3 >&2
done

# stage STEP LENGTH BATCH RATE TEXTS...: up to this step in windows of this length, over texts of these lengths. Each goes
# on with other data and another rate than the one before, as it is meant to.
stage() {
    local texts
    texts=$(printf ",$folder/%s.samples" "${@:5}")
    "${launch[@]}" "$cairn" train "$config" "${settings[@]}" --set "run.folder=$folder/run" --set "training.stop_at=$1" \
        --set "training.sequence_length=$2" --set "training.batch=$3" --set "training.micro_batch=$3" \
        --set "optimizer.learning_rate=$4" --set "data.train=${texts#,}" --accept-changes >&2
}
stage 400 256 16 1e-2 256
stage 600 256 16 4e-3 256
stage 900 1024 16 4e-3 512 1024
stage 1050 2048 8 4e-3 512 1024 2048
stage 1400 4096 8 4e-3 1024 2048 4096

# ask LENGTH MEMORY: the percentages at start, middle and end.
ask() {
    local count=${COUNT:-64}
    [ "$1" -le 65536 ] || count=$(((count * 65536 + $1 - 1) / $1))
    "${launch[@]}" "$cairn" eval "$config" "${settings[@]}" --checkpoint "$folder/run" --task passkey --memory "$2" \
        --digits "$digits" --seed "${SEED:-100}" --lengths "$1" --count "$count" --set training.sequence_length=2048 \
        --set training.batch=16 2>/dev/null | tail -n 1 |
        awk -v count="$count" '{ printf "%s, %s, %s %% of %d", $2, $4, $6, count }'
}
table=$folder/table.md
echo '| bytes | key at start, middle, end | with the memory off |' >"$table"
echo '|---|---|---|' >>"$table"
for length in 1024 4096 16384 65536 262144 1048576; do
    printf '| %s | %s | %s |\n' "$length" "$(ask $length on)" "$(ask $length off)" >>"$table"
done
cat "$table"
