#!/bin/bash
# evolve.sh SOURCE BUILD: a system of three tiny tasks evolves. Files are the same bytes on any number of groups and
# after kills; what a task has learned stays as it is; labels of test sets decide nothing.
set -euo pipefail
cairn=$2/cairn
slowness=$(bash "$1/tests/support/slowness.sh")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fail() {
    echo "$1" && exit 1
}

. "$1/tests/end_to_end/evolve_library.sh"
make_sets
{ task a ../ && task b ../ && task c ../ ', private: true'; } >tasks.yaml
task d ../ >more.yaml
cat >evolve.yaml <<'END'
model: {family: vit, image: {size: 8, channels: 1, patch: 4, classes: 4}, width: 16, layers: 2, heads: 2, hidden: 32}
training: {batch: 16, micro_batch: 16, seed: 7}
evolve:
  tasks: ../tasks.yaml
  iterations: 1
  generations: 2
  children: 4
  intervals: 2
  samples: 400
  size_base: 0.9
  space: ["lr = 0.05 [0.1] 0.2", "layers = 1 [2] 3", "flip = [false]", "crop = [false]"]
run: {folder: run}
END
# 1. The same bytes on one, two and four groups.
for ranks in 1 2 4; do
    evolve groups$ranks $ranks ../evolve.yaml || fail "evolve on $ranks ranks: $(tail -3 groups$ranks.log)"
    diff -r -x metrics.jsonl groups1/run groups$ranks/run || fail "$ranks groups make another system than one"
done
[ "$(grep -c '"mutations":' groups1/run/metrics.jsonl)" = 24 ] || fail "metrics have no line for each child"
for group in 0 1 2 3; do
    grep -q "\"group\": *$group" groups4/run/metrics.jsonl || fail "group $group of four trained no child"
done
[ "$(ls groups1/run/children)" = "" ] || fail "results of children are left: $(ls groups1/run/children)"
awk '/keeps path/ { kept++; if ($8 + 0 < 0.5) exit 1 } END { exit kept != 3 }' groups1.log ||
    fail "the tasks are not learned: $(grep keeps groups1.log)"

# What is stored is what was measured: of the best interval, which at a rate that is too large is not the last.
cat >eval.yaml <<'END'
model: {family: vit, image: {size: 8, channels: 1, patch: 4, classes: 4}, width: 16, layers: LAYERS, heads: 2, hidden: 32}
training: {batch: 16, micro_batch: 16}
END
check_measured() { # FOLDER TASK...
    local run=$1 name layers set
    (cd "$run" && "$cairn" evolve run --status 2>/dev/null) >status
    for name in "${@:2}"; do
        (cd "$run" && "$cairn" evolve export run --task "$name" "../$run-$name" 2>/dev/null)
        layers=$("$cairn" checkpoint inspect "$run-$name" | grep -o 'model.layers.[0-9]*' | sort -u | wc -l)
        sed "s/LAYERS/$layers/" eval.yaml >eval-one.yaml
        for set in test validation; do
            "$cairn" eval eval-one.yaml --checkpoint "$run-$name" --data "$name-$set-images-idx3-ubyte" --json 2>/dev/null |
                grep -o '"accuracy": *[0-9.]*' | head -1 | awk -F: '{ printf "%.4f ", $2 }'
        done | diff -w - <(awk -v name="$name" '$1 == name { print $3, $4 }' status) ||
            fail "the path of $name in $run is not what was measured"
    done
}
check_measured groups1 a b c
sed 's/intervals: 2/intervals: 8/; s/samples: 400/samples: 48/; s/lr = .* 0.2"/lr = [0.5]", "momentum = [0.98]"/' \
    evolve.yaml >rough.yaml
evolve rough 2 ../rough.yaml || fail "rough: $(tail -3 rough.log)"
check_measured rough a b c

# 2. A group of two ranks, once and twice.
for ranks in 2 4; do
    evolve pairs$ranks $ranks ../evolve.yaml --set mesh.data=2 --set checkpoint.keep_last=2 || fail "pairs: $(tail -3 pairs$ranks.log)"
    diff -r -x metrics.jsonl pairs2/run pairs$ranks/run || fail "two groups of two ranks make another system than one"
done
[ "$(cd pairs2/run && echo state-*)" = "state-000002.json state-000003.json" ] || fail "of three states the last two are kept, not $(cd pairs2/run && echo state-*)"
! evolve odd 3 ../evolve.yaml --set mesh.data=2 || fail "three ranks are divided into pairs"
grep -q '3 ranks do not divide into groups of 2' odd.log

