#!/bin/bash
# What a checkpoint costs a run: at once, behind the training, and what dd costs that writes as many bytes beside it.
#
#   checkpoint.sh CAIRN CONFIG FOLDER
#
# Three runs of CONFIG, each with three writes, ten steps apart: "at once" training stands still, "behind" is
# checkpoint.background, "dd" is a run without checkpoints beside which dd writes the same bytes past the system's cache.
# Lost seconds are those by which the nine steps after a write take longer than nine times the run's median step, and for
# which it stood still. Writes FOLDER/table.md. Environment: library.sh.
set -euo pipefail

[ $# -eq 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2 folder=$3
. "$(dirname "$0")/library.sh"
mkdir -p "$folder"
yes 'The old river sees the quiet miller, and the young fox follows a grey stone down to the road.' |
    head -c 200000 >"$folder/text" || true
read_settings data.train="$folder/text" data.format=bytes data.validation= data.validation_fraction=0 \
    optimizer.warmup_steps=0 checkpoint.keep_last=1

# run NAME OPTIONS...: 39 steps, the last of which saves, too.
run() {
    rm -rf "${folder:?}/$1"
    train "$folder/$1" 1 39 "${@:2}"
}

# column KEY NAME: its values in the run's metrics, with the step they are of.
column() {
    sed -n 's/^{"step":\([0-9]*\),.*"'"$1"'":\([-0-9.e+]*\).*/\1 \2/p' "$folder/$2/metrics.jsonl"
}

# lost NAME: seconds for each of the three writes; what a write holds training up is between steps, not in them.
lost() {
    local median
    median=$(column seconds "$1" | sort -g -k 2 | awk '{ all[NR] = $2 } END { print all[int((NR + 1) / 2)] }')
    column checkpoint_held_seconds "$1" | cat - <(column seconds "$1" | sed 's/^/step /') | awk -v median="$median" '
        $1 != "step" && $1 < 39 { sum[++writes] += $2 }
        $1 == "step" && $2 > 10 && $2 % 10 { sum[int($2 / 10)] += $3 - median }
        END { printf "%.2f, %.2f, %.2f", sum[1], sum[2], sum[3] }'
}

# three KEY NAME: its values for the three writes.
three() {
    column "$1" "$2" | head -n 3 | awk '{ printf "%s%.2f", (NR > 1 ? ", " : ""), $2 }'
}

run once --set checkpoint.every=10 --set checkpoint.background=false
bytes=$(last checkpoint_bytes "$folder/once")
run behind --set checkpoint.every=10 --set checkpoint.background=true
run dd --set checkpoint.every=0 &
training=$!
trap 'kill $training 2>/dev/null || true; rm -f "$folder/zeros"' EXIT
for step in 10 20 30; do
    until grep -q '^{"step":'$step',' "$folder/dd/metrics.jsonl" 2>/dev/null; do
        kill -0 $training 2>/dev/null || { echo "checkpoint.sh: the run beside dd has ended early" >&2 && exit 1; }
        sleep 0.1
    done
    start=$EPOCHREALTIME
    dd if=/dev/zero of="$folder/zeros" bs=16M count=$(((bytes + (16 << 20) - 1) / (16 << 20))) oflag=direct conv=fsync \
        status=none
    awk "BEGIN { printf \"%.2f\n\", $EPOCHREALTIME - $start }"
    rm "$folder/zeros"
done >"$folder/seconds"
wait $training

{
    echo "| $(awk "BEGIN { printf \"%.2f GB\", 1e-9 * $bytes }") | until on disk, s | training stood still, s | lost, s |"
    echo '|---|---|---|---|'
    echo "| at once | $(three checkpoint_seconds once) | $(three checkpoint_held_seconds once) | $(three checkpoint_seconds once) |"
    echo "| behind | $(three checkpoint_seconds behind) | $(three checkpoint_held_seconds behind) | $(lost behind) |"
    echo "| dd beside training | $(paste -s -d , "$folder/seconds" | sed 's/,/, /g') | | $(lost dd) |"
} >"$folder/table.md"
cat "$folder/table.md"
