#!/bin/bash
# Trains variants of a model with equal training operations and compares what they have learned.
#
#   equal_flops.sh CAIRN CONFIG FOLDER STEPS NAME:SETTINGS...
#
# The first variant takes STEPS steps; each other one as many as bring it to the same number of useful operations.
# SETTINGS are key=value pairs with blanks between them, and may be none. A run that is finished is not repeated.
# Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -ge 5 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4
shift 4
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"

table=$folder/table.md
echo '| model | seed | parameters | MFLOP a token | steps | tokens | seconds | held-out loss |' >"$table"
echo '|---|---|---|---|---|---|---|---|' >>"$table"
budget=
for variant; do
    name=${variant%%:*}
    read_settings ${variant#*:}
    each=$(plan flops_per_token)
    [ -n "$budget" ] || budget=$(awk "BEGIN { print $steps * $each }")
    count=$(awk "BEGIN { printf \"%d\", $budget / $each + 0.5 }")
    for seed in "${seeds[@]}"; do
        run=$folder/$name-$seed
        train "$run" "$seed" "$count"
        seconds=$(grep -o '"seconds": *[0-9.e-]*' "$run/metrics.jsonl" | sed 's/.*: *//' | awk '{ s += $1 } END { printf "%.0f", s }')
        printf '| %s | %s | %s | %.3f | %s | %s | %s | %.4f |\n' "$name" "$seed" "$(parameters)" \
            "$(awk "BEGIN { print $each * 1e-6 }")" "$count" "$(last tokens "$run")" "$seconds" \
            "$(last validation_loss "$run")" >>"$table"
    done
done
cat "$table"
