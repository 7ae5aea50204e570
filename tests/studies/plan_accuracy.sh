#!/bin/bash
# Plans beside real steps, on every mesh of 1, 2 and 4 ranks: a table of memory, traffic and time.
#
#   plan_accuracy.sh CAIRN CONFIG [ARGUMENT...]
#
# ARGUMENTs go to `cairn plan --measure`, as in --steps 15 or --set KEY=VALUE. RANKS in the environment lists other
# numbers of ranks, LAUNCH what starts a rank's program (as `nice`, or a script that gives it the cores).
# Meshes with more ranks than cores are measured with ranks that take turns.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cairn=$1 config=$2
shift 2
read -ra launch <<<"${LAUNCH:-}"
for ranks in ${RANKS:-1 2 4}; do
    echo "$ranks ranks, $(nproc --all) cores, load $(cut -d ' ' -f 1 /proc/loadavg)"
    mpirun -n "$ranks" ${launch[@]+"${launch[@]}"} "$cairn" plan "$config" --measure --all-meshes "$@" |
        sed -n '/ planned /,$p'
done
