#!/bin/bash
# Trains variants of a model with equal training operations and compares what they have learned.
#
#   equal_flops.sh CAIRN CONFIG FOLDER STEPS NAME:SETTINGS...
#
# The first variant takes STEPS steps; each other one as many as bring it to the same number of useful operations.
# SETTINGS are key=value pairs with blanks between them, and may be none. Held-out losses are those of routers that decide
# token by token, as when generating, and for whole windows. Seconds are processor time of all steps, from ten of them.
# A run that is finished is not repeated. Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -ge 5 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4
shift 4
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"

table=$folder/table.md
echo '| model | seed | parameters | MFLOP a token | steps | tokens | seconds | held-out loss | for whole windows |' >"$table"
echo '|---|---|---|---|---|---|---|---|---|' >>"$table"
budget=

# whole RUN: held-out loss of routers that decide for whole windows; nothing without routers.
whole() {
    ! grep -q '"router_load' "$1/metrics.jsonl" ||
        "${launch[@]}" "$cairn" eval "$config" "${settings[@]}" --checkpoint "$1" --routing whole --json |
        number loss | awk '{ printf "%.4f", $1 }'
}

for variant; do
    name=${variant%%:*}
    read_settings ${variant#*:}
    each=$(plan flops_per_token)
    [ -n "$budget" ] || budget=$(awk "BEGIN { print $steps * $each }")
    count=$(awk "BEGIN { printf \"%d\", $budget / $each + 0.5 }")
    seconds=$(awk "BEGIN { printf \"%.0f\", $count * $(step_time "$folder" 10) }")
    for seed in "${seeds[@]}"; do
        run=$folder/$name-$seed
        train "$run" "$seed" "$count"
        windows=$(whole "$run")
        printf '| %s | %s | %s | %.3f | %s | %s | %s | %.4f | %s |\n' "$name" "$seed" "$(parameters)" \
            "$(awk "BEGIN { print $each * 1e-6 }")" "$count" "$(last tokens "$run")" "$seconds" \
            "$(last validation_loss "$run")" "$windows" >>"$table"
    done
done
cat "$table"
