#!/bin/bash
# compare.sh CAIRN CONFIG OUTPUT: the same GPT-2 124M training step in this program and in others that are installed, on
# the same cores, in turns, so that what else the machine does falls on all of them. Prints a table and writes it to
# OUTPUT. CONFIG must be the model of pytorch_step.py. From the environment:
#   CAIRN_PYTHON   a Python with PyTorch (python3)
#   LLMC           a checkout of llm.c with its train_gpt2 and the files that needs; it fixes batch and length itself
#   CORES          that all may use (2)
#   ROUNDS, STEPS  turns of each program (2), steps measured in a turn (3), one more warms up
#   BATCH, LENGTH  of a step (4 x 1024)
#   TYPE           of its products: bf16, or fp32 for processors that have no bf16 (bf16)
# The environment must also let mpirun start CORES ranks.
set -uo pipefail
if [ $# -ne 3 ] || [ ! -x "$1" ]; then
    echo "usage: compare.sh CAIRN CONFIG OUTPUT" >&2
    exit 2
fi
cairn=$(realpath "$1")
config=$2
output=$3
here=$(cd "$(dirname "$0")" && pwd)
python=${CAIRN_PYTHON:-python3}
cores=${CORES:-2}
rounds=${ROUNDS:-2}
steps=${STEPS:-3}
batch=${BATCH:-4}
length=${LENGTH:-1024}
type=${TYPE:-bf16}
limit=1800 # seconds a turn may take
. "$here/library.sh"
rate_of() { field "$1" tokens_per_second; }
start_comparison

cairn_turn() {
    local name=$1 ranks=$2 threads=$3
    local start=(env "OMP_NUM_THREADS=$threads")
    [ "$ranks" -eq 1 ] || start+=(mpirun -n "$ranks")
    turn "$name" "${start[@]}" "$cairn" bench step "$config" --json --warmup 1 --steps "$steps" \
        --set "training.batch=$batch" --set "training.micro_batch=$batch" --set "training.sequence_length=$length" \
        --set "mesh.data=$ranks" --set mesh.pipeline=1 --set mesh.tensor=1 --set "compute.type=$type" || return
    field "$results/out" gflops_before >>"$results/peaks"
    field "$results/out" gflops_after >>"$results/peaks"
    field "$results/out" useful_per_token >"$results/useful"
}

torch_turn() {
    local name=$1
    shift
    turn "$name" env "OMP_NUM_THREADS=$cores" "$python" "$here/pytorch_step.py" --batch "$batch" --length "$length" \
        --threads "$cores" --warmup 1 --steps "$steps" --type "$type" "$@"
}

# Its own sizes: 4 sequences of 64 tokens, fp32. It would print to a pipe when it has ended: line by line, it ends when
# awk has seen enough.
llmc_turn() {
    printf '  %-30s' "llm.c" >&2
    (cd "$LLMC" && OMP_NUM_THREADS=$cores "${on_cores[@]}" stdbuf -oL ./train_gpt2 2>&1) |
        awk -v steps=$((steps + 1)) '
            /^step [0-9]+: train loss/ && match($0, /took [0-9.]+ ms/) {
                if (seen++) print 4 * 64 * 1000 / substr($0, RSTART + 5, RLENGTH - 8)
                if (seen == steps) exit
            }' >"$results/llmc"
    if [ -s "$results/llmc" ]; then
        median "$results/llmc" >>"$results/llm.c.rates"
        echo >>"$results/llm.c.rates"
        echo "$(median "$results/llmc") tokens/s" >&2
    else
        echo "failed" >&2
        note_absent "llm.c: $LLMC/train_gpt2 printed no steps; run it by hand"
    fi
}

torch=$(torch_version) || torch=
[ -n "$torch" ] || note_absent "PyTorch: $python cannot import torch; CAIRN_PYTHON names another Python"
has_llmc=false
if [ -n "${LLMC:-}" ] && [ -x "$LLMC/train_gpt2" ]; then
    has_llmc=true
else
    note_absent "llm.c: LLMC names no folder with its train_gpt2"
fi

one="Cairn, 1 rank x $cores threads"
many="Cairn, $cores ranks x 1 thread"
eager="PyTorch $torch"
compiled="PyTorch $torch, compiled"
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    cairn_turn "$one" 1 "$cores"
    [ -z "$torch" ] || torch_turn "$eager"
    [ "$cores" -eq 1 ] || cairn_turn "$many" "$cores" 1
    [ -z "$torch" ] || torch_turn "$compiled" --compile
    ! $has_llmc || llmc_turn
done

best_peer=$(best_of "$eager" "$compiled")
peak=$(sort -g "$results/peaks" 2>/dev/null | tail -n 1)

row() {
    local name=$1 rates=$results/$1.rates tokens=$2 sizes=$3
    [ -s "$rates" ] || return 0
    awk -v name="$name" -v sizes="$sizes" -v tokens="$tokens" -v median="$(median "$rates")" -v peer="${best_peer:-0}" \
        -v peak="${peak:-0}" -v useful="$(cat "$results/useful" 2>/dev/null || echo 0)" '
        { all = all (NR > 1 ? ", " : "") sprintf("%.1f", $1) }
        END {
            share = (peak > 0 && useful > 0) ? sprintf("%.1f %%", median * useful / peak / 1e7) : ""
            times = (peer > 0) ? sprintf("%.2f", median / peer) : ""
            printf("| %-34s | %-14s | %8.2f | %8.1f | %-24s | %6s | %9s |\n", name, sizes, tokens / median, median, all,
                share, times)
        }' "$rates"
}

mkdir -p "$(dirname "$output")"
{
    echo "# One training step of GPT-2 124M on $cores cores"
    echo
    echo "$(machine), $(date -u '+%Y-%m-%d %H:%M') UTC. Medians over $rounds rounds" \
        "of the median of $steps steps, programs in turns. Load $load_before before, $(cut -d ' ' -f 1-3 /proc/loadavg) after."
    echo
    printf '| %-34s | %-14s | %8s | %8s | %-24s | %6s | %9s |\n' program "batch, type" "s a step" tokens/s "by round" MFU "x PyTorch"
    echo "|------------------------------------|----------------|---------:|---------:|--------------------------|-------:|----------:|"
    row "$one" $((batch * length)) "$batch x $length $type"
    row "$many" $((batch * length)) "$batch x $length $type"
    row "$eager" $((batch * length)) "$batch x $length $type"
    row "$compiled" $((batch * length)) "$batch x $length $type"
    row "llm.c" 256 "4 x 64 fp32"
    echo
    echo "MFU: useful FLOPs of tokens/s by $(printf %.0f "${peak:-0}") GFLOP/s, the highest of the register-to-register peaks measured in" \
        "the turns ($(sort -g "$results/peaks" 2>/dev/null | awk '{ printf("%s%.0f", (NR > 1) ? " " : "", $1) }'))." \
        "x PyTorch: against the better of its two modes."
    print_absent
} >"$output"
echo
cat "$output"
[ -s "$results/$one.rates" ]
