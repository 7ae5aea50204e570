#!/bin/bash
# layers.sh SOURCE BUILD: the rules of the house that a compiler does not check. Prints every offence. The rooms, and
# who may use whom, are read from the cairn_room lines of CMakeLists.txt.
set -uo pipefail
shopt -s lastpipe # the end of a pipe counts in this shell
cd "$1" || exit 1
build=$2
most_lines=500
most_function_lines=70
offences=0

# Each line that arrives is an offence; the argument says of what kind.
report() {
    local line
    while IFS= read -r line; do
        echo "$1: $line"
        offences=$((offences + 1))
    done
}

mapfile -t files < <(find src dist io -name '*.[ch]' | sort)
mapfile -t headers < <(printf '%s\n' "${files[@]}" | grep '\.h$')

# -- Who includes whom -------------------------------------------------------------------------------------------------

# Kernels are a floor of their own inside ops: compiled once for each instruction set, they see core only.
includes() {
    awk '
        function room_of(path,   folder) {
            for (folder = path; sub(/\/[^\/]*$/, "", folder);)
                if (folder in name)
                    return name[folder]
            return ""
        }
        function offend(why) { print FILENAME ":" FNR ": \"" header "\" " why }
        FILENAME == "CMakeLists.txt" {
            if (match($0, /^cairn_room\([^)]*\)/)) {
                n = split(substr($0, 12, RLENGTH - 12), word, " ")
                name[word[2]] = word[1]
                order[++rooms] = word[1]
                for (i = 4; i <= n; i++)
                    uses[word[1], word[i]] = 1
            }
            next
        }
        !ready {
            ready = 1
            name["src/ops/kernels"] = "kernels"
            name["src/cli"] = "cli"
            order[++rooms] = "kernels"
            uses["kernels", "core"] = 1
            uses["ops", "kernels"] = 1
            for (i = 1; i <= rooms; i++)
                uses["cli", order[i]] = 1
            order[++rooms] = "cli"
            # Transitively: what a room uses brings what that uses.
            for (k = 1; k <= rooms; k++)
                for (i = 1; i <= rooms; i++)
                    for (j = 1; j <= rooms; j++)
                        if (((order[i], order[k]) in uses) && ((order[k], order[j]) in uses))
                            uses[order[i], order[j]] = 1
        }
        FNR == 1 {
            from = room_of(FILENAME)
            if (from == "")
                print FILENAME ": in no room of CMakeLists.txt"
        }
        /^[ \t]*#[ \t]*include[ \t]*"/ && from != "" {
            header = $0
            sub(/^[^"]*"/, "", header)
            sub(/".*/, "", header)
            to = room_of(header)
            folder = header
            sub(/\/[^\/]*$/, "", folder)
            file = substr(header, length(folder) + 2)
            if (to == "")
                offend("is in no room; name headers from the top of the checkout")
            else if (to != from && !((from, to) in uses))
                offend("goes up: " from " may not use " to)
            else if (to == from)
                next
            else if (file ~ /_private\.h$/)
                offend("is private to " folder)
            else if (folder ~ /^io\// && file != to ".h")
                offend("is private to " folder "; its public header is " to ".h")
            else if (to == "kernels" && from != "ops")
                offend("is private to src/ops")
            else if (header == "dist/mesh/mesh_mpi.h" && from != "checkpoint" && from != "matrix")
                offend("is for io/checkpoint and dist/matrix only")
        }' CMakeLists.txt "${files[@]}"
}

if [ "$(grep -c '^cairn_room(' CMakeLists.txt)" -lt 2 ]; then
    echo "CMakeLists.txt: no cairn_room lines to read" | report rooms
fi
includes | report include

# -- Words that have their place ---------------------------------------------------------------------------------------

# words KIND ALLOWED PATTERN: the pattern, outside of comments and texts, only in files that match ALLOWED.
words() {
    printf '%s\n' "${files[@]}" | grep -vE "$2" | xargs -r awk -v pattern="$3" '
        FNR == 1 { comment = 0 }
        {
            line = $0
            if (line !~ /^[ \t]*#[ \t]*include/)
                gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
            if (comment && !sub(/^.*\*\//, "", line))
                next
            comment = 0
            gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", line)
            if (sub(/\/\*.*/, "", line))
                comment = 1
            sub(/\/\/.*/, "", line)
            if ((" " line) ~ pattern)
                print FILENAME ":" FNR ": " $0
        }' | report "$1"
}

words 'MPI outside of dist and io/checkpoint' '^(dist|io/checkpoint)/' '[^A-Za-z0-9_]MPI_[A-Z]|include *[<"]mpi\\.h'
words 'HDF5 outside of io' '^io/' '[^A-Za-z0-9_]H5[A-Z]+[a-z_]|include *[<"]hdf5\\.h'
words 'ScaLAPACK outside of dist/matrix' '^dist/matrix/' '[^A-Za-z0-9_](C[a-z2]*blacs_|blacs_|p[sd](ge|sy|or|po|tr)[a-z]+_ *\\()'
words 'exit outside of src/cli' '^src/cli/' '[^A-Za-z0-9_](exit|_exit|_Exit|quick_exit|abort) *\\('
words 'numbers that depend on a hidden state' '^$' '[^A-Za-z0-9_](s?rand|rand_r|s?random|[a-z]rand48) *\\('

# -- Sizes -------------------------------------------------------------------------------------------------------------

awk -v most=$most_lines 'FNR == most + 1 { print FILENAME ": has more than " most " lines" }' "${files[@]}" |
    report length
# The braces of a function, and of nothing else, stand alone at the left edge.
awk -v most=$most_function_lines '
    FNR == 1 { start = 0 }
    /^\{$/ { start = FNR }
    /^\}/ {
        if (start && FNR - start + 1 > most)
            print FILENAME ":" start ": a function of " FNR - start + 1 " lines; " most " are allowed"
        start = 0
    }' "${files[@]}" | report length

# -- Headers that stand alone ------------------------------------------------------------------------------------------

flags=$(mpicc -showme:compile && pkg-config --cflags hdf5-openmpi yaml-0.1 jansson libxxhash) ||
    echo "no flags from mpicc and pkg-config" | report headers
# shellcheck disable=SC2086
cc -std=c17 -fsyntax-only -fopenmp -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -DKERNEL_ISA=reference \
    -Wall -Wextra -Werror -I. $flags -x c "${headers[@]}" 2>&1 | grep -E 'error|warning' | report 'header alone'

# -- Mutable globals ---------------------------------------------------------------------------------------------------

# Constants with addresses in them lie in .data.rel.ro. Sanitizers add variables of their own.
if ! grep -qsE '^CAIRN_(SANITIZE:STRING=.|FUZZ:BOOL=ON)' "$build/CMakeCache.txt"; then
    libraries=()
    for library in "$build"/lib*.a; do
        [ ! -f "$library" ] || libraries+=("$library")
    done
    if [ ${#libraries[@]} -eq 0 ]; then
        echo "$build holds no libraries; build first" | report globals
    else
        nm --print-file-name --format=sysv "${libraries[@]}" 2>/dev/null | awk -F'|' '
            $7 ~ /^ *(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $7 !~ /^ *\.data\.rel\.ro/ { print $1 $7 }' |
            report 'variable of the whole program'
    fi
fi

# -- The top level -----------------------------------------------------------------------------------------------------

git -c safe.directory='*' ls-files 2>/dev/null | sed 's/\/.*//' | sort -u |
    grep -vE '^(src|dist|io|configs|tests|slurm|CMakeLists\.txt|README\.md|Makefile|LICENSE|\..*)$' | report 'at the top level'

echo "${#files[@]} files, $offences offences"
[ "$offences" -eq 0 ]
