#!/bin/bash
# A system of tasks beside models of one task each, trained on as many images; what a task more costs.
#
#   evolve.sh CAIRN CONFIG TASKS FOLDER          the table: FOLDER/table.md
#   evolve.sh CAIRN CONFIG --many SOURCE FOLDER  FOLDER/table.md: 30 tasks cut out of the set of images SOURCE
#                                                (*-images-idx3-ubyte), turned, shuffled, and parts of its classes
#
# The table has, for each task, accuracy on its test set: of the system after each of LOOPS (2) loops over the tasks; of the
# root alone with all but norm and head frozen, or trained as a whole; with evolve.root of a model of random values, too.
# Those are systems of one child whose intervals are as many as all children of the task have together, at the
# hyperparameters with which paths begin. What is finished is not repeated, what was stopped goes on.
#
# Environment: SET holds settings of every run, SEEDS the seeds (1), LAUNCH how to start one (mpirun -n 2).
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$(realpath "$1") config=$2
read -ra launch <<<"${LAUNCH:-mpirun -n 2}"
read -ra seeds <<<"${SEEDS:-1}"
settings=()
for setting in ${SET:-}; do
    settings+=(--set "$setting")
done
setting() { # KEY
    "$cairn" config "$config" "${settings[@]}" | awk -v section="${1%.*}:" -v key="${1##*.}:" '
        $1 == section { inside = 1 } inside && $1 == key { print $2; exit }'
}
evolve() { # FOLDER SEED TASKS OPTIONS...
    mkdir -p "$1"
    "${launch[@]}" "$cairn" evolve "$config" "${settings[@]}" --set run.folder="$1" --set training.seed="$2" --set evolve.tasks="$3" \
        "${@:4}" </dev/null >>"$1/log" 2>&1 || { tail -n 5 "$1/log" >&2; exit 1; }
    "$cairn" evolve "$1" --status 2>/dev/null >"$1/status"
}

