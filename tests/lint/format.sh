#!/bin/bash
# format.sh SOURCE [BUILD | fix]: are all C files laid out as .clang-format says? With `fix`, makes them so.
# Other versions than this one lay out differently.
set -euo pipefail
version=14
cd "$1"

found=$(clang-format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p') || true
if [ "$found" != $version ]; then
    echo "clang-format $version is not here (found: ${found:-none}): skipped"
    exit 77
fi

sources() {
    git -c safe.directory='*' ls-files -co --exclude-standard '*.c' '*.h' 2>/dev/null ||
        find src dist io tests -name '*.[ch]'
}

mapfile -t files < <(sources | while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
if [ "${2:-}" = fix ]; then
    clang-format -i "${files[@]}"
else
    clang-format --dry-run -Werror "${files[@]}"
    echo "${#files[@]} files"
fi
