#!/bin/bash
# What metrics.jsonl tells of memories and routers is the same on every mesh, and right where it can be foretold; gates
# that do not move are told of once.
set -u
. "$(dirname "$0")/library.sh" "$@"

STEPS=4
LAYERS=4
text_file text.txt 800
cat >mixture.yaml <<END
model: {vocabulary: 256, width: 32, layers: $LAYERS, heads: 4, kv_heads: 2, hidden: 64,
        attention: {kind: infini, segment: 8}, depth: {kind: mod, capacity: 0.25}}
data: {train: text.txt, validation_fraction: 0, sampling: stream}
optimizer: {learning_rate: 3e-3, warmup_steps: 2, gate_lr_factor: 20}
training: {steps: $STEPS, batch: 4, micro_batch: 1, sequence_length: 40}
END
sed 's/kind: mod, capacity: 0.25/kind: mor, recursions: 2, sharing: middle_cycle, cache: shared/' mixture.yaml |
    sed "s/layers: $LAYERS/layers: 6/" >experts.yaml
sed 's/recursions: 2/recursions: 2, routing: token/' experts.yaml >tokens.yaml

GATES="gate_histogram gate_mean gate_min gate_max"
MEMORIES="memory_norm memory_z"

# numbers_of FOLDER FIELD: "step.index value" of a field that is a number or a list.
numbers_of() {
    sed -n 's/^{"step":\([0-9]*\),.*"'"$2"'":\(\[[^]]*\]\|[^],}]*\)[,}].*/\1 \2/p' "$1/metrics.jsonl" |
        tr -d '[]' | awk '{ n = split($2, v, ","); for (i = 1; i <= n; i++) print $1 "." i, v[i] }'
}

# fields_are MODEL FIELD...: those and no others of them are in the lines of the run on one rank.
fields_are() {
    local found
    found=$(sed -n '1p' "$1.one/metrics.jsonl" | grep -oE '"(gate|memory|router)_[a-z_]*"' | tr -d '"' |
        grep -vE '^memory_(resident_)?bytes$' | sort | paste -sd ' ')
    [ "$found" = "$(printf '%s\n' "${@:2}" | sort | paste -sd ' ')" ] || fail "$1: the fields are $found"
}

# compare MODEL NAME RANKS FIELDS ARGUMENT...: the run with the arguments against that on one rank. Lists have five
# digits.
compare() {
    local model=$1 name="$1, $2" ranks=$3 fields=$4 field deviation worst=0
    shift 4
    rm -rf many
    must "$name" "$ranks" train "$model.yaml" --set run.folder=many "$@" || return
    for field in $fields; do
        numbers_of many "$field" >many.numbers
        numbers_of "$model.one" "$field" >one.numbers
        deviation=$(largest_deviation many.numbers one.numbers)
        within "$deviation" 3e-4 || fail "$name: $field deviates by $deviation"
        worst=$(echo "$worst $deviation" | awk '{ print ($2 > $1 ? $2 : $1) }')
    done
    say "$name: $(echo "$fields" | wc -w) fields to $worst"
}

# of MODEL FIELD COUNT LOW HIGH: each step has so many numbers in that range.
of() {
    numbers_of "$1.one" "$2" | awk -v count=$((STEPS * $3)) -v low="$4" -v high="$5" '
        { outside += !($2 + 0 == $2 && $2 >= low && $2 <= high) }
        END { exit !(NR == count && outside == 0) }' || fail "$1: $2 is not $3 numbers from $4 to $5"
}

# judged MODEL CANDIDATES...: precision, recall and agreement of each router fit the numbers of tokens they are made of:
# with k chosen of c candidates, k recall are hits, k recall / precision are let in, and who is one but not the other
# makes them disagree.
judged() {
    paste <(numbers_of "$1.one" router_selected) <(numbers_of "$1.one" router_precision) \
        <(numbers_of "$1.one" router_recall) <(numbers_of "$1.one" router_agreement) |
        awk -v candidates="${*:2}" '
            BEGIN { split(candidates, c, " ") }
            {
                split($1, at, ".")
                hits = $2 * $6
                whole = int(hits + 0.5)
                if ((hits - whole) ^ 2 > 1e-4) { print "hits: " $0; wrong = 1 }
                if ($4 == 0)
                    next
                if (($8 - 1 + ($2 + hits / $4 - 2 * hits) / c[at[2]]) ^ 2 > 1e-6) { print "agreement: " $0; wrong = 1 }
                seen++
            }
            END { exit wrong || !seen }' || fail "$1: agreement, precision and recall do not fit together"
}

