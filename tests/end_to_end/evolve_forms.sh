#!/bin/bash
# evolve_forms.sh SOURCE BUILD: systems that begin with a trained model, that grow adapters, whose probabilities belong to
# actions, whose groups divide a model, and whose groups go on by themselves.
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
{ task a ../ && task b ../ && task c ../; } >tasks.yaml
cat >evolve.yaml <<'END'
model: {family: vit, image: {size: 8, channels: 1, patch: 4, classes: 4}, width: 16, layers: 2, heads: 2, hidden: 32}
training: {batch: 16, micro_batch: 16, seed: 7}
evolve:
  tasks: ../tasks.yaml
  iterations: 1
  generations: 2
  children: 3
  intervals: 2
  samples: 320
  space: ["mu = [0.3]", "lr = 0.05 [0.1] 0.2", "adapter_width = 3 [4]", "layers = 1 [2] 3", "flip = [false]", "crop = [false]"]
run: {folder: run}
END
learned() { # FOLDER TASKS
    awk -v tasks="$2" '/keeps path/ { kept++; if ($8 + 0 < 0.5) exit 1 } END { exit kept != tasks }' "$1.log" ||
        fail "$1: the tasks are not learned: $(grep keeps "$1.log")"
}

# 1. A root that has learned: the lowest layers of a checkpoint, to the bit.
cat >root.yaml <<'END'
model: {family: vit, image: {size: 8, channels: 1, patch: 4, classes: 4}, width: 16, layers: 3, heads: 2, hidden: 32}
data: {train: [d-train-images-idx3-ubyte]}
optimizer: {learning_rate: 3.0e-3, warmup_steps: 1}
training: {steps: 5, batch: 16, micro_batch: 16, average: 0}
run: {folder: root}
END
"$cairn" train root.yaml >root.log 2>&1 || fail "the root is not trained: $(tail -2 root.log)"
evolve rooted 2 ../evolve.yaml --set evolve.root=../root || fail "a root of a checkpoint: $(tail -3 rooted.log)"
learned rooted 3
parts() { "$cairn" checkpoint inspect "$1" | grep '/parameters/' | tr -s ' '; }
parts root | sort >there
for id in 0 1 2 3 4; do
    parts "rooted/run/components/$id.h5"
done | sort >here
[ "$(wc -l <here)" -gt 25 ] || fail "the root has $(wc -l <here) parameters"
[ "$(comm -13 there here | wc -l)" = 0 ] || fail "the root is not the checkpoint's: $(comm -13 there here | head -2)"
refused() { # MESSAGE SETTINGS...
    local what=$1
    shift
    rm -rf refused
    ! evolve refused 1 ../evolve.yaml "$@" || fail "taken: $*"
    grep -q "$what" refused.log || fail "$what: refused with $(grep cairn: refused.log)"
}
refused 'model.width: 16 in .*root.*step-00000005.h5, but 24 in the configuration' --set evolve.root=../root --set model.width=24
refused 'step-00000005.h5 has 3 layers, but model.layers is 4' --set evolve.root=../root --set model.layers=4 \
    --set 'evolve.space=layers = [4]'
refused 'nowhere' --set evolve.root=../nowhere
refused 'a path has at most 30 layers, not 31' --set model.layers=31
refused 'model.adapters: a system' --set model.adapters=4
sed 's/family: vit/family: resnet/; s/, patch: 4//; s/, layers: 3.*hidden: 32//; s/steps: 5/steps: 1/; s/root}/resnet}/' root.yaml >resnet.yaml
"$cairn" train resnet.yaml >resnet.log 2>&1 || fail "resnet: $(tail -2 resnet.log)"
refused 'holds a model of family resnet, but model.family is vit' --set evolve.root=../resnet

# 2. Adapters: the same bytes on one and two groups, the same answers when exported, in a group of two tensor ranks, too;
# probabilities of actions are kept.
for ranks in 1 2; do
    evolve adapters$ranks $ranks ../evolve.yaml --set evolve.adapters=true --set evolve.mutation=actions ||
        fail "adapters: $(tail -3 adapters$ranks.log)"
done
same adapters1/run adapters2/run || fail "two groups make another system with adapters than one"
learned adapters1 3
grep -q 'new adapters.[0-2]' adapters1.log || fail "no adapter was added"
grep -q '"part": 5' adapters1/run/state-000003.json || fail "no adapter was kept"
awk '/"actions"/ { for (line = ""; $0 !~ /]/; getline) line = line $0; if (line ~ / [0-9]/) own++ } END { exit own < 3 }' \
    adapters1/run/state-000003.json || fail "the probabilities of actions are not kept"
"$cairn" data images b-test-images-idx3-ubyte --sheet sheet.png >/dev/null 2>&1
(cd adapters1 && "$cairn" evolve predict run --task b ../sheet.png --json 2>/dev/null >said &&
    "$cairn" evolve export run --task b exported 2>/dev/null && "$cairn" predict exported ../sheet.png --json 2>/dev/null >exported-said)
