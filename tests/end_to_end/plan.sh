#!/bin/bash
# Planning counts a model that is never made, and says what is missing.
set -u
. "$(dirname "$0")/library.sh" "$@"

# equal OBJECT KEY NUMBER: what an object of the JSON output says.
equal() {
    local value
    value=$(grep -o '"'"$1"'": {[^{}]*}' out | grep -o '"'"$2"'": [-0-9]*' | sed 's/.*: //')
    [ "$value" = "$3" ] || fail "$1, $2: $value instead of $3"
}

cat >base.yaml <<'YAML'
model: {vocabulary: 49152, width: 960, layers: 32, heads: 15, kv_heads: 5, head_width: 64, hidden: 2560,
        tied_embeddings: true}
YAML
layer=$((2 * 960 * 960 + 2 * 960 * 320 + 3 * 960 * 2560 + 2 * 960))
table=$((49152 * 960))

if must "a plain model" 1 plan base.yaml --parameters --json; then
    equal stored all $((table + 32 * layer + 960))
    equal unrolled all $((table + 32 * layer + 960))
    grep -q '"changes": {}' out || fail "a plain model differs from itself"
fi
if must "a recursive model" 2 plan base.yaml --parameters --json --set model.depth.kind=mor \
    --set model.residual.kind=laurel --set model.residual.rank=4; then
    [ "$(wc -l <out)" -eq 1 ] || fail "two ranks print $(wc -l <out) lines"
    equal stored without_table_and_head $((12 * (layer + 2 * 2 * 4 * 960) + 960 + 3 * 960))
    equal unrolled residual $((32 * 2 * 2 * 4 * 960))
    equal shared_layers parameters $((-20 * layer))
    percent=$(grep -o '"routers": {"parameters": 2880, "percent": [-0-9.e]*' out | sed 's/.*: //')
    awk -v percent="${percent:-0}" -v plain=$((table + 32 * layer + 960)) \
        'BEGIN { right = 100 * 2880 / plain; exit !(percent > right * 0.999 && percent < right * 1.001) }' ||
        fail "routers among the changes: $percent percent of the plain model"
fi
if must "a head of its own" 1 plan base.yaml --parameters --json --set model.tied_embeddings=false; then
    equal stored all $((2 * table + 32 * layer + 960))
    equal stored without_table_and_head $((32 * layer + 960))
fi
must "a table" 1 plan base.yaml --parameters && { grep -q '^embeddings  *'$table' ' out || fail "no embeddings in the table"; }
# Far more than this machine could hold.
must "a model of a trillion" 1 plan base.yaml --parameters --set model.width=163840 --set model.hidden=655360

# -- Meshes --------------------------------------------------------------------------------------------------------------

cat >small.yaml <<'YAML'
model: {vocabulary: 61, width: 24, layers: 5, heads: 3, head_width: 8, hidden: 50}
mesh: {data: 1, pipeline: 2, tensor: 1}
training: {batch: 6, micro_batch: 1, sequence_length: 32}
YAML
# number FILE KEY: the first of that name.
number() { grep -o '"'"$2"'": [-0-9.e+]*' "$1" | head -n 1 | sed 's/.*: //'; }

if must "a mesh" 1 plan small.yaml --json; then
    # 5 layers of which the second stage, with the head, has fewer; each in fp32 with gradients and two moments.
    [ "$(grep -o '"stage": ' out | wc -l)" -eq 2 ] || fail "a plan of two stages shows others"
    parameters=$(number out parameters)
    [ "$(number out gradients)" -ge $((4 * parameters)) ] || fail "gradients are smaller than the parameters"
    # 6 activations forward, of [32, 24] in fp32, and nothing else on this stage.
    grep -q '"pipeline": {"calls": 6, "bytes": '$((6 * 32 * 24 * 4))'}' out || fail "traffic: $(cat out)"
    awk -v seconds="$(number out step)" 'BEGIN { exit !(seconds > 0) }' || fail "no time is predicted"
fi
# Stage 0 has the table and layers 0 to 2. Frozen, they have values and nothing else, and no gradient comes back to them.
if must "a frozen stage" 1 plan small.yaml --json --set 'training.freeze=model.embed_*,model.layers.[0-2].*'; then
    [ "$(number out gradients)" = 0 ] || fail "frozen parameters have gradients: $(number out gradients)"
    [ "$(number out optimizer)" = 0 ] || fail "frozen parameters have moments: $(number out optimizer)"
    [ "$(number out parameters)" -gt 10000 ] || fail "frozen parameters have no values"
    calls=$(grep -o '"pipeline": {"calls": [0-9]*' out | sed 's/.*: //' | tr '\n' ' ')
    [ "$calls" = "6 " ] || fail "messages of the two stages: $calls"
fi
if must "all meshes" 1 plan small.yaml --ranks 8 --all-meshes --json; then
    # Of the 20 ways to write 8 as four factors, those with more than 3 heads' or 5 layers' worth of ranks are out.
    [ "$(grep -o '"ranks": 8' out | wc -l)" -eq 20 ] || fail "not every mesh of 8 ranks is there"
    refused=$(grep -o '"cannot_split": "mesh\.[^"]*"' out | wc -l)
    [ "$refused" -eq 5 ] || fail "$refused meshes are refused"
    grep -o '"step": [0-9.e+-]*' out | sed 's/.*: //' | sort -g -c 2>/dev/null || fail "the fastest are not first"
