#!/bin/bash
# The three measurements run, say what they promise, and count the FLOPs of a small model as one does by hand.
set -u
. "$(dirname "$0")/library.sh" "$@"

# object NAME: the output is one JSON object. Without Python that is left to the fields below.
object() {
    ! command -v python3 >/dev/null || python3 -m json.tool <out >/dev/null 2>&1 || fail "$1: the output is not JSON"
}

# value KEY: of the first such key in the output.
value() { sed -n 's/.*"'"$1"'": *\([^],}]*\)[],}].*/\1/p' out | head -n 1; }

# all KEY: its values throughout the output, one a line.
all() { grep -o '"'"$1"'": *[^],}]*' out | sed 's/.*: *//'; }

positive() {
    local key
    for key in "${@:2}"; do
        all "$key" | awk '{ if (!($1 + 0 > 0)) bad = 1 } END { exit bad || NR == 0 }' || fail "$1: $key is not positive"
    done
}

equal() { awk -v a="$2" -v b="$3" 'BEGIN { exit !(a "" != "" && a + 0 == b + 0) }' || fail "$1: $2 instead of $3"; }

# -- Kernels and collectives --------------------------------------------------------------------------------------------

for type in fp32 bf16; do
    if must "kernels $type" 1 bench kernels --quick --json --type "$type"; then
        object "kernels $type"
        positive "kernels $type" seconds share fp32_gflops bf16_gflops memory_gbytes
        [ "$(all operation | wc -l)" -ge 35 ] || fail "kernels $type: only $(all operation | wc -l) operations"
    fi
done
if must "kernels as a table" 2 bench kernels --quick; then
    grep -q '^AdamW ' out || fail "kernels: no AdamW in the table"
    [ "$(awk '{ if (length > most) most = length } END { print most }' out)" -le 110 ] || fail "kernels: wide lines"
fi
for ranks in 2 3; do
    if must "collectives on $ranks ranks" "$ranks" bench collectives --quick --json; then
        object "collectives on $ranks ranks"
        positive "collectives on $ranks ranks" seconds bytes gbytes_per_second
    fi
done
must "collectives as a table" 2 bench collectives --quick && { grep -q '^all-reduce ' out || fail "collectives: no table"; }
for ranks in 1 2 3; do
    if must "matrices on $ranks ranks" "$ranks" bench matrices --quick --json; then
        object "matrices on $ranks ranks"
        positive "matrices on $ranks ranks" seconds side
        grids=$(all grid_columns | sort -u | paste -sd ' ')
        case $ranks in 1) wanted="0" ;; 2) wanted="0 1 2" ;; 3) wanted="0 1 2 3" ;; esac
        [ "$grids" = "$wanted" ] || fail "matrices on $ranks ranks: grids of $grids columns"
    fi
done
run 1 bench collectives
[ "$status" -eq 2 ] || fail "collectives on one rank: $(last_words)"
run 1 bench nothing
[ "$status" -eq 2 ] || fail "bench nothing: $(last_words)"

# -- Steps --------------------------------------------------------------------------------------------------------------

cat >tiny.yaml <<'END'
model: {vocabulary: 64, width: 32, layers: 2, heads: 2, hidden: 48, mlp: gelu}
training: {batch: 4, micro_batch: 1, sequence_length: 16, steps: 100}
END

# A token by hand. Weights of products: a layer has 4 x 32 x 32 + 2 x 32 x 48 = 7168, the head 32 x 64 = 2048, in all
# 16384; each takes 2 FLOPs forward and 4 backward. Attention: a query sees 8.5 keys on average; a product with them is
# 2 x 32 x 8.5 = 544 in each layer, two of them forward, four useful and five executed backward.
tokens=64
useful=$((6 * 16384 + 2 * 6 * 544))
executed=$((6 * 16384 + 2 * 7 * 544))
again=$((2 * 7168 + 2 * 544)) # a layer's forward pass

