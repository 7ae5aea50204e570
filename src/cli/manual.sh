#!/bin/sh
# manual.sh FILE PROGRAM...: writes the man page, from what the program (with an emulator before it, when it was made for
# another machine) says of its commands, options and settings.
set -eu
file=$1
shift
partial=$file.partial

commands=$("$@" help | sed -n 's/^  \([a-z]*\)  .*/\1/p')
version=$("$@" --version | sed -n '1s/^cairn //p')

# A text as roff takes it; long lists with commas may be broken behind them.
escaping='
    function text(line,   i, out) {
        gsub(/\\/, "\\e", line)
        gsub(/-/, "\\-", line)
        while (i = match(line, /,[^ ]/)) {
            out = out substr(line, 1, i) "\\:"
            line = substr(line, i + 1)
        }
        line = out line
        sub(/^[.\x27]/, "\\\\&&", line)
        return line
    }'

# Usages, paragraphs, and lists of options or tools. Helps have their text from column 26 on, or behind two spaces.
roff() {
    awk "$escaping"'
        # The words of a usage that belong together stay on one line.
        function usage(line,   out) {
            while (match(line, /\[[^]]*\]/)) {
                part = substr(line, RSTART, RLENGTH)
                gsub(/ /, "~", part)
                out = out substr(line, 1, RSTART - 1) part
                line = substr(line, RSTART + RLENGTH)
            }
            line = text(out line)
            gsub(/~/, "\\ ", line)
            print line
        }
        function item(tag, words) { print ".TP"; print ".B " text(tag); if (words != "") print text(words) }
        BEGIN { print ".ad l"; print ".nh" }
        /^usage: /                { print ".HP 4"; usage(substr($0, 8)); next }
        /^       [a-z]+ /  && !options { print ".HP 4"; usage(substr($0, 8)); next }
        /^   +[[(]/ && !options   { sub(/^ +/, ""); usage($0); next }
        /^$/                      { print ".PP"; options = 1; next }
        /^  --/                   { tag = substr($0, 3, 23); sub(/ +$/, "", tag); item(tag, substr($0, 26)); next }
        /^[a-z]+  +[^ ]/          { tag = $1; sub(/^[a-z]+ +/, ""); item(tag, $0); next }
        /^  [a-z_]+  +[^ ]/       { tag = $1; sub(/^ +[a-z_]+ +/, ""); item(tag, $0); next }
        /^ +[a-z]+  +[^ ]/        { print ".br" }
                                  { sub(/^ +/, ""); print text($0) }'
}

settings() {
    awk "$escaping"'
        /^[a-z]/   { section = $1; print ".SS " section; next }
        /^$/       { next }
        /^  [a-z]/ { print ".TP"; print ".B " section "." $1; sub(/^ +[a-z_0-9]+ +/, "") }
                   { sub(/^ +/, ""); print text($0) }
        /; (default|required)/ { print ".br" }'
}

{
    echo ".TH CAIRN 1 \"\" \"cairn $version\" \"User Commands\""
    cat <<'END'
.SH NAME
cairn \- train transformers on clusters of CPUs
.SH SYNOPSIS
.B mpirun \-n
.I RANKS
.B cairn
.I COMMAND
.RI [ ARGUMENT ]...
.SH DESCRIPTION
END
    "$@" help | sed '1,2d' | roff
    echo '.SH COMMANDS'
    for command in $commands; do
        echo ".SS cairn $command"
        "$@" help "$command" | roff
    done
    echo '.SH SETTINGS'
    echo 'Keys of CONFIG and of \-\-set.'
    "$@" config | settings
} >"$partial"
mv "$partial" "$file"
