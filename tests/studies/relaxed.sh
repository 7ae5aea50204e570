#!/bin/bash
# What is left of a dense model right after it becomes a relaxed recursive one: shared layers are means, and recursions
# have low-rank maps of what the means leave.
#
#   relaxed.sh CAIRN CONFIG FOLDER STEPS [RECURSIONS [RANKS]]
#
# CONFIG is a dense model; RECURSIONS (default "2 3") divide its layers, RANKS (default "0 8 32 128") are those of the
# maps, at most model.width. The dense model is trained once for each seed; a run that is finished is not repeated.
# "stepwise" shares evenly spaced layers as they are. Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3 steps=$4
read -ra recursions <<<"${5:-2 3}"
read -ra ranks <<<"${6:-0 8 32 128}"
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"

# loss RUN: on all of the validation data.
loss() {
    "${launch[@]}" "$cairn" eval "$config" "${settings[@]}" --checkpoint "$1" --json | number loss
}

table=$folder/table.md
echo '| recursions | shared layers | rank | parameters | squares kept | loss right after, mean | spread |' >"$table"
echo '|---|---|---|---|---|---|---|' >>"$table"

# row RECURSIONS WHAT RANK ARGUMENT...: of all seeds.
row() {
    local count=$1 what=$2 rank=$3 losses=() kept=
    shift 3
    for seed in "${seeds[@]}"; do
        local made=$folder/$what-$count-$rank-$seed
        rm -rf "${made:?}"
        "${launch[@]}" "$cairn" checkpoint convert "$folder/dense-$seed" "$made" --to "$config" "${settings[@]}" "$@" >"$folder/said"
        kept=$(sed -n 's/.*they keep \([0-9.e-]*\) of .*/\1/p' "$folder/said")
        losses+=("$(loss "$made")")
    done
    echo "| $count | $what | $rank | $(parameters) | $kept | $(printf '%s\n' "${losses[@]}" | spread) |" >>"$table"
}

read_settings
losses=()
for seed in "${seeds[@]}"; do
    train "$folder/dense-$seed" "$seed" "$steps"
    losses+=("$(loss "$folder/dense-$seed")")
done
echo "| 1 | dense | | $(parameters) | | $(printf '%s\n' "${losses[@]}" | spread) |" >>"$table"
for count in "${recursions[@]}"; do
    shared="model.depth.kind=recursive model.depth.recursions=$count model.depth.sharing=cycle"
    read_settings $shared
    row "$count" stepwise 0 --initialization stepwise
    for rank in "${ranks[@]}"; do
        read_settings $shared "model.depth.lora_rank=$rank"
        row "$count" mean "$rank" --initialization average
    done
done
cat "$table"