fi
must "a table of meshes" 1 plan small.yaml --ranks 8 --all-meshes && { grep -q '^5 of 20 meshes cannot split' out ||
    fail "nothing says how many meshes cannot split the model"; }
if must "a thousand ranks" 1 plan small.yaml --ranks 1024 --set mesh.data=auto --sbatch job.sh \
    --network latency=2e-6,bandwidth=1e10,ranks_per_host=32; then
    bash -n job.sh || fail "the job file is no shell script"
    for line in '#SBATCH --nodes=32' '#SBATCH --ntasks=1024' '#SBATCH --ntasks-per-node=32' '--set mesh.data=512'; do
        grep -qF -- "$line" job.sh || fail "the job file lacks $line"
    done
    grep -q simulated out || fail "nothing says that times are simulated"
fi
# What takes long says how far it is, at each mesh.
slowly "planning for long" 1 plan small.yaml --ranks 8 --all-meshes
for ((i = 0; i < 20; i++)); do
    grep -q "^planning: $i of 20 meshes" err || fail "planning for long does not say that $i of 20 meshes are done"
done
if must "a plan beside real steps" 2 plan small.yaml --measure --all-meshes --steps 2 --json; then
    [ "$(grep -o '"ranks_whose_traffic_differs": 0' out | wc -l)" -eq 4 ] || fail "traffic differs from the plan"
    [ "$(number out held_memory)" = "$(number out planned_memory)" ] || fail "memory differs from the plan"
fi

# Of many micro-batches a plan counts a few and says what the others add: as much each, at least the row's own tokens and
# targets.
peaks=()
for batch in 8 40 400; do
    must "$batch micro-batches" 1 plan small.yaml --set mesh.pipeline=1 --set training.batch=$batch --json && peaks+=("$(number out held_peak)")
done
each=$(((peaks[1] - peaks[0]) / 32))
[ $each -ge $((2 * 4 * 32)) ] && [ $each -lt 4096 ] && [ $((peaks[0] + 392 * each)) = "${peaks[2]}" ] ||
    fail "8, 40 and 400 micro-batches need ${peaks[*]} bytes"
# Muon's momentum of 5 x (4 x 24 x 24 + 3 x 24 x 50) elements is dealt to two tensor ranks, beside AdamW's two moments of
# half of table and head and of the norms.
if must "Muon on two ranks" 1 plan small.yaml --ranks 2 --set mesh.pipeline=1 --set mesh.tensor=2 --set optimizer.kind=muon --json; then
    awk -v bytes="$(number out optimizer)" -v momentum=$((4 * 5 * (4 * 24 * 24 + 3 * 24 * 50))) -v moments=$((8 * (2 * 31 * 24 + 11 * 24))) \
        'BEGIN { exit !(bytes >= momentum / 2 && bytes <= momentum / 2 + moments + 8000) }' ||
        fail "Muon on two ranks: a rank has $(number out optimizer) bytes of optimizer state"
fi

# A model of images, whose batch norms join the statistics of the data ranks: two sums a norm, of 20 norms.
cat >resnet.yaml <<'EOF'
model: {family: resnet, depth_preset: 18, stem: small, width: 4, image: {size: 8, channels: 3, classes: 5}, batch_statistics: group}
training: {steps: 2, batch: 4, micro_batch: 2}
data: {train: none}
EOF
must "a plan of a resnet" 1 plan resnet.yaml --ranks 2 && { grep -Eq '^data +40 ' out ||
    fail "not 40 collectives of the data ranks: $(grep '^data' out)"; }
grep -q '^images a second ' out && ! grep -q token out || fail "a plan of a resnet counts tokens: $(cat out)"
if must "a plan of a resnet as JSON" 1 plan resnet.yaml --ranks 2 --json; then
    awk -v rate="$(number out images_per_second)" -v step="$(number out step)" \
        'BEGIN { exit !(step > 0 && (rate * step - 4) ^ 2 < 1e-6) }' || fail "not 4 images a step: $(cat out)"
fi

# What others do on the machine while it is measured is said, and as a number.
spinners=()
for ((i = 0; i < $(nproc); i++)); do
    while :; do :; done &
    spinners+=($!)
done
if must "a plan on a busy machine" 1 plan small.yaml --json; then
    grep -q '"machine": {"disturbed": true, ' out || fail "a busy machine is not marked: $(grep -o '"machine".*' out)"
    awk -v share="$(number out others_share)" 'BEGIN { exit !(share > 0.15 && share <= 1) }' ||
        fail "others took $(number out others_share) of a machine that they keep busy"
    awk -v load="$(number out load_average)" 'BEGIN { exit !(load >= 0) }' || fail "no load average"
fi
must "the same as a table" 1 plan small.yaml && { grep -q '^MEASURED ON A BUSY MACHINE: .*other processes took [1-9]' out ||
    fail "the table does not say that the machine is busy"; }
kill "${spinners[@]}"
wait "${spinners[@]}" 2>/dev/null

for arguments in "base.yaml --ranks 0" "base.yaml --ranks 3 --set mesh.tensor=2" "small.yaml --network nowhere" \
    "small.yaml --network speed=1" "small.yaml --ranks 16 --set mesh.tensor=8" "small.yaml --sbatch no/such/folder" \
    "--parameters" "base.yaml --parameters --nothing" "missing.yaml --parameters" \
    "base.yaml --parameters --set model.family=vit"; do
    # shellcheck disable=SC2086
    run 1 plan $arguments
    [ "$status" -ne 0 ] && grep -q '^cairn: ' err || fail "plan $arguments: $(last_words)"
done

finish