check() {
    local model=$1
    shift
    must "$model, one rank" 1 train "$model.yaml" --set "run.folder=$model.one" || give_up "nothing to compare with"
    fields_are "$model" "$@"
    compare "$model" "tensor 2" 2 "$*" --set mesh.tensor=2
    compare "$model" "tensor 4, shared kv heads" 4 "$*" --set mesh.tensor=4
    compare "$model" "data 2" 2 "$*" --set mesh.data=2
    compare "$model" "data 3, two micro-batches or one" 3 "$*" --set mesh.data=3
    compare "$model" "pipeline 2" 2 "$*" --set mesh.pipeline=2
    compare "$model" "context 2" 2 "$*" --set mesh.context=2
    compare "$model" "recomputed" 1 "$*" --set compute.recompute=layer
    of "$model" gate_histogram 10 0 16
}

JUDGED="router_agreement router_precision router_recall"
check mixture $GATES $MEMORIES router_load router_selected $JUDGED router_dead_tokens
of mixture gate_mean $LAYERS 0.3 0.7
of mixture memory_z $LAYERS 5 500
of mixture router_load 2 0.25 0.25
of mixture router_selected 2 40 40 # of 4 sequences of 40 tokens
of mixture router_agreement 2 0 1
judged mixture 160 160 160
of mixture router_dead_tokens 1 0.5 0.75

check experts $GATES $MEMORIES router_load router_selected $JUDGED
judged experts 160 160 160
of experts gate_mean 4 0.3 0.7
of experts memory_norm 4 0.1 1000 # not the second recursion, which borrows the first one's
of experts router_load 2 0.5 1
numbers_of experts.one router_load | awk '$1 ~ /\.1$/ && $2 != 1 { wrong = 1 } END { exit wrong }' ||
    fail "experts: not all tokens take the first recursion"

check tokens $GATES $MEMORIES router_load router_selected router_mean_depth router_max_violation router_entropy
of tokens router_entropy 1 0.6 0.693148 # two depths, of which little is known yet
of tokens router_mean_depth 1 1 2
of tokens router_max_violation 1 0 1

# -- Operations --------------------------------------------------------------------------------------------------------

# Those that count follow the capacity down, and so do those that are executed: a little more, for whole tiles.
must "warm-up of the capacity" 1 train mixture.yaml --set run.folder=warm --set training.capacity_warmup_steps=4 \
    --set model.attention.kind=causal --set data.sampling=shuffle --set training.steps=6 &&
    paste <(numbers_of warm flops_useful) <(numbers_of warm flops_executed) <(numbers_of warm router_selected |
        grep '\.1 ') | awk '
            NR > 1 && NR < 6 && !($2 < useful && $4 < executed && $6 < selected) { print "step " NR ": " $0; wrong = 1 }
            NR == 6 && ($2 != useful || $4 != executed) { print "step 6: " $0; wrong = 1 }
            !($4 >= $2 && $4 <= 1.15 * $2) { print "executed " $4 ", useful " $2; wrong = 1 }
            { useful = $2; executed = $4; selected = $6 }
            END { exit wrong || NR != 6 }' || fail "operations while the capacity warms up"
must "operations on two ranks" 2 train mixture.yaml --set run.folder=two --set training.capacity_warmup_steps=4 \
    --set model.attention.kind=causal --set data.sampling=shuffle --set training.steps=6 --set mesh.data=2 &&
    for field in flops_useful flops_executed; do
        [ "$(numbers_of two $field)" = "$(numbers_of warm $field)" ] || fail "two ranks: $field differs"
    done

# Only what is logged is looked at.
must "every second step" 2 train mixture.yaml --set run.folder=second --set mesh.tensor=2 --set run.log_every=2 &&
    for field in gate_histogram router_dead_tokens router_agreement; do
        [ "$(numbers_of second $field)" = "$(numbers_of mixture.one $field | grep '^[24]\.')" ] ||
            fail "every second step: $field differs"
    done

plain() { sed -n '1p' "$1/metrics.jsonl" | grep -qE '"(gate|router)_|"memory_(z|norm)'; }
must "plain" 1 train mixture.yaml --set run.folder=plain --set model.depth.kind=fixed --set model.attention.kind=causal &&
    plain plain && fail "a plain model has fields of memories or routers"
grep -q 'of routers' err && fail "a plain model shows a loss of routers"

# -- Gates that do not move --------------------------------------------------------------------------------------------

# warned NAME TIMES ARGUMENT...
warned() {
    local name=$1 times=$2 found
    shift 2
    must "$name" 2 train mixture.yaml --set mesh.tensor=2 --set run.folder=gates "$@" || return
    found=$(grep -c 'all 16 memory gates are still between 0.45 and 0.55' err)
    [ "$found" -eq "$times" ] || fail "$name: warned $found times, not $times"
}

warned "gates after 3 steps" 1 --resume none --set training.gate_warning_steps=3 --set run.log_every=2
warned "no warning" 0 --resume none --set training.gate_warning_steps=0
warned "gates that move" 0 --resume none --set training.gate_warning_steps=3 --set optimizer.gate_lr_factor=300
warned "up to the warning" 1 --resume none --set training.gate_warning_steps=2 --set training.stop_at=2
warned "said once" 0 --set training.gate_warning_steps=2

finish