cat >images.yaml <<'END'
model: {family: vit, width: 24, layers: 1, heads: 2, hidden: 32, image: {size: 8, patch: 4, classes: 5}}
training: {batch: 6, micro_batch: 3}
END
if must "a step of images" 1 bench step images.yaml --quick --json --warmup 1 --steps 1; then
    awk -v rate="$(value images_per_second)" -v seconds="$(value seconds)" \
        'BEGIN { exit !((rate * seconds - 6) ^ 2 < 1e-6) }' || fail "images a second: $(cat out)"
fi
must "a step of images as a table" 1 bench step images.yaml --quick --warmup 1 --steps 1 &&
    { grep -q 'batch 6 images in micro-batches of 3$' out && grep -q ' images/s; ' out || fail "a step counts tokens: $(cat out)"; }

# step NAME RANKS EXECUTED ARGUMENT...
step() {
    local name="step, $1" ranks=$2 count=$3
    must "$name" "$ranks" bench step tiny.yaml --quick --json --warmup 1 --steps 3 "${@:4}" || return
    object "$name"
    positive "$name" seconds tokens_per_second loss gflops_before gflops_after mfu executed_share products attention \
        compute optimizer parameters held_peak resident_peak
    equal "$name, useful FLOPs a token" "$(value useful_per_token)" "$useful"
    equal "$name, useful FLOPs" "$(value useful)" $((useful * tokens))
    equal "$name, executed FLOPs" "$(value executed)" "$count"
    # The kinds of the first rank, in front of those of the busiest, make up the step.
    sed 's/.*"rank_0": {\([^}]*\)}.*/\1/' out | tr ',' '\n' | awk -F: -v whole="$(value seconds)" '
        { sum += $2 }
        END { exit !(NR == 6 && sum > 0.98 * whole && sum < 1.02 * whole) }' || fail "$name: the kinds do not add up"
    grep -q '"hosts": "'"$(hostname)\*$ranks"'"' out || fail "$name: the hosts are not named"
    awk -v median="$(value seconds)" -v high="$(value seconds_p95)" -v most="$(value seconds_most)" \
        'BEGIN { exit !(median <= high && high <= most) }' || fail "$name: the percentiles are in no order"
}

step "one rank" 1 $((executed * tokens))
step "bf16" 1 $((executed * tokens)) --set compute.type=bf16
step "recomputed layers" 1 $(((executed + 2 * again) * tokens)) --set compute.recompute=layer
step "recomputed attention" 1 $(((executed + 2 * (2 * 3072 + 2 * 544)) * tokens)) --set compute.recompute=attention
step "data 2" 2 $((executed * tokens)) --set mesh.data=2
step "pipeline 2" 2 $((executed * tokens)) --set mesh.pipeline=2
# Two stages and four micro-batches: each is idle for one of five.
equal "pipeline 2, the schedule's idle time" "$(value schedule_idle)" 0.2
positive "pipeline 2" waiting_for_stages
step "tensor 2" 2 $((executed * tokens)) --set mesh.tensor=2
# Routers: one value of a token is 32 products forward and as many for each gradient. A layer that k of a sequence's 16
# tokens take has their k (k + 1) / 2 pairs.
useful=$((6 * (7168 + 7168 / 4 + 2048 + 32) + 6 * (544 + 64 * 10 / 16)))
step "routed layers" 1 $(((useful + 544 + 64 * 10 / 16) * tokens)) --set model.depth.kind=mod \
    --set model.depth.capacity=0.25
useful=$((6 * (7168 + 7168 / 2 + 2048 + 2 * 32) + 6 * (544 + 64 * 36 / 16)))
step "routed recursions" 1 $(((useful + 544 + 64 * 36 / 16) * tokens)) --set model.depth.kind=mor \
    --set model.depth.recursions=2 --set model.depth.sharing=cycle
