#!/bin/bash
# A real Slurm cluster inside one machine, to develop and test with: munged, slurmctld and one slurmd a node. Every node
# is a network namespace with a link of its own to a switch, and has its own processes, host name, /etc/hosts, /dev/shm
# and SysV memory; files are shared, as on a cluster. Ranks on two nodes speak TCP.
#
#   slurm/devcluster.sh up [NODES]      starts it, 4 nodes unless said otherwise; nothing to do if it is up
#   slurm/devcluster.sh down            ends it with all that runs on it; removes its namespaces and its folder
#   slurm/devcluster.sh status          nodes, jobs, folder
#   slurm/devcluster.sh lose NODE       takes a node away as a power cut does: link down first, then its processes killed
#   slurm/devcluster.sh restore NODE    brings it back
#
#   --name NAME    nodes are NAME1, NAME2...; clusters of different names can be up side by side (default cairn)
#   --cpus N       cores a node claims to have, whatever the machine has (default: the machine's, at least 2)
#   --folder PATH  configuration, state and logs (default /run/NAME-devcluster)
#
# After `up`, in any shell:    . /run/cairn-devcluster/environment
#                              sbatch --nodes=2 --ntasks-per-node=2 slurm/train.sbatch configs/bible.yaml
#
# Needs root (in a container: --privileged, or the capabilities SYS_ADMIN and NET_ADMIN) and the packages slurm-wlm,
# munge and iproute2, which it installs where apt-get is. Exit status: 0 done, 1 failed, 2 wrong usage, 3 this machine
# does not allow it. A cluster that Slurm already runs on this machine is not touched, nor are /etc and the firewall.
set -uo pipefail
export LC_ALL=C

name=cairn
nodes=4
cpus=
folder=

usage() {
    sed -n '2,/^set /{ /^#/s/^# \{0,1\}//p }' "$0"
}

wrong() {
    echo "devcluster: $*; --help tells more" >&2
    exit 2
}

failed() {
    echo "devcluster: $*" >&2
    exit 1
}

impossible() {
    echo "devcluster: $*" >&2
    exit 3
}

is_number() {
    case $1 in '' | *[!0-9]* | 0*) return 1 ;; esac
}

# -- What it needs -------------------------------------------------------------------------------------------------------

need_root() {
    [ "$(id -u)" -eq 0 ] || impossible "network namespaces and daemons need root; try: sudo $0 $command"
}

find_tools() {
    missing=()
    local tool
    for tool in slurmctld slurmd munged ip; do
        PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || missing+=("$tool")
    done
}

