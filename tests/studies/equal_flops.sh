#!/bin/bash
# Trains variants of a model with equal training operations and compares what they have learned.
#
#   equal_flops.sh CAIRN CONFIG FOLDER STEPS NAME:SETTINGS...
#
# The first variant takes STEPS steps; each other one as many as bring it to the same number of useful operations.
# SETTINGS are key=value pairs with blanks between them, and may be none. SEEDS in the environment lists the seeds of
# each run (default 1), LAUNCH how to start a run (default: mpirun -n 1), EVAL further settings for evaluation.
# A run that is finished is not repeated. Writes FOLDER/table.md.
set -euo pipefail

[ $# -ge 5 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4
shift 4
read -ra launch <<<"${LAUNCH:-mpirun -n 1}"
mkdir -p "$folder"

# number KEY: of a flat JSON object on standard input.
number() {
    grep -o '"'"$1"'": *[-0-9.e+]*' | head -n 1 | sed 's/.*: *//'
}

flops() {
    "$cairn" plan "$config" --parameters --json "$@" | number flops_per_token
}

table=$folder/table.md
echo '| model | seed | parameters | MFLOP a token | steps | tokens | seconds | held-out loss |' >"$table"
echo '|---|---|---|---|---|---|---|---|' >>"$table"
budget=
for variant; do
    name=${variant%%:*}
    settings=()
    for setting in ${variant#*:}; do
        settings+=(--set "$setting")
    done
    each=$(flops "${settings[@]}")
    [ -n "$budget" ] || budget=$(awk "BEGIN { print $steps * $each }")
    count=$(awk "BEGIN { printf \"%d\", $budget / $each + 0.5 }")
    parameters=$("$cairn" plan "$config" --parameters --json "${settings[@]}" | grep -o '"stored": {[^}]*}' | number all)
    for seed in ${SEEDS:-1}; do
        run=$folder/$name-$seed
        "${launch[@]}" "$cairn" train "$config" "${settings[@]}" --set "training.steps=$count" --set training.seed="$seed" \
            --set data.seed="$seed" --set "run.folder=$run" --set run.prompt= --set evaluation.every=0 >&2
        loss=$(grep -o '"validation_loss": *[0-9.]*' "$run/metrics.jsonl" | tail -n 1 | sed 's/.*: *//')
        tokens=$(grep -o '"tokens": *[0-9]*' "$run/metrics.jsonl" | tail -n 1 | sed 's/.*: *//')
        seconds=$(grep -o '"seconds": *[0-9.e-]*' "$run/metrics.jsonl" | sed 's/.*: *//' | awk '{ s += $1 } END { printf "%.0f", s }')
        printf '| %s | %s | %s | %.3f | %s | %s | %s | %.4f |\n' "$name" "$seed" "$parameters" \
            "$(awk "BEGIN { print $each * 1e-6 }")" "$count" "$tokens" "$seconds" "$loss" >>"$table"
    done
done
cat "$table"
