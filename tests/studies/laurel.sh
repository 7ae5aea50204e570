#!/bin/bash
# Compares learned residual connections (LAuReL) with plain ones and with one more layer, for equal steps. Of models of
# images the table also has the share of held-out images that are told right.
#
#   laurel.sh CAIRN CONFIG FOLDER STEPS [RANK [PREVIOUS]]
#
# RANK (default 16) is that of the learned part of the skip, PREVIOUS (default 3) the number of states used. A run that
# is finished is not repeated. Time of a step is CPU time, the smallest of TIMES (default 5) rounds in which the
# variants take turns, against the plain one. VARIANTS names those that are wanted, with commas between them. Writes
# FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4 rank=${5:-16} previous=${6:-3}
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"

read_settings
layers=$("$cairn" config "$config" "${settings[@]}" | sed -n 's/^ *layers: *\([0-9]*\).*/\1/p')
family=$(family)
deeper=model.layers=$((layers + 1))
[ "$family" != resnet ] || deeper=model.extra_blocks=1
learned=model.residual.kind=laurel
weights=model.residual.weights=true
low_rank=model.residual.rank=$rank
earlier=model.residual.previous=$previous
variants=(
    "plain:"
    "one more layer:$deeper"
    "RW:$learned $weights"
    "LR:$learned $low_rank"
    "PA:$learned $earlier"
    "RW+LR:$learned $weights $low_rank"
    "RW+LR+PA:$learned $weights $low_rank $earlier"
)

if [ -n "${VARIANTS:-}" ]; then
    wanted=()
    for variant in "${variants[@]}"; do
        [[ ",$VARIANTS," != *",${variant%%:*},"* ]] || wanted+=("$variant")
    done
    variants=("${wanted[@]}")
fi

for variant in "${variants[@]}"; do
    name=${variant%%:*}
    read_settings ${variant#*:}
    for seed in "${seeds[@]}"; do
        train "$folder/$name-$seed" "$seed" "$steps"
    done
done
declare -A least
for ((round = 0; round < ${TIMES:-5}; round++)); do
    for variant in "${variants[@]}"; do
        name=${variant%%:*}
        read_settings ${variant#*:}
        seconds=$(step_time "$folder" 20)
        least[$name]=$(awk "BEGIN { a = $seconds; b = ${least[$name]:-1e9}; print a < b ? a : b }")
    done
done

table=$folder/table.md
head='| residual connection | parameters |' line='|---|---|'
[ "$family" = decoder ] || head="$head right %, mean | spread |" line="$line---|---|"
echo "$head held-out loss, mean | spread | time of a step |" >"$table"
echo "$line---|---|---|" >>"$table"
all() { for seed in "${seeds[@]}"; do last "$1" "$folder/$name-$seed" | awk -v by="${2:-1}" "{ print \$1 * by }"; done | spread; }
for variant in "${variants[@]}"; do
    name=${variant%%:*}
    read_settings ${variant#*:}
    columns=$(all validation_loss)
    [ "$family" = decoder ] || columns="$(all validation_accuracy 100) | $columns"
    printf '| %s | %s | %s | %.3f |\n' "$name" "$(parameters)" "$columns" \
        "$(awk "BEGIN { print ${least[$name]} / ${least[plain]} }")" >>"$table"
done
cat "$table"
