#!/bin/bash
# compare_images.sh CAIRN OUTPUT: training steps of ResNet-18 (small stem, 32 x 32), ResNet-50 and ViT-Ti/16 (224 x 224)
# in this program and in PyTorch, on the same cores, in turns. Prints a table and writes it to OUTPUT. From the
# environment:
#   CAIRN_PYTHON   a Python with PyTorch, torchvision and timm (python3)
#   CORES          that all may use (2)
#   ROUNDS, STEPS  turns of each program (3), steps measured in a turn (3); two more warm up
#   TYPES          of the products ("fp32 bf16"; bf16 only where the processor has it)
#   MODELS         ("resnet18 resnet50 vit_tiny_patch16_224")
set -uo pipefail
if [ $# -ne 2 ] || [ ! -x "$1" ]; then
    echo "usage: compare_images.sh CAIRN OUTPUT" >&2
    exit 2
fi
cairn=$(realpath "$1")
output=$2
here=$(cd "$(dirname "$0")" && pwd)
python=${CAIRN_PYTHON:-python3}
cores=${CORES:-2}
rounds=${ROUNDS:-3}
steps=${STEPS:-3}
limit=900 # seconds a turn may take
. "$here/library.sh"
batch=0
rate_of() { awk -v batch="$batch" -v seconds="$(field "$1" seconds)" 'BEGIN { if (seconds > 0) print batch / seconds }'; }
start_comparison

# The model of this program: its settings in a file, and what the peer is told of them in batch, size, classes and stem.
choose() {
    stem=small
    case $1 in
    resnet18)
        batch=128 size=32 classes=10
        settings="family: resnet, depth_preset: 18, width: 64, image: {size: 32, channels: 3, classes: 10}"
        ;;
    resnet50)
        batch=16 size=224 classes=1000 stem=imagenet
        settings="family: resnet, depth_preset: 50, width: 64, stem: imagenet, image: {size: 224, classes: 1000}"
        ;;
    vit_tiny_patch16_224)
        batch=32 size=224 classes=1000
        settings="family: vit, width: 192, layers: 12, heads: 3, hidden: 768, image: {size: 224, patch: 16, classes: 1000}"
        ;;
    *)
        echo "compare_images.sh: MODELS: no model $1" >&2
        exit 2
        ;;
    esac
    optimizer="kind: sgd, learning_rate: 0.01, momentum: 0.9, weight_decay: 5.0e-4, clip: 0.0"
    [[ $1 == resnet* ]] || optimizer="learning_rate: 1.0e-3"
    printf 'model: {%s}\noptimizer: {%s}\ntraining: {batch: %d, micro_batch: %d}\n' "$settings" "$optimizer" "$batch" \
        "$batch" >"$results/model.yaml"
}

cairn_turn() {
    turn "$1 $2 Cairn" env "OMP_NUM_THREADS=$cores" "$cairn" bench step "$results/model.yaml" --json --warmup 2 \
        --steps "$steps" --set "compute.type=$2" || return
    field "$results/out" gflops_before >>"$results/$2.peaks"
    field "$results/out" gflops_after >>"$results/$2.peaks"
    awk -v all="$(field "$results/out" useful)" -v batch="$batch" 'BEGIN { print all / batch }' >"$results/$1.useful"
}

torch_turn() {
    local model=$1 type=$2 mode=$3
    shift 3
    turn "$model $type PyTorch $mode" env "OMP_NUM_THREADS=$cores" "$python" "$here/pytorch_images.py" --model "$model" \
        --stem "$stem" --size "$size" --batch "$batch" --classes "$classes" --type "$type" --threads "$cores" \
        --steps "$steps" "$@"
}

torch=$(torch_version) || torch=
[ -n "$torch" ] || note_absent "PyTorch: $python cannot import torch; CAIRN_PYTHON names another Python"
read -ra models <<<"${MODELS:-resnet18 resnet50 vit_tiny_patch16_224}"
read -ra types <<<"${TYPES:-fp32 bf16}"
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for model in "${models[@]}"; do
        choose "$model"
        for type in "${types[@]}"; do
            cairn_turn "$model" "$type"
            [ -n "$torch" ] || continue
            torch_turn "$model" "$type" eager
            torch_turn "$model" "$type" "eager, channels last" --channels-last
            torch_turn "$model" "$type" compiled --compile
            torch_turn "$model" "$type" "compiled, channels last" --compile --channels-last
        done
    done
done

row() {
    local model=$1 type=$2 program=$3 rates="$results/$1 $2 $3.rates"
    [ -s "$rates" ] || return 0
    local peer peak
    peer=$(best_of "$model $type PyTorch eager" "$model $type PyTorch eager, channels last" \
        "$model $type PyTorch compiled" "$model $type PyTorch compiled, channels last")
    peak=$(sort -g "$results/$type.peaks" 2>/dev/null | tail -n 1)
    awk -v name="$program" -v model="$model, $batch, $type" -v median="$(median "$rates")" -v peer="${peer:-0}" \
        -v peak="${peak:-0}" -v useful="$(cat "$results/$model.useful" 2>/dev/null || echo 0)" '
        { all = all (NR > 1 ? ", " : "") sprintf("%.1f", $1) }
        END {
            share = (peak > 0 && useful > 0) ? sprintf("%.1f %%", median * useful / peak / 1e7) : ""
            times = (peer > 0) ? sprintf("%.2f", median / peer) : ""
            printf("| %-32s | %-31s | %8.1f | %-22s | %6s | %9s |\n", model, name, median, all, share, times)
        }' "$rates"
}

mkdir -p "$(dirname "$output")"
{
    echo "# One training step of image models on $cores cores"
    echo
    echo "$(machine), $(date -u '+%Y-%m-%d %H:%M') UTC, PyTorch ${torch:-absent}. Medians over $rounds rounds of the median" \
        "of $steps steps, programs in turns. Load $load_before before, $(cut -d ' ' -f 1-3 /proc/loadavg) after."
    echo
    printf '| %-32s | %-31s | %8s | %-22s | %6s | %9s |\n' "model, batch, type" program images/s "by round" MFU "x PyTorch"
    echo "|----------------------------------|---------------------------------|---------:|------------------------|-------:|----------:|"
    for model in "${models[@]}"; do
        choose "$model"
        for type in "${types[@]}"; do
            for program in Cairn "PyTorch eager" "PyTorch eager, channels last" "PyTorch compiled" \
                "PyTorch compiled, channels last"; do
                row "$model" "$type" "$program"
            done
        done
    done
    echo
    echo "MFU: useful FLOPs by the highest of the register-to-register peaks measured in the turns of that type" \
        "($(for type in "${types[@]}"; do printf '%s %.0f GFLOP/s ' "$type" "$(sort -g "$results/$type.peaks" 2>/dev/null |
            tail -n 1)"; done | sed 's/ $//'))." \
        "x PyTorch: against the best of its modes."
    print_absent
} >"$output"
echo
cat "$output"
