#!/bin/bash
# documents.sh SOURCE BUILD: do the README.md files say what is true? Prints every offence.
#
# In code, indented blocks and `spans`: commands of cairn with their options, settings and files; targets and variables
# of make; ctest, which must find a test; programs in build/; variables of the environment. Everywhere: relative links
# and their headings, paths that begin with a folder of the source, names of source files. Comments of the code that
# name a README.md, with "section N" or ", Heading" behind it. Lengths. Words in capitals (FILE, CONFIG) and ... stand
# for something else and are not looked up.
set -uo pipefail
shopt -s lastpipe # the end of a pipe counts in this shell
cd "$1" || exit 1
build=$(cd "$2" && pwd) || exit 1
cairn=$build/cairn
most_lines=150 # of the top page
most_columns=120
# Options of sbatch, srun and mpirun that stand alone in a span, and files that a run or a user makes.
foreign='--nodes --exclusive --cpus-per-task --ntasks-per-node --signal --privileged --help'
made='config\.yaml|job\.sh'
made_pages='table\.md|comparison\.md'
offences=0

# Each line that arrives is an offence; the argument says of what kind.
report() {
    local line
    while IFS= read -r line; do
        echo "$1: $line"
        offences=$((offences + 1))
    done
}

[ -x "$cairn" ] || { echo "$cairn is not there; build first" && exit 1; }
tree() {
    git -c safe.directory='*' ls-files -co --exclude-standard 2>/dev/null || find . -type f -printf '%P\n'
}
mapfile -t files < <(tree | while IFS= read -r file; do [ ! -f "$file" ] || echo "$file"; done)
mapfile -t pages < <(printf '%s\n' "${files[@]}" | grep -E '(^|/)README\.md$')
# Without the tests of the lint, which hold mistakes on purpose.
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -v '^tests/lint/' |
    grep -E '(\.(c|h|inc|sh|py|yaml|cmake|sbatch|bash)|^Makefile|CMakeLists\.txt|^\.ci/[a-z]+|^slurm/[a-z]+)$')
for folder in . configs dist io slurm src src/model tests tests/studies; do
    [ -f $folder/README.md ] || echo "$folder has no README.md" | report pages
done

# -- What there is -----------------------------------------------------------------------------------------------------

declare -A help=() options=() tools=() settings=() sections=() targets=() names=()
"$cairn" --help | awk '/^  [a-z]/ { print $1 }' | while read -r command; do
    help[$command]=$("$cairn" help "$command")
    options[$command]=" $(grep -oE -- '--[a-z][a-z-]*' <<<"${help[$command]}" | sort -u | tr '\n' ' ') --help "
    # `cairn checkpoint verify`
    tools[$command]=" $(sed -nE "s/.*cairn $command ([a-z]+).*/\1/p" <<<"${help[$command]}" | tr '\n' ' ') "
done
"$cairn" config | awk '/^[a-z]/ { section = $1 } /^  [a-z]/ { print section "." $1 }' | while read -r key; do
    settings[$key]=1
    while [[ $key == *.* ]]; do
        key=${key%.*}
        sections[$key]=1
    done
