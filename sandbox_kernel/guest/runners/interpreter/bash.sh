# Bash, kept between cells: the talk with the adapter (see `talk.py`) in Bash alone, 4.2 or newer.
#
# Started as `bash --noprofile --noediting --rcfile bash.sh -i`. An interactive shell survives what
# ends a script (`${x:?}`, `set -u`, an `exec` that fails), and SIGINT takes it back to its prompt
# from wherever it is. Its prompt is ours: PROMPT_COMMAND reads requests and comes to no end, so
# nothing is ever read from standard input.
#
# Rule 1: a cell runs by `eval` at the top level, in no function: `declare` makes global variables.
# Rule 2: no process is made for a cell that makes none.
# Rule 3: our names begin with __sandbox_. What a cell sets (IFS, -eux, traps, aliases, the locale,
# PATH, functions named like builtins) is put aside or has no effect here.
# Rule 4: programs that a cell starts have none of our descriptors. Bash keeps copies, closed on
# exec, of those that are closed around the loop, and those copies we use.
#
# `exit` ends the cell. `set -e` ends the shell, and so do a few others; then a new one goes on in
# the same process, with all that can be written down (see "another shell").

__sandbox_in=3 __sandbox_out=4 __sandbox_idle=5 __sandbox_loop=6
__sandbox_kind='' __sandbox_argument='' __sandbox_data=''
__sandbox_last=0 __sandbox_is_ending='' __sandbox_is_receiving='' __sandbox_at_prompt='' __sandbox_is_traced=''
__sandbox_source='' __sandbox_count=0 __sandbox_failed=''
__sandbox_cell='' __sandbox_text='' __sandbox_is_entered='' __sandbox_cause=''
__sandbox_status=0 __sandbox_flags='' __sandbox_is_posix='' __sandbox_traps='' __sandbox_at_exit=''
readonly __sandbox_bash=$BASH __sandbox_file=${BASH_SOURCE[0]} __sandbox_adapter=$SANDBOX_ADAPTER

# --- the talk ---

__sandbox_send() { # kind argument payload
    local LC_ALL=C
    builtin printf '%s %s %d\n%s' "$1" "$2" "${#3}" "$3" >&"$__sandbox_out"
}

