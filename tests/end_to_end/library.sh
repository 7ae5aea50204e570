# What the scripts of tests/end_to_end and tests/fault share. A script is called with the source and the build folder:
#
#   set -u
#   . "$(dirname "$0")/../end_to_end/library.sh" "$@"
#
# It works in a folder of its own, $WORK, which goes when it ends. `fail` notes a failure and lets the script go on;
# the last line of every script is `finish`.

export LC_ALL=C
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
# Open MPI takes two seconds to end the ranks that are left when one has ended with a failure; here it takes none.
export OMPI_MCA_odls_base_sigkill_timeout=0
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [ $# -ne 2 ] || [ ! -x "$2/cairn" ]; then
    echo "usage: bash $0 SOURCE BUILD, where BUILD/cairn is the program" >&2
    exit 1
fi
CAIRN=$(cd "$2" && pwd)/cairn
MPIRUN=${MPIRUN:-mpirun}
LIMIT=180 # seconds that a run may take, on a machine that is not slow
# By how much this one is: at the beginning of all tests, or now.
SLOWNESS=$(bash "$(dirname "${BASH_SOURCE[0]}")/../support/slowness.sh")
[ "$SLOWNESS" -ge "${CAIRN_SLOWNESS:-1}" ] || SLOWNESS=$CAIRN_SLOWNESS
WORK=$(mktemp -d)
MOUNTS=()
failures=0
skips=0

clean_up() {
    local mount
    for mount in ${MOUNTS[@]+"${MOUNTS[@]}"}; do
        umount "$mount" 2>/dev/null || umount -l "$mount"
    done
    rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
cd "$WORK" || exit 1

# -- Verdicts ------------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*"
    failures=$((failures + 1))
}

# A check that this machine does not allow.
skip() {
    printf 'skipped: %s\n' "$*"
    skips=$((skips + 1))
}

# For failures that leave nothing to go on with.
give_up() {
    fail "$@"
    exit 1
}

finish() {
    say "$failures failures, $skips skipped, $SECONDS s"
    [ "$failures" -eq 0 ] || exit 1
    [ "$skips" -eq 0 ] || exit 77
    exit 0
}

# -- Runs ----------------------------------------------------------------------------------------------------------------

# Seconds that a run may take here.
limit() { echo $((LIMIT * SLOWNESS)); }

# run RANKS ARGUMENT...: the program; leaves $status and the files out and err in $WORK. 124 is a run without an end.
run() {
    local ranks=$1
    local start=(timeout -k 5 "$(limit)")
    shift
    [ "$ranks" -eq 1 ] || start+=("$MPIRUN" -n "$ranks")
    "${start[@]}" "$CAIRN" "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
    status=$?
}

# One line that says what a run said at its end.
last_words() {
    local words
    words=$(grep '^cairn:' "$WORK/err" | head -n 1)
    [ -n "$words" ] || words=$(grep -v '^ *$' "$WORK/err" | tail -n 1)
    printf 'exit %s: %s' "$status" "$words"
}

# must NAME RANKS ARGUMENT...: a run that has to succeed. Returns 1 if it does not.
must() {
    local name=$1
    shift
    run "$@"
    [ "$status" -eq 0 ] && return 0
    fail "$name: $(last_words)"
    return 1
}

# slowly NAME RANKS ARGUMENT...: as must, with a clock by which all that the program does takes $FAST_CLOCK (a billion) times as
# long.
slowly() {
    LD_PRELOAD=$(dirname "$CAIRN")/tests/libfast_clock.so must "$@"
}

# mesh DATA PIPELINE TENSOR [VIRTUAL]: the arguments that choose a mesh, in the list MESH, and its size in $ranks.
mesh() {
    ranks=$(($1 * $2 * $3))
    MESH=(--set "mesh.data=$1" --set "mesh.pipeline=$2" --set "mesh.tensor=$3" --set "mesh.virtual_stages=${4:-1}")
}

mesh_name() {
    printf 'data %s x pipeline %s x tensor %s' "$1" "$2" "$3"
    [ "${4:-1}" -eq 1 ] || printf ' x %s chunks' "$4"
}

# -- Data without outside help -------------------------------------------------------------------------------------------

# numbers SEED COUNT LIMIT: that many numbers below LIMIT, one a line, the same everywhere.
numbers() {
    awk -v seed="$1" -v count="$2" -v limit="$3" 'BEGIN {
        state = seed * 7919 + 1
        for (i = 0; i < count; i++) {
            state = state * 16807 % 2147483647
            print int(state / 2147483647 * limit)
        }
    }'
}