if [ "$3" = --many ]; then
    source=$4 folder=$5
    mkdir -p "$folder/tasks"
    for ((i = 0; i < 30; i++)); do
        name=$(printf 'task%02d' $i)
        [ ! -s "$folder/tasks/$name-test-labels-idx1-ubyte" ] || continue
        case $((i % 3)) in
        0) what=(all 0 0 $((i / 3 % 4)) 0) ;;           # turned
        1) what=(all 0 0 0 $((i + 1))) ;;               # shuffled
        2) what=($((i % 10)),$(((i + 3) % 10)),$(((i + 7) % 10)) 0 0 $((i / 12)) 0) ;; # three classes
        esac
        first=0
        for part in train:600 validation:150 test:150; do
            "$(dirname "$0")/cut_images.sh" "$source" "$folder/tasks/$name-${part%:*}" "${what[0]}" $first "${part#*:}" "${what[3]}" "${what[4]}"
            first=$((first + ${part#*:}))
        done
        echo "- {name: $name, train: $folder/tasks/$name-train-images-idx3-ubyte, validation:" \
            "$folder/tasks/$name-validation-images-idx3-ubyte, test: $folder/tasks/$name-test-images-idx3-ubyte}" >>"$folder/tasks.yaml"
    done
    evolve "$folder/many" "${seeds[0]}" "$folder/tasks.yaml" --set evolve.iterations=1
    # By visit: milliseconds of processor time for a child's step, parameters of the path and of all.
    {
        echo '| tasks | ms a step | parameters of the path | of the system | a task | accuracy |'
        echo '|---|---|---|---|---|---|'
        awk 'NR == FNR { if (match($0, /"visit":[0-9]+/)) visit = substr($0, RSTART + 8, RLENGTH - 8)
                         if (match($0, /"steps":[0-9]+/)) steps[visit] += substr($0, RSTART + 8, RLENGTH - 8)
                         if (match($0, /"processor_seconds":[0-9.e-]+/)) seconds[visit] += substr($0, RSTART + 20, RLENGTH - 20); next }
            /"visit":/ { v = $2 + 0 } /"parameters":/ { p = $2 + 0 } /"system_parameters":/ { all = $2 + 0 } /"kept":/ { kept = v > 0 }
            /"accuracy":/ && kept { printf "| %d | %.2f | %d | %d | %.0f | %.3f |\n", v, 1000 * seconds[v] / steps[v], p, all, all / v, $2; kept = v = 0 }' \
            "$folder/many/metrics.jsonl" "$(printf '%s/many/%s' "$folder" "$(cat "$folder/many/latest")")"
    } >"$folder/table.md"
    cat "$folder/table.md"
    exit
fi

tasks=$3 folder=$4 loops=${LOOPS:-2}
mkdir -p "$folder"
# The values in brackets, or the standard ones, alone.
fixed=$("$cairn" config "$config" "${settings[@]}" | awk '
    BEGIN { n = split("lr=0.01 momentum=0.9 nesterov=false warmup=0.05 area_min=0.05 aspect_min=0.75 crop=true flip=true", words, " ")
            for (i = 1; i <= n; i++) { split(words[i], pair, "="); value[pair[1]] = pair[2] } }
    /^ *- *"?[a-z_]+ = / && match($0, /\[[^]]*\]/) { name = $0; sub(/^ *- *"?/, "", name); sub(/ =.*/, "", name)
            value[name] = substr($0, RSTART + 1, RLENGTH - 2) }
    END { delete value["mu"]; for (name in value) printf "%s = [%s],", name, value[name]
          printf "brightness = [0],contrast = [0],saturation = [0],hue = [0]" }')
all=$((loops * $(setting evolve.generations) * $(setting evolve.children) * $(setting evolve.intervals)))
alone() { # FOLDER SEED TASKFILE MU OPTIONS...
    evolve "$1" "$2" "$3" --set evolve.iterations=1 --set evolve.generations=1 --set evolve.children=1 --set evolve.adapters=false \
        --set evolve.intervals=$all --set "evolve.space=mu = [$4],$fixed" "${@:5}"
}
root=$(setting evolve.root)
variants=(frozen whole)
[ -z "${root//\"/}" ] || variants+=(random)
for seed in "${seeds[@]}"; do
    for ((loop = 1; loop <= loops; loop++)); do
        evolve "$folder/system-$seed" "$seed" "$tasks" --set evolve.iterations=$loop
        [ -s "$folder/system-$seed/status-$loop" ] || cp "$folder/system-$seed/status" "$folder/system-$seed/status-$loop"
    done
    while read -r line; do
        name=$(sed 's/.*name: *\([^,} ]*\).*/\1/' <<<"$line")
        echo "$line" >"$folder/$name.yaml"
        for variant in "${variants[@]}"; do
            mu=1 options=()
            [ $variant != frozen ] || mu=0
            [ $variant != random ] || options=(--set evolve.root=)
            alone "$folder/$variant-$name-$seed" "$seed" "$folder/$name.yaml" $mu "${options[@]}"
        done
    done < <(grep -v '^#' "$tasks")
done
{
    printf '| task | seed |'
    for ((loop = 1; loop <= loops; loop++)); do printf ' system, loop %d |' $loop; done
    printf ' %s |' "${variants[@]}" 'validation - test' parameters own
    printf '\n|---|---|'
    for ((i = 0; i < loops + ${#variants[@]} + 3; i++)); do printf -- '---|'; done
    echo
    grep -v '^#' "$tasks" | sed 's/.*name: *\([^,} ]*\).*/\1/' | while read -r name; do
        for seed in "${seeds[@]}"; do
            printf '| %s | %s |' "$name" "$seed"
            for ((loop = 1; loop <= loops; loop++)); do
                awk -v name="$name" '$1 == name { printf " %s |", $3 }' "$folder/system-$seed/status-$loop"
            done
            for variant in "${variants[@]}"; do
                awk -v name="$name" '$1 == name { printf " %s |", $3 }' "$folder/$variant-$name-$seed/status"
            done
            awk -v name="$name" '$1 == name { printf " %.3f | %s | %s |\n", $4 - $3, $6, $8 }' "$folder/system-$seed/status"
        done
    done
    for seed in "${seeds[@]}"; do
        echo "| all | $seed | $(tail -n 1 "$folder/system-$seed/status") |"
    done
} >"$folder/table.md"
cat "$folder/table.md"