done
top=$(printf '%s\n' "${!sections[@]}" | grep -v '\.' | paste -sd'|')
sed -nE 's/^([a-z-]+):.*/\1/p' Makefile | while read -r target; do targets[$target]=1; done
for file in "${files[@]}"; do names[${file##*/}]=1; done
conformance=$(grep -oE -- '--[a-z][a-z-]*' tests/conformance/main.c | sort -u | tr '\n' ' ')
if [ "${#settings[@]}" -lt 20 ] || [ "${#help[@]}" -lt 5 ]; then
    echo "$cairn lists no settings or commands" | report program
fi

# -- The code in a page ------------------------------------------------------------------------------------------------

# LINE<tab>TEXT for each span and each line of a block, lines that end with a backslash joined.
code_of() {
    awk '
        function spans(   n, part, i) {
            n = split(paragraph, part, "`")
            for (i = 2; i < n; i += 2)
                print begin "\t" part[i]
            paragraph = ""
        }
        function block(text) {
            if (joined == "")
                from = FNR
            joined = joined text
            if (sub(/\\$/, "", joined))
                return
            print from "\t" joined
            joined = ""
        }
        /^```/ { spans(); fenced = !fenced; next }
        fenced || (/^    / && paragraph == "" && !listed) { block($0); next }
        /^[[:space:]]*$/ { spans(); listed = 0; next }
        /^[|#]/ { spans(); begin = FNR; paragraph = $0; spans(); next }
        /^[[:space:]]*([-*]|[0-9]+\.) / { spans(); listed = 1 }
        { if (paragraph == "") begin = FNR; paragraph = paragraph " " $0 }
        END { spans() }' "$1"
}

# check_cairn WHERE COMMAND WORD...
check_cairn() {
    local where=$1 command=$2 option
    shift 2
    if [ "$command" = help ]; then
        command=${1:-COMMAND}
        if [[ $command == config && ${2:-} =~ ^[a-z] && -z ${settings[$2]:-}${sections[$2]:-} ]]; then
            echo "$where: there is no setting $2" | report setting
        fi
    fi
    [[ $command =~ ^[a-z] ]] || return 0
    if [ -z "${help[$command]:-}" ]; then
        echo "$where: cairn has no command $command" | report command
        return 0
    fi
    if [ -n "${tools[$command]// /}" ] && [[ ${1:-} =~ ^[a-z]+$ && ${tools[$command]} != *" $1 "* ]]; then
        echo "$where: cairn $command has no $1" | report command
    fi
    for option in "$@"; do
        option=${option%%=*}
        if [[ $option =~ ^--[a-z] && ${options[$command]} != *" $option "* ]]; then
            echo "$where: cairn $command has no option $option" | report option
        fi
    done
}

# Settings by their names, and, where values are given, all of them together in their configuration.
check_settings() {
    local where=$1 text=$2 key value message config=configs/bible.yaml pairs=()
    local pattern="(^|[^A-Za-z_./])(($top)\.[a-z0-9_.]*[a-z0-9_])(=[^] \"'\`]*)?"
    while [[ $text =~ $pattern ]]; do
        text=${text#*"${BASH_REMATCH[0]}"}
        key=${BASH_REMATCH[2]}
        value=${BASH_REMATCH[4]}
        [[ ! $key =~ \.(c|h|sh|yaml)$ ]] || continue
        if [ -z "${settings[$key]:-}${sections[$key]:-}" ]; then
            echo "$where: there is no setting $key" | report setting
        elif [[ -n $value && $value != *...* && ! $value =~ [A-Z]{2} && $2 != *"--vary $key"* ]]; then
            pairs+=(--set "$key$value")
        fi
    done
    [[ ! $2 =~ configs/[a-z0-9-]+\.yaml ]] || config=${BASH_REMATCH[0]}
    [ ${#pairs[@]} -gt 0 ] && [ -f "$config" ] || return 0
    message=$("$cairn" config "$config" "${pairs[@]}" 2>&1 >/dev/null) ||
        echo "$where: ${pairs[*]}: $message" | report value
}

check_make() {
    local where=$1 word
    shift
    for word in "$@"; do
        case $word in
            [A-Z]*=*) grep -q "\$(${word%%=*})" Makefile || echo "$where: make knows no ${word%%=*}" | report make ;;
            [a-z]*) [ -n "${targets[$word]:-}" ] || echo "$where: make has no target $word" | report make ;;
            *) break ;;
        esac
    done
}

# check_ctest WHERE --test-dir build WORD...
check_ctest() {
    local where=$1
    shift
    if [ "${1:-}" != --test-dir ] || [ "${2:-}" != build ] ||
        ! ctest --test-dir "$build" -N "${@:3}" 2>/dev/null | grep -q 'Total Tests: [1-9]'; then
        echo "$where: ctest $* finds no test" | report ctest
    fi
}

# Whether anything but a page says the word.
check_variable() {
    [[ $2 =~ ^(OMP|OMPI|PATH) ]] || grep -qwF -- "$2" "${sources[@]}" ||
        echo "$1: nothing reads the variable $2" | report variable
}

# A line of shell: quoted words are one, a command ends where the shell says so.
check_commands() {
    local where=$1 text=$2 part word i
    local -a line
    text=$(sed -E 's/"[^"]*"|'"'[^']*'"'/QUOTED/g; s/(^|[[:space:]])#.*//; s/&&|\|\||[;|]/\n/g' <<<"$text")
    while IFS= read -r part; do
        read -ra line <<<"$part"
        for ((i = 0; i < ${#line[@]}; i++)); do
            word=${line[i]}
            case $word in
                cairn | build/cairn) # behind a script it is an argument
                    if ((i == 0)) || [[ ${line[i - 1]} != *.sh ]]; then
                        check_cairn "$where" "${line[i + 1]:-COMMAND}" "${line[@]:i+2}"
                        break
                    fi
                    ;;
                make) check_make "$where" "${line[@]:i+1}" && break ;;
                ctest) [ $((i + 1)) -eq ${#line[@]} ] || check_ctest "$where" "${line[@]:i+1}" && break ;;
                build/*) [ -x "$build/${word#build/}" ] || echo "$where: $word is not built" | report program ;;
                [A-Z]*=*) [[ ! $word =~ ^([A-Z][A-Z_]+)= ]] || check_variable "$where" "${BASH_REMATCH[1]}" ;;
                CAIRN_[A-Z]*) check_variable "$where" "$word" ;;
                --[a-z]*) # a span that begins with an option
                    if [ $i -eq 0 ] && [[ " $foreign $conformance ${options[*]} " != *" ${word%%=*} "* ]]; then
                        echo "$where: nothing has an option $word" | report option
                    fi
                    ;;
            esac
        done
    done <<<"$text"
}

# A span that is the name of a source file, wherever that is.
check_name() {
    if [[ $2 =~ ^[a-z0-9_/-]+\.(c|h|sh|yaml|sbatch|cmake)$ && ! $2 =~ ^($made)$ && -z ${names[${2##*/}]:-} ]]; then
        echo "$1: there is no $2" | report path
    fi
}

# -- Paths and links ---------------------------------------------------------------------------------------------------

check_path() {
    local where=$1 folder=$2 path=${3%[.,:]}
    [[ ! $path =~ [A-Z]{2} || $path == *README.md ]] || return 0
    compgen -G "$path" >/dev/null || compgen -G "$folder/$path" >/dev/null ||
        echo "$where: there is no $path" | report path
}

# The anchors that GitHub makes of headings.
anchors() {
    sed -nE 's/^#+ //p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

check_link() {
    local where=$1 page=$2 link=$3 file anchor
    [[ ! $link =~ ^https?:// ]] || return 0
    file=$page
    [ -z "${link%%#*}" ] || file=$(dirname "$page")/${link%%#*}
    anchor=${link#"${link%%#*}"}
    if [ ! -e "$file" ]; then
        echo "$where: $link leads nowhere" | report link
    elif [ -n "$anchor" ] && ! anchors "$file" | grep -qxF -- "${anchor#\#}"; then
        echo "$where: $link: there is no such heading" | report link
    fi
}

for page in "${pages[@]}"; do
    code_of "$page" | while IFS=$'\t' read -r line text; do
        check_commands "$page:$line" "$text"
        check_settings "$page:$line" "$text"
        check_name "$page:$line" "$text"
    done
    grep -noE '(^|[^A-Za-z0-9_./])(src|dist|io|configs|tests|slurm|\.ci)/[A-Za-z0-9_./*-]*' "$page" |
        while IFS=: read -r line path; do
            check_path "$page:$line" "$(dirname "$page")" "${path#[^A-Za-z.]}"
        done
    grep -noE '\]\([^)]*\)' "$page" | while IFS=: read -r line link; do
        link=${link#](}
        check_link "$page:$line" "$page" "${link%)}"
    done
done

# -- Lengths -----------------------------------------------------------------------------------------------------------

awk -v most=$most_columns 'length > most { print FILENAME ":" FNR ": " length " columns; " most " are allowed" }' \
    "${pages[@]}" | report length
awk -v most=$most_lines 'END { if (NR > most) print FILENAME ": " NR " lines; " most " are allowed" }' README.md |
    report length

# -- References in the code --------------------------------------------------------------------------------------------

# FILE:LINE<tab>PAGE<tab>what follows it: comments are joined over their lines.
references() {
    awk '
        function look(   page) {
            while (match(comment, /[A-Za-z0-9_\/.-]*[A-Za-z0-9_-]\.md/)) {
                page = substr(comment, RSTART, RLENGTH)
                comment = substr(comment, RSTART + RLENGTH)
                print file ":" begin "\t" page "\t" substr(comment, 1, 80)
            }
            comment = ""
        }
        FNR == 1 { look(); file = FILENAME }
        {
            if (comment == "")
                begin = FNR
            line = $0
            sub(/^[ \t]*(\/\*+|\*|#+|\/\/)?[ \t]*/, "", line)
            comment = comment " " line
            if (line ~ /\*\/|^$/)
                look()
        }
        END { look() }' "$@"
}

check_reference() {
    local where=$1 page=$2 behind=$3 number heading
    if [ ! -f "$page" ]; then
        echo "$where: there is no $page" | report reference
    elif [[ $behind =~ ^,?\ sections?\ ([0-9]+(( to | and |, )[0-9]+)*) ]]; then
        for number in ${BASH_REMATCH[1]//[^0-9]/ }; do
            grep -q "^## $number\. " "$page" || echo "$where: $page has no section $number" | report reference
        done
    elif [[ $behind =~ ^,\ ([A-Z][a-z]+) ]]; then
        heading=${BASH_REMATCH[1]}
        grep -qE "^#+ $heading( |$)" "$page" || echo "$where: $page has no heading $heading" | report reference
    fi
}

grep -lF .md -- "${sources[@]}" | mapfile -t referring
if [ ${#referring[@]} -gt 0 ]; then
    references "${referring[@]}" | while IFS=$'\t' read -r where page behind; do
        [[ ${page##*/} =~ ^($made_pages)$ ]] || check_reference "$where" "$page" "$behind"
    done
fi

echo "${#pages[@]} pages, $offences offences"
[ "$offences" -eq 0 ]