__sandbox_receive() {
    local LC_ALL=C IFS='' line='' piece='' left size code
    # TMOUT would end the wait. A signal with a trap may end it, too, with a part of the line.
    until builtin read -r ${TMOUT:+-t100000000} -u "$__sandbox_in" piece; do
        code=$?
        ((code > 128)) || __sandbox_end
        line+=$piece
    done
    line+=$piece
    __sandbox_kind=${line%% *} size=${line##* }
    line=${line#* } __sandbox_argument=${line% *} __sandbox_data=''
    left=$size
    # With -n Bash reads byte by byte, and with -N at once, but then it doesn't tell of a NUL,
    # which no variable holds: it waits for what will never come.
    if ((size > 4096)); then
        builtin read -r -t 10 -N "$size" -u "$__sandbox_in" __sandbox_data
        left=0
    fi
    while ((left > 0)); do
        builtin read -r -d '' ${TMOUT:+-t100000000} -n "$left" -u "$__sandbox_in" piece
        code=$?
        ((code == 0 || code > 128)) || __sandbox_end
        __sandbox_data+=$piece
        left=$((left - ${#piece} - (code == 0 && ${#piece} < left)))
    done
}

__sandbox_end() { # the adapter is gone
    builtin trap - EXIT
    builtin eval "$__sandbox_at_exit"
    builtin exit 70
}

__sandbox_fail() { # name value, and what the cell exits with
    __sandbox_send ename - "$1"
    __sandbox_send evalue - "$2"
    __sandbox_send trace - $'\e[31m'"$1"$'\e[0m: '"$2"
    builtin printf 'done error%s 0\n' "${3:+,$3}" >&"$__sandbox_out"
}

__sandbox_quote() { # number: that line of the cell, for the trace
    local -a lines
    builtin mapfile -t lines <<<"$__sandbox_source"
    [[ $1 -ge 1 && $1 -le ${#lines[@]} ]] || return
    __sandbox_send trace - "Cell[$__sandbox_count], line $1"
    __sandbox_send trace - "    ${lines[$1 - 1]:0:500}"
}

# --- the prompt: one request after the other, cells at the top level ---

# Outside functions, where the traps DEBUG and ERR are the cell's. What such a trap or `set -x`
# has to say about these lines is for nobody.
readonly __sandbox_leaving='{
    __sandbox_last=$? __sandbox_at_prompt=__sandbox_at_prompt;
    if [[ $__sandbox_is_entered ]]; then
        __sandbox_status=$__sandbox_last;
        builtin trap -p EXIT ERR INT DEBUG >&"$__sandbox_loop";
        builtin trap - DEBUG ERR;
        __sandbox_leave;
    fi;
} >/dev/null 2>&1;'
# Two loops: `break` in a cell ends the inner one.
__sandbox_prompt='__sandbox_at_prompt=__sandbox_at_prompt; __sandbox_turn;
while :; do while :; do '$__sandbox_leaving' __sandbox_next; done; done 3<&- 4>&- 5<&- 6<&-'
__sandbox_prompt=${__sandbox_prompt//$'\n'/ }
# Lines are counted from the one before.
readonly __sandbox_prompt=${__sandbox_prompt/__sandbox_next;/__sandbox_next;$'\n'builtin eval '"$__sandbox_text"';}

__sandbox_turn() { # the first cell is to come, or an interrupt brought us here
    [[ -z $__sandbox_is_entered || $__sandbox_cause ]] || __sandbox_cause=interrupt
    # The lowest numbers that are free from 10 up: Bash takes them in this order.
    exec {__sandbox_in}<&3 {__sandbox_out}<&3 {__sandbox_idle}<&3 {__sandbox_loop}<&3
    exec {__sandbox_in}<&- {__sandbox_out}<&- {__sandbox_idle}<&- {__sandbox_loop}<&-
}

__sandbox_next() { # answer requests until there is a cell to run
    [[ -z $__sandbox_cell ]] || __sandbox_finish
    while :; do
        __sandbox_receive
        case $__sandbox_kind in
        execute) __sandbox_prepare && return ;;
        complete) __sandbox_complete ;;
        inspect) __sandbox_inspect ;;
        check) __sandbox_check ;;
        evaluate) __sandbox_evaluate ;;
        attach) __sandbox_attach ;;
        answer) ;; # to a question that an interrupt has ended
        *) builtin exit 70 ;; # something else has read from our pipe
        esac
    done
}

readonly __sandbox_nothing=$'^([[:space:]]|#[^\n]*(\n|$))*$'

