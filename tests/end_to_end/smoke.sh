#!/bin/bash
# smoke.sh SOURCE BUILD: two ranks train a tiny model on one sentence, over and over. It must learn it, and leave a
# checkpoint whose hashes are right. CTest sets the environment that MPI needs.
set -euo pipefail
cairn=$2/cairn
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

(yes 'stones show the way' || true) | head -c 8000 >text.txt
cat >smoke.yaml <<'END'
data: {train: text.txt, validation_fraction: 0}
model: {vocabulary: 256, width: 64, layers: 2, heads: 2, hidden: 128}
mesh: {tensor: 2}
optimizer: {learning_rate: 7e-3, warmup_steps: 3, schedule: constant}
training: {steps: 30, batch: 8, micro_batch: 8, sequence_length: 64}
run: {folder: run}
END

mpirun -n 2 "$cairn" train smoke.yaml

# No knowledge is ln 256 = 5.5, how often each letter comes 2.3, a letter by the one before it 0.68: only a model that
# looks further back gets below 0.5.
awk -F'"loss":' '
    NF > 1 { steps++; loss = $2 + 0 }
    END {
        printf "%d steps, last loss %g\n", steps, loss
        exit !(steps == 30 && loss > 0 && loss < 0.5)
    }' run/metrics.jsonl

checkpoints=(run/checkpoints/*.h5)
mpirun -n 2 "$cairn" checkpoint verify "${checkpoints[0]}"