# 3. Killed at any moment, it comes to the same bytes; a start that was killed while it waited for the folder may leave
# the name under which it waited.
kills=0
for delay in 0.2 0.25 0.3 0.35 0.4 0.45 0.5 0.55 0.6 0.7 0.8; do
    mkdir -p killed
    (cd killed && exec timeout -s KILL $delay "$cairn" evolve ../evolve.yaml) >/dev/null 2>&1 || kills=$((kills + 1))
done
evolve killed 2 ../evolve.yaml || fail "after kills: $(tail -3 killed.log)"
[ $kills -gt 0 ] || fail "no start was killed"
diff -r -x metrics.jsonl groups1/run killed/run || fail "after $kills kills it is another system"

# One at a time in a folder; and what a killed start has finished is not done again: it took as long as it took then.
begin_long() { # in the background, as $job, until the first child is told of
    mkdir -p busy
    (cd busy && exec "$cairn" evolve ../evolve.yaml --set evolve.generations=9999) >/dev/null 2>&1 &
    job=$!
    for ((i = 0; i < 600 * slowness; i++)); do
        grep -q '"mutations":' busy/run/metrics.jsonl 2>/dev/null && return
        kill -0 $job 2>/dev/null || break
        sleep 0.1
    done
    fail "a long evolution does not begin"
}
end_long() {
    kill -KILL $job
    wait $job 2>/dev/null || true
}
begin_long
! evolve busy 1 ../evolve.yaml --set evolve.generations=9999 || fail "two evolve one system"
grep -q 'another job writes into this folder' busy.log || fail "the second says $(tail -1 busy.log)"
end_long
seconds() { sed -n 's/.*"seconds":\([0-9.e-]*\),.*/\1/p' busy/run/metrics.jsonl | head -1; }
first=$(seconds)
rm busy/run/metrics.jsonl
begin_long
end_long
[ -n "$first" ] && [ "$(seconds)" = "$first" ] || fail "the first child is trained again: $first s, then $(seconds) s"

# 4. Labels of test sets decide nothing: with others all but the measured accuracy is the same.
cp evolve.yaml noise.yaml
sed -i 's/tasks.yaml/noise-tasks.yaml/' noise.yaml
{ task a ../noise- && task b ../noise- && task c ../noise- ', private: true'; } >noise-tasks.yaml
for name in a b c; do
    cp $name-test-images-idx3-ubyte noise-$name-test-images-idx3-ubyte
    { head -c 8 $name-test-labels-idx1-ubyte && tail -c +9 $name-test-labels-idx1-ubyte | LC_ALL=C tr '\0\1\2\3' '\1\2\3\0'; } \
        >noise-$name-test-labels-idx1-ubyte
done
evolve noise 1 ../noise.yaml || fail "noise: $(tail -3 noise.log)"
diff -r -x metrics.jsonl groups1/run/components noise/run/components || fail "labels of test sets change the system"
grep -q 'test 0.0' noise.log || fail "the noise was not seen: $(grep keeps noise.log)"
strip() { grep -v '"accuracy":\|"test":\|noise-tasks\|tasks.yaml\|"settings"' "$1"/run/state-000003.json; }
diff <(strip groups1) <(strip noise) || fail "labels of test sets change a decision"

# 5. Later visits leave what was learned as it is: a new task, further iterations of one, a task that goes.
cp -r groups1 later
(cd later && "$cairn" evolve export run --task b before 2>/dev/null)
for name in a b; do
    "$cairn" data images $name-test-images-idx3-ubyte --sheet $name.png >/dev/null 2>&1
done
asked() { # FOLDER: logits of all kept paths
    for name in a b c; do
        (cd "$1" && "$cairn" evolve predict run --task $name ../a.png ../b.png --json 2>/dev/null) || fail "predict fails"
    done
}
asked later >logits
# Of 9 digits: a float's own.
[ "$(grep -o '"logit": -\?[0-9]' logits | wc -l)" = 24 ] || fail "predict says $(cat logits)"
(cd later && "$cairn" evolve run --status 2>/dev/null) >status
grep -Eq '^c +1 +[01]\.[0-9]+' status || fail "no status: $(cat status)"
evolve later 2 run --add ../more.yaml || fail "a task more: $(tail -3 later.log)"
grep -q '^d: keeps path' later.log || fail "the new task had no visit"
asked later | cmp - logits || fail "logits of a kept path have changed"
(cd later && "$cairn" evolve remove run --task a 2>/dev/null && "$cairn" evolve export run --task b after 2>/dev/null)
"$cairn" checkpoint diff later/before later/after | grep -q '^identical: ' || fail "task b has changed"
(cd later && "$cairn" evolve run --status 2>/dev/null) >status
! grep -q '^a ' status || fail "task a was not removed"
accuracy() { awk -v task="$1" '$1 == task { print $3 }' "$2"; }
(cd groups1 && "$cairn" evolve run --status 2>/dev/null) >earlier
[ "$(accuracy b earlier)" = "$(accuracy b status)" ] || fail "the accuracy of b has changed"

