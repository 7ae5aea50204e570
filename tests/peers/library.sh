# What the comparisons share. The sourcing script sets cores, limit (seconds a turn may take) and rate_of, the function
# that reads items a second from a turn's output, a JSON object; then it calls start_comparison.

start_comparison() {
    results=$(mktemp -d)
    trap 'rm -rf "$results"' EXIT
    trap 'exit 1' INT TERM
    on_cores=(timeout -k 5 "$limit")
    # nproc would answer with OMP_NUM_THREADS.
    if [ "$(env -u OMP_NUM_THREADS nproc)" -gt "$cores" ]; then
        if ! command -v taskset >/dev/null; then
            echo "$(basename "$0"): taskset is needed to keep everyone to $cores cores" >&2
            exit 1
        fi
        # The first of those this shell may use.
        list=$(taskset -pc $$ | sed 's/.*: //' | tr , '\n' |
            awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }' | head -n "$cores" | paste -sd ,)
        on_cores+=(taskset -c "$list")
    fi
    load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
}

field() { sed -n 's/.*"'"$2"'": *\([0-9.eE+-]*\).*/\1/p' "$1" | head -n 1; }
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { if (NR) printf "%.6g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

absent=()
note_absent() {
    local line
    for line in "${absent[@]+"${absent[@]}"}"; do
        [ "$line" != "$1" ] || return 0
    done
    absent+=("$1")
}

print_absent() {
    local line
    for line in "${absent[@]+"${absent[@]}"}"; do
        echo
        echo "Absent: $line"
    done
}

# turn NAME COMMAND...: one turn; what it printed stands in $results/out.
turn() {
    local name=$1
    shift
    printf '  %-40s' "$name" >&2
    if ! "${on_cores[@]}" "$@" >"$results/out" 2>"$results/err" || [ -z "$(rate_of "$results/out")" ]; then
        echo "failed" >&2
        note_absent "$name: failed: $(grep -v '^ *$' "$results/err" | tail -n 1 | cut -c 1-160)"
        return 1
    fi
    rate_of "$results/out" >>"$results/$name.rates"
    echo "$(rate_of "$results/out") a second" >&2
}

# The better of the named programs by its median.
best_of() {
    local name
    for name in "$@"; do
        [ ! -s "$results/$name.rates" ] || { median "$results/$name.rates"; echo; }
    done | sort -g | tail -n 1
}

torch_version() { "$python" -c 'import torch; print(torch.__version__)' 2>/dev/null; }
machine() { grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: //'; }