# text_file PATH SENTENCES: English of a kind, about 40 bytes a sentence.
text_file() {
    numbers 5 $(($2 * 5)) 12 | awk '
        BEGIN {
            split("the a one this that every some no my your our their", article)
            split("old young grey quiet loud small tall kind wild wise slow glad", quality)
            split("fox river miller stone baker wind sailor tree king bird child road", noun)
            split("sees finds follows loves hears calls carries meets leaves takes keeps knows", verb)
        }
        { word[NR % 5] = $1 + 1 }
        NR % 5 == 0 {
            print article[word[1]], quality[word[2]], noun[word[3]], verb[word[4]], "the", noun[word[0]] "."
        }' >"$1"
}

# token_file PATH COUNT VOCABULARY: uint16 tokens as nanoGPT writes them; mostly predictable from the one before.
token_file() {
    printf "$(numbers 7 "$2" $((10 * $3)) | awk -v vocabulary="$3" '{
        token = $1 < 7 * vocabulary ? (token * 5 + 3) % vocabulary : $1 % vocabulary
        printf "\\%03o\\%03o", token % 256, int(token / 256)
    }')" >"$1"
}

# flip FILE OFFSET MASK: changes the bits of MASK in one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1") || return 1
    printf "\\$(printf '%03o' $((byte ^ $3)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

size_of() { stat -c %s "$1"; }

# -- Results -------------------------------------------------------------------------------------------------------------

checkpoint_of() { printf '%s/checkpoints/step-%08d.h5' "$1" "$2"; }

# losses FOLDER: "step loss" of every training step in the order of the file, as written there.
losses() { sed -n 's/^{"step":\([0-9]*\),.*"loss":\([^,}]*\),.*/\1 \2/p' "$1/metrics.jsonl"; }

# values FOLDER FIELD: "step value" of every line that has the field.
values() { sed -n 's/^{"step":\([0-9]*\),.*"'"$2"'":\([^,}]*\)[,}].*/\1 \2/p' "$1/metrics.jsonl"; }

# Whether the losses are those of steps FIRST to LAST, each once and in order.
steps_are() { [ "$(losses "$1" | cut -d ' ' -f 1)" = "$(seq "$2" "$3")" ]; }

# largest_deviation FILE_A FILE_B: of two files with "step loss" lines, relative; "different steps" if they are not of
# the same steps, or hold anything but numbers.
largest_deviation() {
    paste -d ' ' "$1" "$2" | awk '
        NF != 4 || $1 != $3 || $2 + 0 != $2 || $4 + 0 != $4 { wrong = 1 }
        {
            d = $2 - $4
            d = (d < 0 ? -d : d) / ($4 < 0 ? -$4 : $4 > 0 ? $4 : 1)
            if (d > most) most = d
        }
        END { if (wrong || NR == 0) print "different steps"; else printf "%.2g\n", most }'
}

# within NUMBER LIMIT; anything but a number is not.
within() { awk -v x="$1" -v limit="$2" 'BEGIN { exit !(x "" ~ /^[0-9.e+-]+$/ && x + 0 <= limit + 0) }'; }

# compare_checkpoints A B TOLERANCE [PATTERN]: norm-wise, without the datasets whose names match the pattern. Leaves the
# largest deviation in $largest and its dataset in $furthest; returns 1 if it exceeds the tolerance.
compare_checkpoints() {
    "$CAIRN" checkpoint diff "$1" "$2" --tolerance 1e-30 >"$WORK/diff" 2>&1
    if ! grep -q ' datasets differ by more than ' "$WORK/diff"; then
        largest="none: $(tail -n 1 "$WORK/diff")" furthest=$1
        return 1
    fi
    read -r largest furthest < <(awk -v pattern="${4:-^$}" '
        BEGIN { largest = 0; furthest = "none" }
        !/^\// || $1 ~ pattern { next }
        $2 != "differs" || $4 !~ /^[0-9.e+-]+$/ { largest = "inf"; furthest = $1; exit }
        $4 > largest { largest = $4 + 0; furthest = $1 }
        END { print largest, furthest }' "$WORK/diff")
    within "$largest" "$3"
}

# identical NAME A B: the checkpoints hold the same bits.
identical() {
    "$CAIRN" checkpoint diff "$2" "$3" >"$WORK/diff" 2>&1 && grep -q '^identical: ' "$WORK/diff" && return 0
    fail "$1: the checkpoints differ: $(tail -n 1 "$WORK/diff")"
    return 1
}

partial_files() { find "$1" -name '*.partial' 2>/dev/null; }
