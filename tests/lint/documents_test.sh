#!/bin/bash
# documents_test.sh SOURCE BUILD: documents.sh must find each mistake planted in a copy of the source, and nothing else.
set -uo pipefail
lint=$(dirname "$(realpath "$0")")/documents.sh
build=$(realpath "$2")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$1"/{.ci,CMakeLists.txt,LICENSE,Makefile,README.md,configs,dist,io,slurm,src,tests} "$copy"
rm -r "$copy/tests/conformance/cases/"*
touch "$copy/tests/conformance/cases/one.h5"
git -C "$copy" init -q
failures=0

complain() {
    printf '%s\n%s\n' "$1" "$output"
    failures=$((failures + 1))
}

output=$(bash "$lint" "$copy" "$build") || complain 'the copy should be clean:'

# plant FILE TEXT MESSAGE: the text at the end of a file of the copy must give a line with file and message.
page=dist/README.md
planted=()
plant() {
    mkdir -p "$(dirname "$copy/$1")"
    printf '\n%s\n' "$2" >>"$copy/$1"
    planted+=("$1" "$3")
}

plant $page '    build/cairn trian configs/bible.yaml' 'cairn has no command trian'
plant $page 'Say `cairn checkpoint examine FILE`.' 'cairn checkpoint has no examine'
plant $page '    mpirun -n 2 build/cairn eval CONFIG --context-size 64' 'cairn eval has no option --context-size'
plant $page $'    build/cairn plan configs/bible.yaml \\\n        --rank 64' 'cairn plan has no option --rank'
plant $page 'A span on two lines: `build/cairn generate --prompt
"And Moses" --top-q 1`.' 'cairn generate has no option --top-q'
plant $page 'Give `--accept-all` to go on.' 'nothing has an option --accept-all'
plant $page '| table | `--set compute.treads=2` |' 'there is no setting compute.treads'
plant $page 'The setting `watch.hang_minutes`.' 'there is no setting watch.hang_minutes'
plant $page '    SET="compute.type=fp32 data.order=none" tests/studies/length.sh' 'there is no setting data.order'
plant $page 'See `cairn help config optimizer.beta4`.' 'there is no setting optimizer.beta4'
plant $page '`--set model.depth.kind=mixture`' 'model.depth.kind'
plant $page '    build/cairn config configs/bibel.yaml' 'there is no configs/bibel.yaml'
plant $page '    make trial' 'make has no target trial'
plant $page '    make train RESTART=none' 'make knows no RESTART'
plant $page '    ctest --test-dir build -R unit.taperecorder' 'finds no test'
plant $page '    ctest --test-dir build -L every' 'ctest --test-dir build -L every finds no test'
plant $page '    mpirun -n 4 build/tests/conform FILE' 'build/tests/conform is not built'
plant $page '    MISTAKES=100 bash tests/fault/campaign.sh . build' 'nothing reads the variable MISTAKES'
plant $page 'Set `CAIRN_PROCESSOR`.' 'nothing reads the variable CAIRN_PROCESSOR'
plant $page 'It is in [the math](../src/model/MATH.md).' '../src/model/MATH.md leads nowhere'
plant $page 'It is in [the math](../src/model/README.md#12-dreams).' 'there is no such heading'
plant $page 'It is [above](#data-and-more).' '#data-and-more: there is no such heading'
plant $page 'Look at src/model/blocks.c for it.' 'there is no src/model/blocks.c'
plant $page 'Look at `tests/units`.' 'there is no tests/units'
plant $page 'Look at `packets.c`.' 'there is no packets.c'
plant io/README.md "$(printf 'x%.0s' {1..121})" '121 columns; 120 are allowed'
plant README.md "$(yes '' | head -n 150; echo x)" 'lines; 150 are allowed'
plant src/model/planted.c '/* Recursions (src/model/README.md section 55). */' 'has no section 55'
plant src/model/planted_on.c $'/* Recursions (src/model/README.md sections 2\n * to 77). */' 'has no section 77'
plant io/planted.h '/* A line (io/README.md, Meters). */' 'has no heading Meters'
plant tests/planted.sh '# As in model.md, section 3.' 'there is no model.md'
# No mistakes.
plant tests/README.md '    build/cairn help config optimizer.beta2    # `cairn trian`, FILE, --set KEY=VALUE' ''
plant tests/harmless.sh '# Writes FOLDER/table.md (io/README.md, Metrics; src/model/README.md sections 2, 3 and 6).' ''
rm "$copy/configs/README.md"
planted+=(configs 'has no README.md')

if output=$(bash "$lint" "$copy" "$build"); then
    complain 'the planted mistakes were not found:'
fi
found=0
for ((i = 0; i < ${#planted[@]}; i += 2)); do
    [ -n "${planted[i + 1]}" ] || continue
    found=$((found + 1))
    grep -F -- "${planted[i]}" <<<"$output" | grep -qF -- "${planted[i + 1]}" ||
        complain "not found: ${planted[i]}: ${planted[i + 1]}"
done
if grep -qE '(tests/README.md|harmless)' <<<"$output"; then
    complain 'found where no mistake is:'
fi
[ "$failures" -eq 0 ] && echo "$found planted mistakes found"