__sandbox_prepare() { # the text that runs the cell; false when there is nothing to run
    local message
    # Each time: the last cell may have used `exec` on them.
    exec >"/proc/$__sandbox_adapter/fd/1" 2>"/proc/$__sandbox_adapter/fd/2"
    PROMPT_COMMAND=$__sandbox_prompt
    __sandbox_cause='' __sandbox_is_receiving='' __sandbox_cell=${__sandbox_argument%%,*}
    __sandbox_source=$__sandbox_data __sandbox_count=${__sandbox_argument#*,}
    __sandbox_count=${__sandbox_count%%,*}
    # Without a command the cell's exit code would be the last cell's.
    [[ ! $__sandbox_data =~ $__sandbox_nothing ]] || __sandbox_data=:
    # As one command: an error that takes Bash back to its prompt ends all of the cell.
    __sandbox_text="{ __sandbox_enter >/dev/null 2>&1; $__sandbox_data"$'\n}\n'$__sandbox_leaving
    if [[ $__sandbox_data == *alias\ * ]]; then
        message=''
    elif builtin eval "__sandbox_parsed() { :"$'\n'"$__sandbox_data"$'\n}' 2>/dev/null; then
        builtin unset -f __sandbox_parsed
        return 0
    else
        message=$(__sandbox_parse "$__sandbox_data")
    fi
    if [[ $message == *": syntax error"* || $message == *"unexpected EOF"* ]] &&
        [[ $__sandbox_data != *shopt\ * ]]; then
        __sandbox_refuse "$message"
        return 1
    fi
    # Line by line, as Bash reads a file: for aliases and `extglob` that the cell itself sets,
    # and for here-documents without an end.
    __sandbox_text="__sandbox_enter >/dev/null 2>&1; $__sandbox_data"
}

__sandbox_parse() { # what Bash says of a program when it only reads it
    local glob=+O
    ! builtin shopt -q extglob || glob=-O
    LC_ALL=C "$__sandbox_bash" --norc --noprofile "$glob" extglob -n 2>&1 <<<"$1"
}

__sandbox_refuse() { # what the parser says
    local line=0 message=$1 code=$__sandbox_source
    if [[ $message =~ line\ ([0-9]+):\ ([^$'\n']*) ]]; then
        line=${BASH_REMATCH[1]} message=${BASH_REMATCH[2]}
    fi
    message=${message#syntax error} message=${message#:} message=${message# }
    # An end that is missing is missed one line after the last.
    code=${code//[!$'\n']/}
    ((line <= ${#code} + 1)) || line=$((${#code} + 1))
    __sandbox_status=2 __sandbox_cell=''
    __sandbox_quote "$line"
    __sandbox_fail SyntaxError "$message (line $line)"
}

__sandbox_enter() { # the last of ours before the cell's own code: `$?` is the last cell's
    __sandbox_is_entered=1 __sandbox_at_prompt='' __sandbox_is_traced='' __sandbox_failed=''
    builtin trap __sandbox_interrupt INT
    builtin eval "$__sandbox_failed_trap"
    [[ -z $__sandbox_is_posix ]] || builtin set -o posix
    builtin eval "$__sandbox_traps"
    [[ -z $__sandbox_flags ]] || builtin set "-$__sandbox_flags"
    # With `set -e` this would end the cell before it began.
    [[ $- != *e* ]] || return 0
    return "$__sandbox_status"
}

__sandbox_leave() { # put aside what the cell has set and what would harm us
    # Interrupts come too late from here on.
    builtin trap '' INT
    __sandbox_is_entered='' __sandbox_is_posix=''
    __sandbox_put_options_aside
    [[ -z $__sandbox_is_traced ]] || __sandbox_flags=${__sandbox_flags//T/}
    [[ :$SHELLOPTS: != *:posix:* ]] || __sandbox_is_posix=1
    builtin set +o posix
    builtin printf '\0' >&"$__sandbox_loop"
    IFS='' builtin read -r -d '' -u "$__sandbox_loop" __sandbox_traps
    # Those that have ended are forgotten, as at any prompt.
    builtin jobs
    __sandbox_traps=${__sandbox_traps/"trap -- '$__sandbox_abandon_trap' DEBUG"/}
    __sandbox_sort_traps
}

__sandbox_put_options_aside() {
    __sandbox_flags=${-//[!euxvfakTE]/}
    [[ -z $__sandbox_flags ]] || builtin set "+$__sandbox_flags"
}

readonly __sandbox_exit_trap=$'trap -- \'{ __sandbox_exit "$@"; } 2>/dev/null\' EXIT\n'
readonly __sandbox_failed_trap=$'trap -- \'__sandbox_failed=$?:$LINENO\' ERR\n'
readonly __sandbox_interrupt_trap=$'trap -- \'__sandbox_interrupt\' SIGINT\n'

__sandbox_sort_traps() { # what is left is the cell's own, and is set again in the next one
    local user_trap='^(.*)trap -- (.*) EXIT'$'\n(.*)$'
    __sandbox_traps=${__sandbox_traps/"$__sandbox_interrupt_trap"/}
    __sandbox_traps=${__sandbox_traps/"$__sandbox_failed_trap"/}
    if [[ $__sandbox_traps == *"$__sandbox_exit_trap"* ]]; then
        __sandbox_traps=${__sandbox_traps/"$__sandbox_exit_trap"/}
        return
    fi
    __sandbox_at_exit=''
    if [[ $__sandbox_traps =~ $user_trap ]]; then
        __sandbox_traps=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
        builtin eval "__sandbox_at_exit=${BASH_REMATCH[2]}"
    fi
    builtin eval "$__sandbox_exit_trap"
}

__sandbox_finish() { # say how the cell ended
    __sandbox_cell=''
    case $__sandbox_cause in
    interrupt)
        __sandbox_status=130
        __sandbox_fail Interrupted 'The cell was interrupted.'
        return
        ;;
    exit:*)
        __sandbox_status=${__sandbox_cause#exit:}
        __sandbox_run_exit_trap
        ;;
    esac
    if ((__sandbox_status == 0)); then
        builtin printf 'done ok 0\n' >&"$__sandbox_out"
    else
        __sandbox_fail_with "$__sandbox_status"
    fi
}

__sandbox_fail_with() { # status
    local value="The command ended with exit code $1." name=''
    if (($1 > 128)) && name=$(builtin kill -l "$1" 2>/dev/null); then
        value="The command ended with exit code $1, which stands for the signal SIG$name."
    fi
    [[ $name != KILL ]] || value+=' It may have needed more memory than the sandbox may use.'
    # The last command that failed is the one that the cell ended with.
    if [[ $__sandbox_failed == "$1":* ]]; then
        __sandbox_quote "${__sandbox_failed#*:}"
    fi
    __sandbox_fail ExitCode "$value" "$1"
}

# --- interrupts and exit: back to the prompt from wherever the cell is ---

__sandbox_interrupt() {
    __sandbox_cause=interrupt
    # No message is left half read.
    [[ $__sandbox_is_receiving ]] || __sandbox_abandon
}

readonly __sandbox_abandon_trap='[[ $__sandbox_at_prompt$BASH_COMMAND == *__sandbox_at_prompt* ]] ||
    builtin kill -INT "$$"'

__sandbox_abandon() {
    # For Bash ends a line there before it goes back to its prompt.
    exec 2>/dev/null
    builtin trap - INT
    # Bash forgets a SIGINT that comes within a trap of SIGINT: then the next command sends one.
    [[ $- == *T* ]] || __sandbox_is_traced=1
    builtin set -T
    builtin trap "$__sandbox_abandon_trap" DEBUG
    builtin kill -INT "$$"
}

exit() {
    __sandbox_code=${1-$?} # no `local`: `set -k` would make it do nothing
    if [[ $BASHPID != "$$" || ! $__sandbox_code =~ ^-?[0-9]+$ ]]; then
        builtin exit "$__sandbox_code" # of a subshell
    elif [[ $__sandbox_is_ending ]]; then
        __sandbox_status=$((__sandbox_code & 255))
    else
        __sandbox_cause=exit:$((__sandbox_code & 255))
        __sandbox_abandon
    fi
}

__sandbox_run_exit_trap() { # the cell's own
    local at_exit=$__sandbox_at_exit
    __sandbox_at_exit='' __sandbox_is_ending=1
    __sandbox_return "$__sandbox_status"
    builtin eval "$at_exit" 2>"/proc/$__sandbox_adapter/fd/2"
    __sandbox_is_ending=''
}

__sandbox_return() {
    return "$1"
}

# --- another shell in the same process ---

# Here Bash is about to end. What can be written down goes through a pipe to a new one; its jobs,
# coprocesses, directory stack and the handlers of other signals than SIGINT cannot.
__sandbox_exit() { # the positional parameters
    __sandbox_status=$?
    local __sandbox_fd
    builtin trap '' INT
    [[ $__sandbox_cell ]] || __sandbox_end
    __sandbox_cell='' __sandbox_is_entered=''
    __sandbox_put_options_aside
    __sandbox_run_exit_trap
    # Has Bash put our descriptors back already?
    [[ ! -e /proc/self/fd/3 ]] || __sandbox_in=3 __sandbox_out=4
    exec {__sandbox_fd}< <(__sandbox_write_state "$@" 2>/dev/null)
    if ((__sandbox_status == 0)); then
        builtin printf 'done ok 0\n' >&"$__sandbox_out"
    else
        __sandbox_fail_with "$__sandbox_status"
    fi
    # Opened, not copied: a copy is closed on exec when its original is.
    exec 3<"/proc/self/fd/$__sandbox_in" 4>"/proc/self/fd/$__sandbox_out" 0</dev/null 2>/dev/null
    builtin trap - INT
    SANDBOX_ADAPTER=$__sandbox_adapter __SANDBOX_STATE=$__sandbox_fd \
        exec "$__sandbox_bash" --noprofile --noediting --rcfile "$__sandbox_file" -i
}

__sandbox_write_state() {
    local name
    if [[ ${IFS+set} ]]; then builtin printf 'IFS=%q\n' "$IFS"; else builtin printf 'unset IFS\n'; fi
    local IFS=$' \t\n'
    builtin printf '__sandbox_flags=%q __sandbox_status=%q __sandbox_traps=%q\n' \
        "$__sandbox_flags" "$__sandbox_status" "$__sandbox_traps"
    builtin printf 'builtin set --'
    (($# == 0)) || builtin printf ' %q' "$@"
    builtin printf '\n'
    builtin shopt -p
    builtin set +o
    builtin alias -p
    builtin complete -p
    for __sandbox_name in $(builtin compgen -v); do
        case $__sandbox_name in
        __sandbox_* | __SANDBOX_* | SANDBOX_ADAPTER | BASH_* | BASHPID | BASHOPTS | SHELLOPTS) ;;
        FUNCNAME | GROUPS | DIRSTACK | PIPESTATUS | EUID | UID | PPID | IFS | _) ;;
        *) builtin declare -p "$__sandbox_name" ;;
        esac
    done
    for __sandbox_name in $(builtin compgen -A function); do
        [[ $__sandbox_name == __sandbox_* ]] || builtin declare -fp "$__sandbox_name"
    done
}

# --- what cells call: read, display, clear_output ---

# A question to the user where standard input is the cell's own; elsewhere what it always is.
# It has no variables of its own here, or `read` could not set those of its caller.
read() {
    if [[ /proc/self/fd/0 -ef /proc/self/fd/$__sandbox_idle ]]; then
        __sandbox_ask "$@"
    else
        builtin read "$@"
    fi
}

__sandbox_ask() {
    local __sandbox_quiet __sandbox_option __sandbox_code OPTIND=1 OPTARG=''
    local __sandbox_question='' __sandbox_is_secret=0 __sandbox_options=('')
    { __sandbox_quiet=${-//[!ex]/} && builtin set +ex; } 2>/dev/null
    while builtin getopts :ersEa:d:i:n:N:p:t:u: __sandbox_option; do
        case $__sandbox_option in
        p) __sandbox_question=$OPTARG ;;
        s) __sandbox_is_secret=1 ;;
        r) __sandbox_options+=(-r) ;;
        [adnN]) __sandbox_options+=("-$__sandbox_option" "$OPTARG") ;;
        esac
    done
    builtin shift "$((OPTIND - 1))"
    __sandbox_send input "$__sandbox_is_secret" "$__sandbox_question"
    # An interrupt doesn't end a `read` that waits: this one waits a little, on what never comes.
    until builtin read -t 0 -u "$__sandbox_in"; do
        builtin read -t 0.05 -u "$__sandbox_loop" __sandbox_kind
    done
    __sandbox_is_receiving=1
    __sandbox_receive
    __sandbox_is_receiving=''
    [[ $__sandbox_cause != interrupt ]] || __sandbox_abandon
    if [[ $__sandbox_argument == ok ]]; then
        builtin read "${__sandbox_options[@]:1}" "$@" <<<"$__sandbox_data"
        __sandbox_code=$?
    else
        builtin printf 'bash: read: This client cannot answer questions.\n' >&2
        __sandbox_code=1
    fi
    [[ -z $__sandbox_quiet ]] || builtin set "-$__sandbox_quiet"
    return "$__sandbox_code"
}

# display [--mime TYPE] [--id NAME | --update NAME] [FILE]
# Shows a picture, a page or whatever Jupyter knows, from a file or from standard input.
display() {
    local __sandbox_quiet __sandbox_code
    { __sandbox_quiet=${-//[!ex]/} && builtin set +ex; } 2>/dev/null
    __sandbox_display "$@"
    __sandbox_code=$?
    [[ -z $__sandbox_quiet ]] || builtin set "-$__sandbox_quiet"
    return "$__sandbox_code"
}

__sandbox_display() {
    local mime='' verb=display name=- file=- size made=''
    while (($#)); do
        case $1 in
        --mime=*) mime=${1#*=} ;;
        --mime | --id | --update)
            case $1 in --mime) mime=$2 ;; --id) name=$2 ;; *) verb=update name=$2 ;; esac
            (($# == 1)) || builtin shift
            ;;
        --) ;;
        -?*)
            builtin printf 'bash: display: there is no option %s; there are %s\n' "$1" \
                '[--mime TYPE] [--id NAME | --update NAME] [FILE]' >&2
            return 2
            ;;
        *) file=$1 ;;
        esac
        builtin shift
    done
    [[ $mime ]] || mime=$(__sandbox_type_of "$file") || return
    if [[ $file == - ]]; then
        made=$(mktemp) && cat >"$made" && file=$made || return
    fi
    local code=1
    if size=$(wc -c <"$file"); then
        # As many bytes as were announced, whatever becomes of the file meanwhile.
        {
            builtin printf 'data %s %d\n' "${mime// /}" "$size"
            head -c "$size" <"$file"
            builtin printf '%s %s 0\n' "$verb" "${name// /-}"
        } >&"$__sandbox_out"
        code=$?
    fi
    [[ -z $made ]] || rm -f "$made"
    return "$code"
}

__sandbox_type_of() { # file name
    local lower=${1,,}
    case ${lower##*.} in
    png | gif | webp | jpeg) builtin printf 'image/%s' "${lower##*.}" ;;
    jpg) builtin printf image/jpeg ;;
    svg) builtin printf image/svg+xml ;;
    pdf | json) builtin printf 'application/%s' "${lower##*.}" ;;
    html | htm) builtin printf text/html ;;
    md) builtin printf text/markdown ;;
    tex) builtin printf text/latex ;;
    txt | csv | tsv | log) builtin printf text/plain ;;
    *)
        builtin printf 'bash: display: %s: say what it is with --mime TYPE\n' "$1" >&2
        return 2
        ;;
    esac
}

