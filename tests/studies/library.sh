# What the studies share; sourced. Expects $cairn and $config.
#
# Environment of each study: SET holds key=value settings of every run, with blanks between them; SEEDS the seeds of
# each run (default 1); LAUNCH how to start one (default: mpirun -n 1).

read -ra launch <<<"${LAUNCH:-mpirun -n 1}"
read -ra seeds <<<"${SEEDS:-1}"

# number KEY: of a flat JSON object on standard input.
number() {
    grep -o '"'"$1"'": *[-0-9.e+]*' | head -n 1 | sed 's/.*: *//'
}

# last KEY RUN: the last value of that name in a run's metrics.
last() {
    grep -o '"'"$1"'": *[-0-9.e+]*' "$2/metrics.jsonl" | tail -n 1 | sed 's/.*: *//'
}

# read_settings KEY=VALUE...: into the array `settings`, behind those of every run.
read_settings() {
    settings=()
    local setting
    for setting in ${SET:-} "$@"; do
        settings+=(--set "$setting")
    done
}

# plan KEY: what `cairn plan --parameters` counts for `settings`.
plan() {
    "$cairn" plan "$config" --parameters --json "${settings[@]}" | number "$1"
}

parameters() {
    "$cairn" plan "$config" --parameters --json "${settings[@]}" | grep -o '"stored": {[^}]*}' | number all
}

# train RUN SEED STEPS OPTIONS...: unless it is finished.
train() {
    "${launch[@]}" "$cairn" train "$config" "${settings[@]}" --set "training.steps=$3" --set "training.seed=$2" \
        --set "data.seed=$2" --set "run.folder=$1" --set run.prompt= --set evaluation.every=0 "${@:4}" >&2
}

# The family of models that `settings` say.
family() {
    "$cairn" config "$config" "${settings[@]}" | sed -n 's/^ *family: *\([a-z]*\).*/\1/p'
}

# cpu FOLDER STEPS: seconds of processor time that so many steps of `settings` take, with start and end.
cpu() {
    local TIMEFORMAT=%U
    local only=(--set optimizer.warmup_steps=0 --set data.validation=)
    [ "$(family)" != decoder ] || only+=(--set data.validation_fraction=0)
    rm -rf "${1:?}/timed"
    { time train "$1/timed" 1 "$2" "${only[@]}" >/dev/null 2>&1; } 2>&1
}

# step_time FOLDER STEPS: processor time of a step of `settings`, seen over so many.
step_time() {
    awk "BEGIN { print ($(cpu "$1" $(($2 + 2))) - $(cpu "$1" 2)) / $2 }"
}

# spread: of the numbers on standard input "mean, (largest - smallest)", or the number alone.
spread() {
    awk '{ s += $1; if (NR == 1 || $1 < low) low = $1; if (NR == 1 || $1 > high) high = $1 }
         END { if (NR > 1) printf "%.4f | %.4f", s / NR, high - low; else printf "%.4f | ", s }'
}