# The graph is handed to graphviz whole.
mkdir bin
printf '#!/bin/sh\ncat >"$3"\n' >bin/dot
chmod +x bin/dot
(cd later && PATH=$folder/bin:$PATH "$cairn" evolve run --lineage graph.svg >/dev/null 2>&1)
for part in '^digraph system {' 'label="head.b' 'label="root' 'style=dashed, label=copy' '^}'; do
    grep -q "$part" later/graph.svg || fail "the graph lacks $part"
done
[ "$(grep -c 'shape=ellipse' later/graph.svg)" = 4 ] || fail "the graph does not have the root and three paths"

# Momentum goes on from the parent's: at a rate of 0 and a momentum of 0.99 it adds up over the generations, of which
# the second is accepted with the score of the first.
cat >still.yaml <<'END'
model: {family: vit, image: {size: 8, channels: 1, patch: 4, classes: 4}, width: 16, layers: 1, heads: 2, hidden: 32}
training: {batch: 16, micro_batch: 16}
evolve:
  tasks: ../still-tasks.yaml
  iterations: 1
  children: 1
  intervals: 1
  samples: 80
  space: ["lr = [0]", "momentum = [0.99]", "flip = [false]", "crop = [false]"]
run: {folder: run}
END
task a ../ >still-tasks.yaml
norms=()
for generations in 1 2; do
    evolve still$generations 1 ../still.yaml --set evolve.generations=$generations || fail "$(tail -1 still$generations.log)"
    grep -q "keeps path $generations," still$generations.log || fail "an equal score is not accepted, or not the newest kept"
    head=$(find still$generations/run/components -name '*.h5' | sort -V | tail -1)
    norms+=("$("$cairn" checkpoint inspect "$head" | awk '$1 ~ "momentum/classifier.weight" { print $(NF - 1) }')")
done
awk -v one="${norms[0]}" -v two="${norms[1]}" 'BEGIN { exit !(one > 0 && two > 1.5 * one && two < 2.5 * one) }' ||
    fail "momentum does not go on: ${norms[*]}"

# An interval has no more steps than the task has images: 640, in batches of 16. A score falls by the operations of a
# pass forward: a layer takes 2208 products for each of 5 tokens, the head 64, and the patches 1024, of which a step
# does two thirds as often as the others.
evolve scored 1 ../still.yaml --set evolve.generations=1 --set evolve.samples=10000 --set evolve.flops_base=0.5 \
    --set evolve.flops_unit="$(awk 'BEGIN { printf "%.9g", 2 * (5 * 2208 + 64 + 1024 * 2 / 3) }')" || fail "scored: $(tail -1 scored.log)"
row=$(grep '"mutations":' scored/run/metrics.jsonl)
[[ $row == *'"steps":40,'* ]] || fail "an interval of other than 40 steps: $row"
value() { sed -n 's/.*"'"$1"'":\([0-9.e-]*\),.*/\1/p' <<<"$row"; }
awk -v quality="$(value quality)" -v score="$(value score)" \
    'BEGIN { d = score - quality / 2; exit !(quality > 0 && d < 1e-5 && d > -1e-5) }' ||
    fail "a path of the unit's operations has another score than half its accuracy: $row"

# 6. What does not go together is refused, with the system as it was.
! evolve groups1 1 ../evolve.yaml --set evolve.size_base=0.8 || fail "another score is taken for the same"
grep -q 'evolve.size_base: the system in the folder has 0.9, the configuration 0.8' groups1.log
! evolve stages 2 ../evolve.yaml --set mesh.pipeline=2 || fail "one layer is divided among two stages"
printf 'X' | dd of="$(ls later/run/components/*.h5 | head -1)" bs=1 seek=66500 conv=notrunc status=none
! evolve later 1 run --set evolve.iterations=2 || fail "a damaged component is used"
grep -q 'components/.*damaged' later.log || fail "a damaged component is not named: $(tail -1 later.log)"
printf -- '- {name: a, train: x, validation: y, tests: z}\n' >tasks.yaml
! evolve bad 1 ../evolve.yaml || fail "a wrong key of a task is taken"
grep -q 'tasks.yaml:1: a task has the keys name' bad.log