# --- the other requests; each makes a process or two ---

__sandbox_check() { # is it a whole program?
    local said answer=complete
    said=$(__sandbox_parse "$__sandbox_data")
    case $said in
    *'end of file'* | *'unexpected EOF'* | *'delimited by end-of-file'*) answer=incomplete ;;
    *': syntax error'*) answer=invalid ;;
    *) [[ $__sandbox_data != *\\ ]] || answer=incomplete ;;
    esac
    __sandbox_send checked "$answer" ''
}

__sandbox_evaluate() { # a word, expanded
    local value
    if value=$(builtin eval "builtin printf '%s\n' $__sandbox_data" 2>&1); then
        __sandbox_send data text/plain "$value"
        builtin printf 'done ok 0\n' >&"$__sandbox_out"
    else
        __sandbox_fail ExpansionError "${value#*: }"
    fi
}

# The word before the cursor: $1, and what precedes it on its line: $2. Sets both for callers.
__sandbox_find_word() { # byte offset
    local LC_ALL=C
    local before=${__sandbox_data:0:$1}
    before=${before##*$'\n'}
    word=${before##*[][:space:]\"\'\`=;|&()<>\{\}[:]}
    before=${before%"$word"}
    start=$(($1 - ${#word}))
    head=$before
}

__sandbox_complete() {
    local word='' head='' start=0 line
    __sandbox_find_word "$__sandbox_argument"
    while IFS='' builtin read -r line; do
        __sandbox_send match "${line%% *}" "${line#* }"
    done < <(__sandbox_matches 2>/dev/null)
    builtin printf 'completed %d 0\n' "$start" >&"$__sandbox_out"
}

__sandbox_matches() { # type and text, a line each
    local IFS=$' \t\n' before=${head%"${head##*[![:space:]]}"}
    if [[ $word == *\$* ]]; then
        __sandbox_list variable "${word%\$*}\$" -A variable -- "${word##*\$}"
    elif [[ $head == *\$\{ || $head == *\$\{[#!] ]]; then
        __sandbox_list variable '' -A variable -- "$word"
    elif [[ $word != */* && ( -z $before || $before == *[\;\|\&\(\`\{] ||
        $before =~ (^|[[:space:]])(if|then|else|elif|do|while|until|time|sudo|exec|command|!)$ ) ]]; then
        __sandbox_list keyword '' -A keyword -- "$word"
        __sandbox_list function '' -A alias -A function -A builtin -A command -- "$word"
    else
        __sandbox_files
    fi
}

__sandbox_list() { # type, what to put before, arguments of compgen...
    local type=$1 prefix=$2 name
    builtin compgen "${@:3}" | while builtin read -r name; do
        [[ $name == __sandbox_* ]] || builtin printf '%s %s%s\n' "$type" "$prefix" "$name"
    done | head -n 1000 | LC_ALL=C sort -u
}

__sandbox_files() {
    local name written
    builtin compgen -f -- "${word/#\~\//"$HOME"/}" | head -n 1000 | LC_ALL=C sort |
        while builtin read -r name; do
            [[ $word != \~/* ]] || written=\~
            builtin printf -v written '%q' "$name"
            [[ $word != \~/* ]] || written=\~${written#"$HOME"}
            [[ ! -d $name ]] || written+=/
            builtin printf 'path %s\n' "$written"
        done
}

__sandbox_inspect() {
    local word='' head='' start text after LC_ALL=C
    local offset=${__sandbox_argument%,*}
    # The whole of the word that the cursor is in.
    after=${__sandbox_data:offset}
    after=${after%%[!A-Za-z0-9_.+-]*}
    __sandbox_find_word "$((offset + ${#after}))"
    text=$(__sandbox_describe "${word##*\$}" 2>/dev/null)
    if [[ $text ]]; then
        __sandbox_send data text/plain "$text"
        builtin printf 'inspected 1 0\n' >&"$__sandbox_out"
    else
        builtin printf 'inspected 0 0\n' >&"$__sandbox_out"
    fi
}

__sandbox_describe() { # a name
    [[ $1 && $1 != __sandbox_* ]] || return
    case $(builtin type -t "$1") in
    builtin | keyword) builtin help "$1" ;;
    function) [[ $1 == read ]] && builtin help read || builtin declare -f "$1" ;;
    '') builtin declare -p "$1" ;;
    *) builtin type "$1" ;;
    esac
}

__sandbox_attach() { # a directory of packages, for the programs that cells start
    local triple=${MACHTYPE%%-*}-linux-gnu
    case $__sandbox_argument in
    pip) __sandbox_prepend PATH bin && __sandbox_prepend PYTHONPATH lib ;;
    npm) __sandbox_prepend PATH node_modules/.bin bin && __sandbox_prepend NODE_PATH node_modules ;;
    # RubyGems puts its own directories behind an empty last path only.
    gem) __sandbox_prepend PATH bin && __sandbox_prepend GEM_PATH gems : ;;
    cran) __sandbox_prepend R_LIBS library ;;
    apt | apk)
        __sandbox_prepend PATH usr/local/bin usr/bin usr/sbin bin sbin usr/games
        __sandbox_prepend LD_LIBRARY_PATH "usr/lib/$triple" "lib/$triple" usr/lib lib
        ;;
    esac
    builtin printf 'attached - 0\n' >&"$__sandbox_out"
}

__sandbox_prepend() { # variable, directories of the layer; ":" for an empty last path
    local directory found='' old=${!1}
    for directory in "${@:2}"; do
        [[ $directory == : ]] || found+=${found:+:}$__sandbox_data/$directory
    done
    if [[ $old || ${!#} == : ]]; then found+=:$old; fi
    builtin export "$1=$found"
}

# --- the start ---

builtin trap '' INT
builtin eval "$__sandbox_exit_trap"
# Standard input of cells: at its end at once, and told from every other, /dev/null too.
exec 0<<<'' && builtin read -r
exec 5<&0 6<> <(:)
builtin set +o history +H
builtin shopt -u checkwinsize
PS1='' PS2='' PROMPT_COMMAND=$__sandbox_prompt
builtin unset HISTFILE MAILCHECK REPLY
# Some systems' /etc/bash.bashrc: it starts a program to find packages for a mistyped name.
builtin unset -f command_not_found_handle
if [[ ${__SANDBOX_STATE-} ]]; then
    builtin eval "builtin . /proc/self/fd/$__SANDBOX_STATE; exec $__SANDBOX_STATE<&-" 2>/dev/null
    builtin unset __SANDBOX_STATE
    PROMPT_COMMAND=$__sandbox_prompt
else
    __sandbox_send ready "${BASH_VERSION%%(*}" Bash
fi