need_tools() {
    find_tools
    [ ${#missing[@]} -eq 0 ] && return
    echo "devcluster: ${missing[*]} not found; installing slurm-wlm, munge and iproute2" >&2
    # The packages would start daemons of their own, of a cluster that nobody has described.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    "$(dirname "$0")/../.ci/setup" slurm-wlm munge iproute2 >&2 || true
    find_tools
    [ ${#missing[@]} -eq 0 ] ||
        impossible "${missing[*]} not found; on Debian: apt-get install slurm-wlm munge iproute2"
}

need_namespaces() {
    local probe=$name-probe said
    said=$(ip netns add "$probe" 2>&1 && ip netns del "$probe" 2>&1 && unshare --uts --mount --ipc --pid --fork true 2>&1) ||
        impossible "no namespaces may be made here (${said:-no reason given}); a container needs --privileged," \
            "or --cap-add SYS_ADMIN --cap-add NET_ADMIN without its seccomp and AppArmor profiles"
    said=$(ip link add "$name-a" type veth peer name "$name-b" 2>&1 && ip link del "$name-a" 2>&1) ||
        impossible "no virtual links may be made here (${said:-no reason given}); the kernel needs veth and bridge"
}

# -- The network ---------------------------------------------------------------------------------------------------------
# The switch is a bridge in the controller's namespace, where no firewall of the machine filters it. The machine itself
# has one port, so that sbatch and squeue reach the controller.

namespaces() {
    ip netns list 2>/dev/null | awk '{ print $1 }' | grep -E "^$name(-control|[0-9]+)\$"
}

choose_subnet() {
    local octet
    for octet in {0..255}; do
        subnet=10.213.$octet
        ip -4 address show | grep -qF "inet $subnet." || return 0
    done
    failed "no free network in 10.213.0.0/16"
}

node_address() { echo "$subnet.$((10 + ${1#"$name"}))"; }

make_switch() {
    ip netns add "$name-control" &&
        ip -n "$name-control" link set lo up &&
        ip -n "$name-control" link add switch type bridge &&
        ip -n "$name-control" address add "$subnet.1/24" dev switch &&
        ip -n "$name-control" link set switch up &&
        ip link add "$name-host" type veth peer name machine netns "$name-control" &&
        ip -n "$name-control" link set machine master switch up &&
        ip address add "$subnet.2/24" dev "$name-host" &&
        ip link set "$name-host" up
}

connect_node() {
    ip netns add "$1" &&
        ip -n "$1" link set lo up &&
        ip link add eth0 netns "$1" type veth peer name "$1" netns "$name-control" &&
        ip -n "$1" address add "$(node_address "$1")/24" dev eth0 &&
        ip -n "$1" link set eth0 up &&
        ip -n "$name-control" link set "$1" master switch up
}

# -- Processes -----------------------------------------------------------------------------------------------------------

# boot HOST LOG COMMAND...: the command as if on a machine of that name. A shell is process 1 there, so that killing it
# kills all, whatever the processes did to get away.
# Not `ip netns exec`: it replaces /sys, and slurmd does not start without /sys/fs/cgroup.
boot() {
    local host=$1 log=$2
    shift 2
    # shellcheck disable=SC2016
    setsid nsenter --net="/run/netns/$host" \
        unshare --uts --mount --ipc --pid --fork --mount-proc --kill-child bash -c '
            echo "$1" >/proc/sys/kernel/hostname
            mount --bind "$2/hosts" /etc/hosts
            mount -t tmpfs -o mode=1777 tmpfs /dev/shm
            shift 2
            "$@" &
            wait $!
            status=$?
            # A daemon that has gone takes its machine with it, but not before it has said why.
            echo "process 1: $1 has ended with $status"' boot "$host" "$folder" "$@" \
        >>"$log" 2>&1 </dev/null &
}

processes() { ip netns pids "$1" 2>/dev/null; }

# Kills until nobody is left; a process that is in the midst of a fork comes up in the next round.
kill_all() {
    local pids attempt
    for attempt in {1..100}; do
        pids=$(processes "$1")
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086
        kill -9 $pids 2>/dev/null
        sleep 0.05
    done
    echo "devcluster: on $1 these processes do not die after $attempt tries: $pids" >&2
    return 1
}

start_node() {
    mkdir -p "$folder/$1/spool" "$folder/$1/tmp"
    boot "$1" "$folder/$1/slurmd.log" slurmd -D -N "$1" -f "$folder/slurm.conf"
}

wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

node_is_idle() { sinfo -h -n "$1" -o %T | grep -qx 'idle\|mixed\|allocated'; }

# -- Files ---------------------------------------------------------------------------------------------------------------

# Times are short so that a lost node costs seconds: SlurmdTimeout is how long it may be silent (300 on most clusters),
# cred_expire how long a requeued job has to wait (120).
write_configuration() {
    local node
    cat >"$folder/slurm.conf" <<END
ClusterName=$name
SlurmctldHost=$name-control($subnet.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/control
SlurmdSpoolDir=$folder/%n/spool
TmpFS=$folder/%n/tmp
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
MpiDefault=pmix_v4
JobRequeue=1
ReturnToService=2
KillWait=20
SlurmdTimeout=15
MessageTimeout=5
TCPTimeout=2
TreeWidth=65533
MinJobAge=3600
MailProg=/bin/true
END
    echo 'CgroupPlugin=cgroup/v1' >"$folder/cgroup.conf" # it is asked for even where nothing uses it
    {
        echo "127.0.0.1 localhost"
        echo "$subnet.1 $name-control"
    } >"$folder/hosts"
    for node in "${node_names[@]}"; do
        echo "$(node_address "$node") $node" >>"$folder/hosts"
        echo "NodeName=$node NodeAddr=$(node_address "$node") CPUs=$cpus State=UNKNOWN" >>"$folder/slurm.conf"
    done
    echo "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$folder/slurm.conf"

    # Nodes share the machine's cores: ranks must not be bound and have to yield. Open MPI asks root twice.
    cat >"$folder/environment" <<END
export SLURM_CONF=$folder/slurm.conf
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none
[ "\$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
END
}

# -- Commands ------------------------------------------------------------------------------------------------------------

# Says where a start broke, and leaves nothing behind.
give_up() {
    echo "devcluster: $1; the last lines of $2:" >&2
    tail -n 5 "$2" >&2
    remove
    exit 1
}

up() {
    local node
    need_root
    need_tools
    if [ -n "$(namespaces)" ]; then
        [ -f "$folder/slurm.conf" ] && SLURM_CONF=$folder/slurm.conf scontrol ping 2>/dev/null | grep -q UP &&
            [ "$(namespaces | wc -l)" -eq $((nodes + 1)) ] && status && return
        failed "parts of a cluster named $name are there, of another size or another folder; first: $0 down --name $name"
    fi
    [ ! -e "$folder" ] || [ -f "$folder/slurm.conf" ] || [ -z "$(ls -A "$folder")" ] ||
        failed "$folder exists and is not of a development cluster; --folder chooses another"
    need_namespaces
    rm -rf "$folder"
    mkdir -p "$folder/control" || failed "$folder cannot be made"
    chmod 755 "$folder"
    choose_subnet
    node_names=()
    for node in $(seq "$nodes"); do node_names+=("$name$node"); done
    write_configuration
    export SLURM_CONF=$folder/slurm.conf

    make_switch || { remove; failed "the network cannot be made"; }
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    boot "$name-control" "$folder/munged.log" munged --foreground --force --key-file="$folder/munge.key" \
        --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" --num-threads=2
    wait_for 10 test -S "$folder/munge.socket" || give_up "munged does not start" "$folder/munged.log"
    boot "$name-control" "$folder/slurmctld.log" slurmctld -D -f "$folder/slurm.conf"
    for node in "${node_names[@]}"; do
        connect_node "$node" || { remove; failed "the network of $node cannot be made"; }
        start_node "$node"
    done
    wait_for 20 eval 'scontrol ping | grep -q UP' || give_up "slurmctld does not start" "$folder/slurmctld.log"
    for node in "${node_names[@]}"; do
        wait_for 20 node_is_idle "$node" || give_up "$node does not come up" "$folder/$node/slurmd.log"
    done
    status
}

remove() {
    local each left=0
    for each in $(namespaces); do kill_all "$each" || left=1; done
    # A namespace goes when its last process has gone, and its links with it.
    for each in $(namespaces); do ip netns del "$each" || left=1; done
    ip link del "$name-host" 2>/dev/null
    [ ! -f "$folder/slurm.conf" ] || rm -rf "$folder" || left=1
    return $left
}

down() {
    need_root
    command -v ip >/dev/null || return 0
    remove || failed "something is left of $name; look at: ip netns list; ls $folder"
}

need_up() {
    need_root
    if [ ! -f "$folder/slurm.conf" ] || ! namespaces | grep -qx "$name-control"; then
        failed "$name is not up; start it with: $0 up"
    fi
    export SLURM_CONF=$folder/slurm.conf
}

status() {
    need_up
    sinfo -N -o '%N %T %c cores %O' -h | awk '{ print $1 ": " $2 ", " $3 " cores" }'
    squeue -o '%.8i %.20j %.10T %.10M %.20R'
    echo "in any shell: . $folder/environment"
}

need_node() {
    need_up
    namespaces | grep -v control | grep -qxF -- "$1" ||
        wrong "there is no node '$1'; nodes are $(namespaces | grep -v control | sort -V | paste -sd ' ')"
}

lose() {
    need_node "$1"
    ip -n "$name-control" link set "$1" down || failed "the link of $1 cannot be taken down"
    kill_all "$1"
}

restore() {
    need_node "$1"
    kill_all "$1" || failed "$1 still runs"
    subnet=$(ip -n "$name-control" -4 -o address show dev switch | awk '{ sub(/\.1\/24/, "", $4); print $4 }')
    ip -n "$name-control" link set "$1" up || failed "the link of $1 cannot be taken up"
    start_node "$1"
    wait_for 40 node_is_idle "$1" || failed "$1 does not come back; see $folder/$1/slurmd.log"
}

words=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --name | --cpus | --folder)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            case $1 in --name) name=$2 ;; --cpus) cpus=$2 ;; --folder) folder=$2 ;; esac
            shift
            ;;
        -*) wrong "there is no option $1" ;;
        *) words+=("$1") ;;
    esac
    shift
done
command=${words[0]:-}
[[ $name =~ ^[a-z]{1,7}$ ]] || wrong "a name is one to seven small letters, not '$name'" # links have 15 letters at most
[ -n "$cpus" ] || cpus=$(n=$(nproc) && echo $((n > 2 ? n : 2)))
is_number "$cpus" || wrong "--cpus needs a number, not '$cpus'"
folder=${folder:-/run/$name-devcluster}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac

case $command in
    up)
        nodes=${words[1]:-4}
        if ! is_number "$nodes" || [ "$nodes" -gt 64 ]; then
            wrong "up takes a number of nodes from 1 to 64, not '$nodes'"
        fi
        up
        ;;
    down | status) $command ;;
    lose | restore) $command "${words[1]:-}" ;;
    *) wrong "'$command' is none of up, down, status, lose, restore" ;;
esac