cmp adapters1/said adapters1/exported-said || fail "an exported path with adapters says something else"
# What is stored is what was measured: what others hold was not trained along. Few steps, so that accuracies differ, and a
# seed with which an adapter is held by two paths.
evolve rough 2 ../evolve.yaml --set evolve.adapters=true --set evolve.samples=32 --set evolve.children=4 --set training.seed=7 \
    --set 'evolve.space=mu = [0.3],lr = [0.2],layers = 1 [2] 3,adapter_width = [4],flip = [false],crop = [false]' ||
    fail "rough: $(tail -3 rough.log)"
awk 'NR == FNR { if (/"id":/) id = $2 + 0; if (/"part": 5/) adapter[id] = 1; next }
    /"components":/ { inside = 1 } /]/ { inside = 0 } inside && ($1 + 0) in adapter && ++held[$1 + 0] > 1 { shared = 1 }
    END { exit !shared }' rough/run/state-000003.json rough/run/state-000003.json || fail "no adapter is shared"
sed '/^evolve/,/space/d' evolve.yaml >eval.yaml
for name in a b c; do
    (cd rough && "$cairn" evolve run --status 2>/dev/null >status && "$cairn" evolve export run --task $name exported-$name >/dev/null 2>&1)
    "$cairn" checkpoint inspect rough/exported-$name >names
    layers=$(grep -o 'model.layers.[0-9]*' names | sort -u | wc -l)
    widths=$(sed -n 's/.*model.adapters.\([0-9]\).down.weight *\[\([0-9]*\),.*/\1 \2/p' names |
        awk -v layers="$layers" '{ width[$1] = $2 } END { for (i = 0; i < layers; i++) printf "%s%d", i ? " " : "", width[i] }')
    [[ $widths = *[1-9]* ]] || widths=
    "$cairn" eval eval.yaml --set model.layers="$layers" --set "model.adapters=$widths" --checkpoint rough/exported-$name \
        --data $name-validation-images-idx3-ubyte --json 2>/dev/null | grep -o '"accuracy": *[0-9.]*' | head -1 |
        awk -F: '{ printf "%.4f\n", $2 }' | diff - <(awk -v name=$name '$1 == name { print $4 }' rough/status) ||
        fail "the path of $name is not what was measured"
done
for ranks in 2 4; do
    evolve tensor$ranks $ranks ../evolve.yaml --set evolve.adapters=true --set mesh.tensor=2 || fail "tensor: $(tail -3 tensor$ranks.log)"
done
same tensor2/run tensor4/run || fail "two groups of two tensor ranks make another system than one"
learned tensor2 3

# At first an adapter changes nothing, to the bit.
task a ../ >one.yaml
for adapters in false true; do
    evolve still-$adapters 1 ../evolve.yaml --set evolve.adapters=$adapters --set evolve.tasks=../one.yaml --set evolve.children=1 \
        --set evolve.generations=1 --set 'evolve.space=mu = [1],lr = [0],momentum = [0],flip = [false],crop = [false]' ||
        fail "still: $(tail -3 still-$adapters.log)"
    (cd still-$adapters && "$cairn" evolve predict run --task a ../sheet.png --json 2>/dev/null >said)
done
grep -q 'new adapters.0' still-true.log || fail "no adapter was added with probability 1"
cmp still-false/said still-true/said || fail "a new adapter changes the answers"

# 3. Groups that go on by themselves come to a whole system, after kills, too; what is kept stays.
evolve alone 3 ../evolve.yaml --set evolve.schedule=asynchronous --set evolve.iterations=2 || fail "asynchronous: $(tail -3 alone.log)"
[ "$(grep -c 'keeps path' alone.log)" = 6 ] || fail "$(grep -c 'keeps path' alone.log) visits instead of 6"
[ "$(ls alone/run)" = "$(printf 'components\nlatest\nmetrics.jsonl\nstate-000006.json')" ] || [ ! -d alone/run/agents ] ||
    fail "states of agents are left"
(cd alone && "$cairn" evolve run --status 2>/dev/null) >status
[ "$(grep -Ec '^[abc] +2 +[01]\.[0-9]+' status)" = 3 ] || fail "status: $(cat status)"
[ "$(grep -c '"kept": [0-9]*,$' alone/run/state-000006.json)" -ge 6 ] || fail "the history lacks visits"
kills=0
for delay in 0.4 0.5 0.6 0.7 0.9 1.2; do
    mkdir -p tired
    (cd tired && exec timeout -s KILL $delay "$cairn" evolve ../evolve.yaml --set evolve.schedule=asynchronous) >/dev/null 2>&1 ||
        kills=$((kills + 1))
