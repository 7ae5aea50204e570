#!/bin/bash
# The doctor on this machine, and beside faults that are made here.
set -u
. "$(dirname "$0")/library.sh" "$@"

# names: findings of the last run, one a line; serious ones alone with an argument.
names() { sed -nE "s/^(${1:-serious|warning|note}) +([a-z-]+): .*/\2/p" out; }

# finds STATUS NAME WHAT: the last run named the finding and ended so.
finds() {
    [ "$status" -eq "$1" ] || fail "$3: status $status: $(cat out err)"
    names | grep -qx "$2" || fail "$3: no $2: $(cat out)"
}

cores=$(env -u OMP_NUM_THREADS nproc) # that this script may use
run 2 doctor
# With two ranks of one thread on two cores or more, nothing but what this machine itself has.
if [ "$cores" -ge 2 ]; then
    for name in threads-exceed-cores cores-crowded launcher-mismatch mpi-io-component folder-not-writable folder-differs \
        rename-broken flush-broken host-names-shared clocks-differ cores-not-granted; do
        ! names | grep -qx "$name" || fail "$name on a machine that has no such fault: $(cat out)"
    done
    [ "$status" -eq $(($(names serious | wc -l) > 0)) ] || fail "status $status: $(cat out err)"
    grep -q '^2 ranks on 1 host, folder \. ' out || fail "no last line: $(cat out)"
fi
[ "$(find . -name '.cairn-doctor*' | wc -l)" -eq 0 ] || fail "it leaves files behind"

OMP_NUM_THREADS=64 run 2 doctor
finds 1 threads-exceed-cores "64 threads"
OMP_NUM_THREADS=2 OMP_THREAD_LIMIT=1 run 1 doctor
finds 1 threads-not-granted "OMP_THREAD_LIMIT"
OMP_DYNAMIC=true run 1 doctor
finds "$status" threads-vary "OMP_DYNAMIC"
OMPI_MCA_io=ompio run 1 doctor
finds 1 mpi-io-component "ompio"
SLURM_NTASKS=4 run 1 doctor
finds 1 launcher-mismatch "more tasks than ranks"
SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0 run 1 doctor
finds 1 launcher-mismatch "srun without PMIx, of which Open MPI knows"
! grep -q MPI_Init err || fail "MPI was started: $(cat err)"
SLURM_CPUS_PER_TASK=999 run 1 doctor
finds 1 cores-not-granted "srun that was not told the cores"
CAIRN_CPU=reference run 1 doctor
! grep -q '^flags.* avx2 ' /proc/cpuinfo || finds "$status" instructions-forced "CAIRN_CPU"
run 1 doctor --folder /proc/nowhere
finds 1 folder-not-writable "a folder that takes no files"
if command -v taskset >/dev/null && [ "$cores" -ge 2 ]; then
    core=$(taskset -cp $$ | sed -E 's/.*: *([0-9]+).*/\1/')
    timeout -k 5 $((60 * SLOWNESS)) taskset -c "$core" "$MPIRUN" -n 2 "$CAIRN" doctor >out 2>err
    status=$?
    finds 1 cores-crowded "two ranks on one core"
else
    skip "ranks on one core: taskset is missing, or a second core"
fi
(ulimit -n 200 && timeout -k 5 $((60 * SLOWNESS)) "$CAIRN" doctor >out 2>err)
status=$?
names | grep -qx open-files-limited || fail "200 files: $(cat out err)"

run 1 doctor --json --folder "$WORK/not/yet"
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys
report = json.load(open("out"))
assert report["doctor"] == "findings" and report["hosts"] == 1 and len(report["ranks"]) == 1
assert all(f["name"] and f["remedy"] for f in report["findings"])' || fail "--json: $(cat out)"
fi
run 1 doctor unexpected
[ "$status" -eq 2 ] || fail "an argument too many: status $status"

# -- File systems that are full, read-only, small ------------------------------------------------------------------------

mkdir small fixed
if mount -t tmpfs -o size=1m none small 2>/dev/null; then
    MOUNTS+=("$WORK/small")
    run 2 doctor --folder small
    finds 1 folder-full "1 MiB of space"
    mount -t tmpfs -o ro none fixed && MOUNTS+=("$WORK/fixed")
    run 2 doctor --folder fixed/run
    finds 1 folder-not-writable "a read-only file system"
    grep -q 'Read-only file system (tmpfs)' out || fail "a read-only file system: $(cat out)"
    # With a /dev/shm too small for two ranks, in a view of the files of its own.
    timeout -k 5 $((60 * SLOWNESS)) unshare -m bash -c 'mount -t tmpfs -o size=14m none /dev/shm && exec "$@"' - \
        "$MPIRUN" -n 2 "$CAIRN" doctor >out 2>err
    status=$?
    finds 1 shared-memory-small "14 MiB of shared memory"
else
    skip "file systems that are full or read-only: no mounts here"
fi

finish
