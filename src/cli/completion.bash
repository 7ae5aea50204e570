# Completion of `cairn` for bash. Asks the program that is being called, so it knows the commands, options, settings and
# values of that one, wherever it lies.

_cairn_help() { "$_cairn_program" help "$@" 2>/dev/null; }

_cairn_commands() { _cairn_help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p'; }

# Of `cairn checkpoint`, `bench`, `data`: the lower-case words behind the command in its usage.
_cairn_tools() { _cairn_help "$1" | sed -n "s/^\(usage:\|      \) cairn $1 \([a-z][a-z]*\) .*/\2/p" | sort -u; }

_cairn_options() { _cairn_help "$1" | grep -o -e '--[a-z][a-z-]*' | sort -u; }

# _cairn_choices COMMAND OPTION: those that its usage names, as in [--memory on|off].
_cairn_choices() {
    _cairn_help "$1" | grep -o -e "\[$2 [a-z|A-Z]*" | head -n 1 | sed "s/^.* //" | tr '|' '\n' | grep '^[a-z]'
}

_cairn_keys() {
    "$_cairn_program" config 2>/dev/null | awk '/^[a-z]/ { section = $1 } /^  [a-z]/ { print section "." $1 }'
}

_cairn_values() {
    _cairn_help config "$1" | sed -n \
        -e 's/^.*[^ ]  *one of \([^;]*\);.*/\1/p' -e 's/^.*[^ ]  *true or false;.*/true false/p' | tr -d ','
}

# _cairn_offer WORD CANDIDATE...
_cairn_offer() {
    local word=$1
    shift
    mapfile -t COMPREPLY < <(compgen -W "$*" -- "$word")
}

_cairn() {
    # Bash takes words apart at =, so that KEY=VALUE is three.
    local line=${COMP_LINE:0:COMP_POINT} words
    read -r -a words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    local count=${#words[@]} word=${words[-1]} before=${words[-2]:-} _cairn_program
    local command=${words[1]:-}
    # A ~ that stands for the home directory is not replaced here by itself.
    _cairn_program=${words[0]/#\~/$HOME}
    COMPREPLY=()
    if ((count == 2)); then
        _cairn_offer "$word" "$(_cairn_commands)" help --help --version
    elif [ "$command" = help ]; then
        if ((count == 3)); then
            _cairn_offer "$word" "$(_cairn_commands)"
        elif [ "${words[2]}" = config ]; then
            _cairn_offer "$word" "$(_cairn_keys)"
        fi
    elif [ "$before" = --set ] || [[ $word == --set=* ]]; then
        word=${word#--set=}
        if [[ $word == *=* ]]; then
            _cairn_offer "${word#*=}" "$(_cairn_values "${word%%=*}")"
        else
            _cairn_offer "$word" "$(_cairn_keys)"
            COMPREPLY=(${COMPREPLY[@]+"${COMPREPLY[@]/%/=}"})
            compopt -o nospace 2>/dev/null
        fi
    elif [[ $word == -* ]]; then
        _cairn_offer "$word" "$(_cairn_options "$command")"
    elif [[ $before == --* ]]; then
        _cairn_offer "$word" "$(_cairn_choices "$command" "$before")"
    elif ((count == 3)); then
        _cairn_offer "$word" "$(_cairn_tools "$command")"
    fi
}

# Where there is nothing to offer: names of files.
complete -o default -o bashdefault -F _cairn cairn
