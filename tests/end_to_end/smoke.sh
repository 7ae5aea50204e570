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
checkpoint: {every: 20}
run: {folder: run}
END

mpirun -n 2 "$cairn" train smoke.yaml 2>&1 | tee log
grep -Eq '^mesh: .* [1-9][0-9]* GFLOP/s of matrix products measured' log || { echo "products were not measured" && exit 1; }

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

# A run's folder stands for its newest checkpoint, also a damaged one.
newest=${checkpoints[-1]}
for command in "mpirun -n 2 $cairn checkpoint verify run" "$cairn checkpoint inspect run" "$cairn checkpoint inspect run/checkpoints"; do
    $command >out
    grep -q "$newest" out || { echo "$command names $(head -1 out)" && exit 1; }
done
"$cairn" checkpoint diff run "$newest" | grep -q '^identical: '
# By a clock that makes it long, reading says how far it is: first something, then all of it.
for command in "verify run" "inspect run" "diff run $newest"; do
    # shellcheck disable=SC2086
    LD_PRELOAD=$2/tests/libfast_clock.so "$cairn" checkpoint $command 2>err >/dev/null
    [ "$(grep '^reading: ' err | sed -n '1s/,.*//p; $s/,.*//p' | paste -sd /)" = "reading: 0 of 1 MiB/reading: 1 of 1 MiB" ] ||
        { echo "checkpoint $command does not say how far it is: $(cat err)" && exit 1; }
done
cp -r run damaged
printf 'X' | dd of="damaged/checkpoints/${newest##*/}" bs=1 seek=20000 conv=notrunc status=none
! "$cairn" checkpoint verify damaged 2>err || { echo "a damaged newest checkpoint is passed over" && exit 1; }
grep -q "damaged/checkpoints/${newest##*/}: " err
mkdir empty
! "$cairn" checkpoint verify empty 2>err || { echo "an empty folder is verified" && exit 1; }
grep -q '^cairn: empty: no checkpoint there$' err

# A set of images is described, with a contact sheet; a bad image is named, and is a verdict.
mkdir -p photos/ant photos/bee
printf 'P' >photos/bee/bad.png
printf '\0\0\10\3\0\0\0\3\0\0\0\2\0\0\0\2abcdefghijkl' >tiny-images-idx3-ubyte
printf '\0\0\10\1\0\0\0\3\1\0\1' >tiny-labels-idx1-ubyte
"$cairn" data images tiny-images-idx3-ubyte --sheet sheet.png >out
for line in 'format      idx' 'images      3' 'size        2 rows, 2 columns, 1 channel' 'mean        \[0.4020\]' \
    'deviation   \[0.0135\]' 'bad         0' '       1         2  1'; do
    grep -q "^$line$" out || { echo "data images does not say \"$line\": $(cat out)" && exit 1; }
done
cp sheet.png photos/ant/good.png
"$cairn" data images photos >out 2>err && { echo "data images passes over a bad image" && exit 1; }
grep -q '^bad         1$' out
grep -q 'photos/bee/bad.png: is text, neither PNG nor JPEG' err
! "$cairn" data images none 2>err || { echo "data images describes what is not there" && exit 1; }
grep -q '^cairn: none: no such file' err