done
evolve tired 2 ../evolve.yaml --set evolve.schedule=asynchronous || fail "after kills: $(tail -3 tired.log)"
[ $kills -gt 0 ] || fail "no start was killed"
(cd tired && "$cairn" evolve predict run --task a ../sheet.png --json 2>/dev/null >before)
task d ../ >more.yaml
evolve tired 2 run --add ../more.yaml || fail "a task more: $(tail -3 tired.log)"
(cd tired && "$cairn" evolve predict run --task a ../sheet.png --json 2>/dev/null >after)
cmp tired/before tired/after || fail "logits of a kept path have changed"
(cd tired && "$cairn" evolve run --status 2>/dev/null) >status
[ "$(grep -Ec '^[abcd] +1 +[01]\.[0-9]+' status)" = 4 ] || fail "status after kills: $(cat status)"

# 4. The page.
(cd tired && "$cairn" evolve run --report 2>/dev/null) >out
[ "$(cat out)" = run/report/index.html ] || fail "the page is not named: $(cat out)"
page=tired/run/report/index.html
grep -q '<h2>Who shares with whom</h2>' $page && [ "$(grep -c 'fill-opacity="1.000"' $page)" -ge 5 ] || fail "the page lacks the matrix"

# 5. A decoder tells texts apart: its root is a language model, its tasks lines with labels.
texts() { # FILE SEED COUNT OFFSET: in texts of class k, letter k + OFFSET is frequent
    LC_ALL=C awk -v seed="$2" -v count="$3" -v offset="$4" '
        BEGIN {
            srand(seed)
            for (i = 0; i < count; i++) {
                class = int(3 * rand())
                line = ""
                for (letters = 5 + int(20 * rand()); letters > 0; letters--)
                    line = line sprintf("%c", 97 + (rand() < 0.5 ? class + offset : int(12 * rand())))
                print class "\t" line
            }
        }' >"$1"
}
: >tasks.yaml
for name in x y; do
    offset=$([ $name = x ] && echo 0 || echo 4)
    texts $name-train 1 640 "$offset"
    texts $name-validation 2 64 "$offset"
    texts $name-test 3 64 "$offset"
    echo "- {name: $name, train: ../$name-train, validation: ../$name-validation, test: ../$name-test}" >>tasks.yaml
done
cat >texts.yaml <<'END'
model: {vocabulary: 256, width: 16, layers: 2, heads: 2, hidden: 32}
training: {sequence_length: 16, batch: 16, micro_batch: 16, seed: 7}
evolve: {tasks: ../tasks.yaml, iterations: 1, generations: 2, children: 3, intervals: 2, samples: 320, adapters: true,
  root: ../language, space: ["mu = [0.3]", "lr = 0.05 [0.1] 0.2", "layers = 1 [2] 3", "adapter_width = [4]"]}
run: {folder: run}
END
sed '/^evolve/,/root/d; s/run}/language}/; s/seed: 7/seed: 7, steps: 3/' texts.yaml >language.yaml
cat x-train y-train >corpus
"$cairn" train language.yaml --set data.train=corpus --set data.format=bytes >language.log 2>&1 || fail "language: $(tail -2 language.log)"
for ranks in 1 2; do
    evolve texts$ranks $ranks ../texts.yaml || fail "texts: $(tail -3 texts$ranks.log)"
done
same texts1/run texts2/run || fail "two groups make another system of texts than one"
learned texts1 2
parts language | sort >there
for id in 0 1 2 3; do
    parts "texts1/run/components/$id.h5"
done | sort >here
[ "$(wc -l <here)" -gt 15 ] && [ "$(comm -13 there here | wc -l)" = 0 ] || fail "the root is not the language model"
! grep -q '"part": 1' texts1/run/state-000002.json || fail "there are positions, which rope has not"
evolve texts-tensor 2 ../texts.yaml --set mesh.tensor=2 || fail "texts on two tensor ranks: $(tail -3 texts-tensor.log)"
learned texts-tensor 2
# What pads a text counts for nothing.
for length in 24 40; do
    evolve padded$length 1 ../texts.yaml --set training.sequence_length=$length --set 'evolve.space=lr = [0]' \
        --set evolve.children=1 --set evolve.generations=1 || fail "padded: $(tail -3 padded$length.log)"
    (cd padded$length && "$cairn" evolve run --status 2>/dev/null) >status$length
done
cmp status24 status40 || fail "what pads a text counts: $(cat status24 status40)"
printf '0\tfirst\nsecond\n' >bad-texts
echo '- {name: z, train: ../bad-texts, validation: ../x-test, test: ../x-test}' >bad.yaml
! evolve bad 1 ../texts.yaml --set evolve.tasks=../bad.yaml || fail "a text without a label is taken"
grep -q 'bad-texts:2: expected a label (0, 1, 2, ...), a tab and a text' bad.log || fail "$(tail -3 bad.log)"
(cd texts1 && "$cairn" evolve export run --task x exported >/dev/null 2>&1 && ! "$cairn" generate --checkpoint exported --prompt a >said 2>&1)
grep -q 'this model tells texts apart' texts1/said || fail "generate says $(cat texts1/said)"