if must "step as a table" 1 bench step tiny.yaml --quick --steps 2 --peak-gflops 100; then
    grep -q 'datasheet peak' out || fail "step: the given peak has no column"
    grep -q '^exposed communication' out || fail "step: no line for communication"
fi

# -- Generation ---------------------------------------------------------------------------------------------------------

# generation NAME RANKS LEAST MOST ARGUMENT...: the mean depth lies between them.
generation() {
    local name="generation, $1" ranks=$2 least=$3 most=$4
    must "$name" "$ranks" bench generate tiny.yaml --rows 8 --prompt 3 --tokens 60 --json "${@:5}" || return
    object "$name"
    positive "$name" tokens_per_second prompt_tokens_per_second token_seconds products attention mean_depth
    awk -v x="$(value mean_depth)" -v a="$least" -v b="$most" 'BEGIN { exit !(x >= a && x <= b) }' ||
        fail "$name: a mean depth of $(value mean_depth)"
}

recursive=(--set model.depth.kind=mor --set model.depth.recursions=2 --set model.depth.sharing=cycle)
generation "one rank" 1 2 2
generation "tensor 2" 2 2 2 --set mesh.tensor=2 --set compute.type=bf16
generation "routed layers" 1 1.2 1.3 --set model.depth.kind=mod --set model.depth.capacity=0.25 --routing balanced
generation "routed recursions" 1 1.4 1.6 "${recursive[@]}" --routing balanced
generation "routed recursions in a pipeline" 2 2.8 3.2 "${recursive[@]}" --routing balanced --set mesh.pipeline=2 \
    --set model.layers=4
generation "chosen depths" 1 1.4 1.6 "${recursive[@]}" --set model.depth.routing=token --routing balanced
generation "routers that have learned nothing" 1 1 2 "${recursive[@]}"
must "generation as a table" 1 bench generate tiny.yaml --rows 2 --tokens 3 && { grep -q '^mean depth ' out || fail "no depth"; }
run 1 bench generate tiny.yaml --routing wrong
[ "$status" -eq 2 ] || fail "generation with a wrong way of routing: $(last_words)"

# -- What takes long says how far it is ---------------------------------------------------------------------------------

# says NAME FIRST LAST WORDS: once each with the numbers from FIRST to LAST for N.
says() {
    [ "$(grep '^measuring: ' err | sed 's/,.*//')" = "$(for ((i = $2; i <= $3; i++)); do echo "measuring: ${4/N/$i}"; done)" ] ||
        fail "$1: it says $(grep '^measuring: ' err)"
}

slowly "long steps" 2 bench step tiny.yaml --quick --warmup 1 --steps 3 && says "long steps" 1 4 "N of 4 steps"
slowly "long kernels" 1 bench kernels --quick && says "long kernels" 0 $(($(grep -c '^measuring: ' err) - 1)) "N operations so far"
[ "$(grep -c '^measuring: ' err)" -ge 35 ] || fail "long kernels: it says $(grep -c '^measuring: ' err) times how far it is"
slowly "long generation" 1 bench generate tiny.yaml --rows 2 --prompt 3 --tokens 4 --requests 3 --warmup 1 &&
    says "long generation" 1 24 "N of 24 tokens"
slowly "long collectives" 2 bench collectives --quick && says "long collectives" 0 27 "N of 28 collectives and sizes"

# -- Who runs where -----------------------------------------------------------------------------------------------------

must "threads" 2 bench step tiny.yaml --quick --steps 1 --set compute.threads=1 &&
    { grep -q ': 2 ranks, 2 threads in all, [0-9]* cores\{0,1\} granted, ' err || fail "no line about the threads"; }
cores=$(env -u OMP_NUM_THREADS nproc) # which otherwise answers with the variable
must "too many threads" 1 bench step tiny.yaml --quick --steps 1 --set compute.threads=$((cores + 1)) &&
    { grep -q '^warning: .* more threads than cores' err || fail "no warning about too many threads"; }

finish
