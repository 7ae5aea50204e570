#!/bin/bash
# A chain of jobs for a run that takes longer than one job may. Each job goes on where the one before it stopped; when
# the run is finished, or fails in a way that a new start cannot mend, the rest of the chain is cancelled.
#
#   slurm/chain.sh 10 --nodes=4 --ntasks-per-node=8 --time=24:00:00 -- CONFIG [ARGUMENT...]
#
# submits at most ten jobs of 24 hours. What stands before `--` goes to sbatch, what follows to slurm/train.sbatch (its
# --help tells what can be set in the environment). All jobs are one array of which one element runs at a time: it keeps
# its age in the queue, and `scontrol hold`, `squeue` and `scancel` take its one number.
#
#   --singleton    before N: jobs of their own instead, of one name, of which Slurm runs one at a time; for sites that do
#                  not allow arrays. The name is --job-name or that of the configuration: two chains need two names.
#
# Why not let one job requeue itself, as train.sbatch does? Where a site lets requeued jobs wait at the end of the queue,
# or does not requeue at all, a chain gets there sooner.
set -euo pipefail

wrong() {
    echo "chain.sh: $*; --help tells more" >&2
    exit 2
}

singleton=
case ${1:-} in
    -h | --help) sed -n '2,/^set /{ /^#/s/^# \{0,1\}//p }' "$0" && exit ;;
    --singleton) singleton=yes && shift ;;
esac
jobs=${1:-}
case $jobs in '' | *[!0-9]* | 0*) wrong "the first argument is the number of jobs, not '$jobs'" ;; esac
shift

options=()
name=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        --job-name=*) name=${1#*=} ;;
        --job-name | -J) name=${2:-} ;;
    esac
    options+=("$1")
    shift
done
[ $# -ge 2 ] || wrong "after the options of sbatch there have to be -- and a configuration"
shift
script=$(dirname "$0")/train.sbatch
if [ -z "$name" ]; then
    name=$(basename "$1" .yaml)
    options+=(--job-name="$name")
fi

if [ -z "$singleton" ]; then
    export CAIRN_CHAIN=array
    exec sbatch --output=%x-%A.log ${options[@]+"${options[@]}"} --array="1-$jobs%1" "$script" "$@"
fi
export CAIRN_CHAIN=singleton
for ((i = 0; i < jobs; i++)); do
    sbatch --output=%x.log ${options[@]+"${options[@]}"} --dependency=singleton "$script" "$@"
done
