#!/bin/bash
# soak.sh CAIRN [MINUTES [FOLDER]]: a run on four ranks for so long (30 unless said otherwise), with checkpoints every few
# seconds and evaluations. Resident memory, open files and threads of each rank, from /proc every ten seconds, go to
# FOLDER/samples.tsv; at the end a line for each rank says what has grown after the first tenth. Ends with 1 if resident
# memory of any rank is more than 1 % (and 1 MiB) above what it was then, or if any file or thread is left over.
set -u
cairn=$(realpath "$1")
minutes=${2:-30}
folder=$(realpath -m "${3:-runs/soak}")
export LC_ALL=C OMP_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

mkdir -p "$folder" && cd "$folder" || exit 1
rm -rf run samples.tsv
yes 'The old river sees the quiet miller, and the young fox follows a grey stone down to the road.' | head -c 200000 >text.txt
cat >soak.yaml <<'END'
model: {vocabulary: 256, width: 64, layers: 4, heads: 4, kv_heads: 2, hidden: 128}
mesh: {data: auto, tensor: 2}
data: {train: text.txt, validation_fraction: 0.1}
optimizer: {learning_rate: 1e-3, schedule: constant}
training: {steps: 100000000, batch: 8, micro_batch: 2, sequence_length: 64}
evaluation: {every: 100, batches: 4}
checkpoint: {every: 50, background: true}
run: {folder: run, log_every: 10}
END

nice -n "${NICE:-0}" mpirun -n 4 "$cairn" train soak.yaml "${@:4}" >out 2>log </dev/null &
job=$!
trap 'kill "$job" 2>/dev/null' EXIT
SECONDS=0
while [ $SECONDS -lt 300 ] && ! grep -q '^{"step":20,' run/metrics.jsonl 2>/dev/null; do
    kill -0 "$job" 2>/dev/null || break
    sleep 1
done
mapfile -t pids < <(pgrep -P "$job")
[ ${#pids[@]} -eq 4 ] || { echo "soak: not four ranks: $(tail -n 3 log)" >&2 && exit 1; }

sample() {
    local pid
    for pid in "${pids[@]}"; do
        awk -v time=$SECONDS -v rank="$pid" -v files="$(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l)" '
            /^VmRSS:/ { resident = $2 } /^RssAnon:/ { own = $2 } /^Threads:/ { threads = $2 }
            END { printf "%d\t%s\t%d\t%d\t%d\t%d\n", time, rank, resident, own, files, threads }' "/proc/$pid/status"
    done
}

SECONDS=0
printf 'seconds\tprocess\tresident_kib\tanonymous_kib\tfiles\tthreads\n' >samples.tsv
while [ $SECONDS -lt $((minutes * 60)) ]; do
    kill -0 "$job" 2>/dev/null || { echo "soak: the run has ended: $(tail -n 3 log)" >&2 && exit 1; }
    sample >>samples.tsv
    sleep 10
done
touch run/stop
wait "$job"
status=$?
[ $status -eq 85 ] || { echo "soak: asked to stop, it ended with $status: $(tail -n 3 log)" >&2 && exit 1; }

echo "$(grep '"loss"' run/metrics.jsonl | tail -n 1 | sed 's/^{"step":\([0-9]*\).*/\1/') steps, $(grep -c '"validation' run/metrics.jsonl) evaluations, in $minutes minutes"
# The most of the second tenth against the most of the last tenth: a moment's peak is in both.
awk -F '\t' -v end=$((minutes * 60)) '
    NR == 1 { next }
    { ranks[$2] = 1 }
    $1 >= end / 10 && $1 < end / 5 { for (i = 3; i <= 6; i++) if ($i > early[$2, i]) early[$2, i] = $i }
    $1 >= end * 9 / 10 { for (i = 3; i <= 6; i++) if ($i > late[$2, i]) late[$2, i] = $i }
    END {
        for (rank in ranks) {
            printf "process %s: resident %d -> %d KiB, anonymous %d -> %d KiB, files %d -> %d, threads %d -> %d\n", rank,
                early[rank, 3], late[rank, 3], early[rank, 4], late[rank, 4], early[rank, 5], late[rank, 5],
                early[rank, 6], late[rank, 6]
            more = late[rank, 3] - early[rank, 3]
            grown += (more > 1024 && more > early[rank, 3] / 100) || late[rank, 5] > early[rank, 5] || late[rank, 6] > early[rank, 6]
        }
        print grown + 0 " of 4 processes have grown"
        exit grown > 0
    }' samples.tsv