# Texts to tokens and back, from an option, a file and standard input.
llama=$1/tests/unit/tokenizers/llama2.json
printf 'a whale\n\xff' >text
"$cairn" tokenizer encode "$llama" --text 'a whale' --frame >out
read -r -a ids <out
[ "${ids[0]}" = 1 ] && [ ${#ids[@]} -gt 2 ] || { echo "tokenizer encode says $(cat out)" && exit 1; }
"$cairn" tokenizer decode "$llama" --ids "${ids[*]}" | grep -qx 'a whale' || { echo "tokenizer decode" && exit 1; }
"$cairn" tokenizer encode "$llama" text >out 2>err
grep -q '^text: 1 parts are no UTF-8 and were read as U+FFFD$' err || { echo "tokenizer: $(cat err)" && exit 1; }
"$cairn" tokenizer encode "$llama" <text 2>err | "$cairn" tokenizer decode "$llama" >out
printf 'a whale\n\xef\xbf\xbd' | cmp - out
! "$cairn" tokenizer decode "$llama" --ids "5 600" 2>err || { echo "tokenizer decodes what there is not" && exit 1; }
grep -q '^cairn: --ids: expected token numbers from 0 to 599' err
"$cairn" tokenizer inspect "$llama" | grep -q '^model         BPE of characters, bytes for what is unknown$'

# Each command has a help of its own, in both ways.
for command in train eval evolve generate predict import export checkpoint bench plan scale doctor report analyze config data tokenizer; do
    "$cairn" help "$command" >out
    "$cairn" "$command" --help | cmp - out
    grep -Eq "^usage: (mpirun -n [A-Z]* )?cairn $command( |$)" out || { echo "help $command says $(head -n 1 out)" && exit 1; }
done
"$cairn" help config training.batch | grep -q "^  batch  " || { echo "no help on a setting" && exit 1; }

# The scripts for Slurm can be executed, and each says what it is.
for script in train.sbatch scaling.sh chain.sh devcluster.sh; do
    "$1/slurm/$script" --help >out || { echo "slurm/$script --help fails" && exit 1; }
    grep -q "slurm/$script" out || { echo "slurm/$script --help does not show its use: $(cat out)" && exit 1; }
done

# The job's script starts as many ranks as it says, gives mpirun time to save them when it is told to stop, and asks the
# run itself by a file.
mkdir slurm
cat >slurm/mpirun <<'END'
#!/bin/sh
echo "$OMPI_MCA_odls_base_sigkill_timeout $SLURM_TASKS_PER_NODE $OMP_NUM_THREADS $*" >>started
[ ! -e waits ] || { kill -TERM $PPID; for _ in $(seq 300); do sleep 0.1; [ ! -e run/stop ] || exit 0; done; exit 1; }
END
chmod +x slurm/mpirun
job() {
    env -u OMPI_MCA_hwloc_base_binding_policy -u OMPI_MCA_odls_base_sigkill_timeout -u OMP_NUM_THREADS PATH="$PWD/slurm:$PATH" \
        SLURM_JOB_ID=4711 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=3 SLURM_CPUS_PER_TASK=4 LAUNCH=mpirun \
        CAIRN="$cairn" "$1/slurm/train.sbatch" smoke.yaml --set training.steps=40 2>err
}
job "$1" || { echo "train.sbatch fails: $(cat err)" && exit 1; }
touch waits
job "$1" || { echo "train.sbatch does not ask for a stop: $(cat err)" && exit 1; }
[ ! -e run/stop ] || { echo "train.sbatch leaves its wish behind" && exit 1; }
line="10 3(x2) 4 -n 6 --map-by ppr:3:node:PE=4 --bind-to core $cairn train smoke.yaml --set mesh.data=auto --set training.steps=40"
[ "$(cat started)" = "$line"$'\n'"$line" ] || { echo "train.sbatch starts $(cat started), not $line" && exit 1; }

# `make train` ends with the program's message alone, and names a signal itself.
mkdir bin && ln -s "$2" build
make() { command make --no-print-directory -f "$1/Makefile" -o build -o data train RANKS=3 CONFIG=smoke.yaml 2>err && return 1; grep -v '^make[:[]' err >lines || true; }
export OMPI_MCA_odls_base_sigkill_timeout=0
make "$1"
[ "$(wc -l <lines)" -eq 1 ] && grep -q '^cairn: mesh' lines || { cat err && exit 1; }
printf '#!/bin/sh\nexit 137\n' >bin/mpirun && chmod +x bin/mpirun
PATH=$PWD/bin:$PATH make "$1"
grep -q '^a rank was ended by signal 9' lines || { cat err && exit 1; }
