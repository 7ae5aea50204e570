#!/bin/bash
# A scaling study as jobs: every run of `cairn scale` is an element of an array, one array for each number of ranks, with
# as many nodes as those ranks need. When all have ended, a last job makes tables, plots and the page.
#
#   slurm/scaling.sh --ntasks-per-node=8 --cpus-per-task=7 --exclusive --time=00:30:00 -- \
#       CONFIG --ranks 1,2,4,8,16,32 --repeats 5
#
# What stands before `--` goes to sbatch, where --ntasks-per-node says how many ranks a node takes; what follows goes to
# `cairn scale` (its --help), where --ranks has to be named, since a study must not depend on where it is submitted.
# Results: runs/scaling, or --output. The same command again measures what failed or is new.
#
#   --list    as the first argument: shows the jobs that would be submitted
#
# Program and CONFIG are found as by slurm/train.sbatch. The environment: LAUNCH, SRUN_MPI, CAIRN, CAIRN_SETUP as there;
# CAIRN_AT_ONCE=4 is how many runs of an array may run at the same time. They share the network then; 1 measures it
# undisturbed.
set -euo pipefail
# The prefix, when installed: Slurm runs a copy of this script that lies elsewhere.
installed=

wrong() {
    echo "scaling.sh: $*; --help tells more" >&2
    exit 2
}

# shellcheck disable=SC1090
[ -z "${CAIRN_SETUP:-}" ] || . "$CAIRN_SETUP"
cairn=${CAIRN:-}
for place in ${installed:+"$installed/bin/cairn"} build/cairn; do
    [ -n "$cairn" ] || [ ! -x "$place" ] || cairn=$place
done
cairn=${cairn:-cairn}

# -- In a job: scaling.sh --in-job ARGUMENT... ---------------------------------------------------------------------------

if [ "${1:-}" = --in-job ]; then
    shift
    threads=${SLURM_CPUS_PER_TASK:-1}
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads} OMP_PLACES=${OMP_PLACES:-cores} OMP_PROC_BIND=${OMP_PROC_BIND:-close}
    launch=${LAUNCH:-srun}
    case $launch in
        srun*)
            export SRUN_CPUS_PER_TASK=$threads # srun does not take it from the job
            launch="$launch --mpi=${SRUN_MPI:-pmix} --ntasks=%n --kill-on-bad-exit=1 --cpu-bind=cores"
            ;;
        mpirun*)
            unset SLURM_CPUS_PER_TASK # of its daemons, one a node, which need all cores
            launch="$launch -n %n"
            [ -n "${OMPI_MCA_hwloc_base_binding_policy:-}" ] || launch="$launch --map-by slot:PE=$threads --bind-to core"
            ;;
        *) wrong "LAUNCH begins with '$launch'; it can be srun or mpirun" ;;
    esac
    exec "$cairn" scale "$@" --launcher "$launch" --run "$SLURM_ARRAY_TASK_ID"
fi

# -- Submitting ----------------------------------------------------------------------------------------------------------

list=
case ${1:-} in
    -h | --help) sed -n '2,/^set /{ /^#/s/^# \{0,1\}//p }' "$0" && exit ;;
    --list) list=yes && shift ;;
esac

options=()
per_node=1
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        --ntasks-per-node=*) per_node=${1#*=} ;;
        --ntasks-per-node) per_node=${2:-} ;;
    esac
    options+=("$1")
    shift
done
case $per_node in '' | *[!0-9]* | 0*) wrong "--ntasks-per-node is not a number: '$per_node'" ;; esac
[ $# -ge 2 ] || wrong "after the options of sbatch there have to be -- and a configuration"
shift
supplied=$installed/share/cairn/configs/${1#configs/}
if [ -n "$installed" ] && [ ! -e "$1" ] && [ -e "$supplied" ]; then
    set -- "$supplied" "${@:2}"
fi
case " $* " in *' --ranks'*) ;; *) wrong "name the numbers of ranks: --ranks 1,2,4" ;; esac

output=runs/scaling
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
        --output=*) output=${!i#*=} ;;
        --output) j=$((i + 1)) && output=${!j:-} ;;
    esac
done

# "3 strong ranks=2 ..." for each run. A line for each number of ranks: it, and the numbers of its runs.
groups=$("$cairn" scale "$@" --list | awk '
    {
        for (i = 2; i <= NF; i++)
            if (sub(/^ranks=/, "", $i)) {
                if (!($i in runs)) order[++count] = $i
                runs[$i] = runs[$i] (runs[$i] == "" ? "" : ",") $1
            }
    }
    END { for (i = 1; i <= count; i++) print order[i], runs[order[i]] }')
[ -n "$groups" ] || wrong "cairn scale --list names no runs"

name=scale-$(basename "$1" .yaml)
mkdir -p "$output"
jobs=()
while read -r ranks runs; do
    nodes=$(((ranks + per_node - 1) / per_node))
    submit=(sbatch --parsable --job-name="$name-$ranks" --output="$output/%x-%A_%a.log" ${options[@]+"${options[@]}"}
        --nodes="$nodes" --array="$runs%${CAIRN_AT_ONCE:-4}" "$0" --in-job "$@")
    if [ -n "$list" ]; then
        echo "${submit[*]}"
    else
        job=$("${submit[@]}")
        echo "$ranks ranks on $nodes nodes: job ${job%%;*}, runs $runs"
        jobs+=("${job%%;*}")
    fi
done <<<"$groups"
[ -z "$list" ] || exit 0

printf -v report '%q ' "$cairn" scale --report --output "$output"
after=$(IFS=: && echo "${jobs[*]}")
job=$(sbatch --parsable --job-name="$name-report" --output="$output/report.txt" --ntasks=1 --dependency="afterany:$after" \
    --wrap "$report")
echo "tables and plots: job ${job%%;*}, in $output when it is done"
