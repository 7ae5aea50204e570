#!/bin/bash
# What reading costs by length: time a token and resident memory of `cairn eval`, Infini-attention against causal
# attention over the whole context, same shapes.
#
#   length.sh CAIRN CONFIG FOLDER TEXT
#
# CONFIG is a model of bytes with Infini-attention, TEXT a document longer than the longest length. LENGTHS (default
# 4096 to 1048576 by fours) are those of Infini-attention, CAUSAL (default up to 65536) those of causal attention,
# TIMES (default 2) how often each is measured, in turns. A context is read in windows of training.sequence_length. Each
# measurement reads at least LEAST tokens (default 65536; causal attention one context), by processor time, in which
# other work on the machine does not count. Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 text=$4
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"
read -ra lengths <<<"${LENGTHS:-4096 16384 65536 262144 1048576}"
read -ra causal <<<"${CAUSAL:-4096 16384 65536}"
least=${LEAST:-65536}

# Two models as they begin: what they have learned does not change what reading costs.
for kind in infini causal; do
    read_settings model.attention.kind=$kind "data.train=$text" training.batch=1 training.micro_batch=1
    train "$folder/$kind" 1 0 --set optimizer.warmup_steps=0 --set data.validation_fraction=0
done

# measure KIND LENGTH: microseconds a token and resident megabytes, into FOLDER/KIND-LENGTH.
measure() {
    local kind=$1 length=$2 tokens=$2 file=$folder/text
    [ "$kind" = infini ] && [ "$length" -lt "$least" ] && tokens=$least
    head -c $((tokens + 1)) "$text" >"$file"
    read_settings model.attention.kind="$kind" training.batch=1 training.micro_batch=1
    "${launch[@]}" "$cairn" eval "$config" "${settings[@]}" --checkpoint "$folder/$kind" --data "$file" \
        --context-length "$length" --json >"$folder/seen"
    awk "BEGIN { print 1e6 * $(number processor_seconds <"$folder/seen") / $(number tokens <"$folder/seen"),
                       1e-6 * $(number memory_resident_bytes <"$folder/seen") }" >>"$folder/$kind-$length"
}

rm -f "$folder"/infini-[0-9]* "$folder"/causal-[0-9]*
for ((round = 0; round < ${TIMES:-2}; round++)); do
    for length in "${lengths[@]}"; do measure infini "$length"; done
    for length in "${causal[@]}"; do measure causal "$length"; done
done

# cells KIND LENGTH: of the table; empty ones when it was not measured.
cells() {
    [ -f "$folder/$1-$2" ] || { printf ' | |'; return; }
    awk '{ time = time (NR > 1 ? ", " : "") sprintf("%.1f", $1); if ($2 > most) most = $2 }
         END { printf " %s | %.1f |", time, most }' "$folder/$1-$2"
}

table=$folder/table.md
echo '| tokens | Infini-attention: us a token | MB | causal attention: us a token | MB |' >"$table"
echo '|---|---|---|---|---|' >>"$table"
for length in "${lengths[@]}"; do
    echo "| $length |$(cells infini "$length")$(cells causal "$length")" >>"$table"
done
cat "$table"
