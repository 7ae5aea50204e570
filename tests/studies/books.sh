#!/bin/bash
# What a memory is worth on books: Infini-attention, the same model that sees its segment only, and causal attention
# over the whole context, each trained on as many tokens.
#
#   books.sh CAIRN CONFIG FOLDER STEPS
#
# CONFIG is a model with Infini-attention whose sequences are contexts and hold several segments. "segments only" is
# causal attention in sequences of one segment, as many of them: what Infini-attention is without a memory. Infini-
# attention reads documents in order and carries its memory from step to step, or random windows as the others do; it is
# evaluated over contexts of CONTEXT (default 65536) tokens, and once more with the memory switched off. A run that is
# finished is not repeated. Seconds are processor time of all steps, from ten of them. Writes FOLDER/table.md.
# Environment: library.sh.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"

read_settings
value() { "$cairn" config "$config" "${settings[@]}" | sed -n "s/^ *$1: *\([0-9]*\).*/\1/p"; }
length=$(value sequence_length) segment=$(value segment) batch=$(value batch)
variants=(
    "Infini-attention, streams:data.sampling=stream"
    "Infini-attention, random windows:data.sampling=shuffle"
    "segments only:model.attention.kind=causal training.sequence_length=$segment training.batch=$((batch * length / segment)) training.micro_batch=$((length / segment))"
    "causal attention:model.attention.kind=causal"
)

# bits RUN OPTIONS...: a byte, held out.
bits() {
    local run=$1
    shift
    "${launch[@]}" "$cairn" eval "$config" "${settings[@]}" --checkpoint "$run" --json "$@" | number loss |
        awk '{ printf "%.4f", $1 / log(2) }'
}

table=$folder/table.md
echo '| model | seed | parameters | context | bits a byte | with the memory off | seconds |' >"$table"
echo '|---|---|---|---|---|---|---|' >>"$table"
for variant in "${variants[@]}"; do
    name=${variant%%:*}
    read_settings ${variant#*:}
    seconds=$(awk "BEGIN { printf \"%.0f\", $steps * $(step_time "$folder" 10) }")
    for seed in "${seeds[@]}"; do
        run=$folder/$name-$seed
        train "$run" "$seed" "$steps"
        context=$(value sequence_length) off=
        if [[ $name == Infini* ]]; then
            context=${CONTEXT:-65536}
            off=$(bits "$run" --context-length "$context" --memory off)
        fi
        held_out=$(bits "$run" --context-length "$context")
        echo "| $name | $seed | $(parameters) | $context | $held_out | $off | $seconds |" >>"$table"
    done
done
cat "$table"
