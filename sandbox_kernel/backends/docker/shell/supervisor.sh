# The first process in a container without Python 3: one command a cell, by POSIX sh alone.
#
# The host writes one line a request, each a call of a function below; `ShellGuest` is its
# other half. What cells print goes to standard output and error as it is; marks that hold a
# token, which only the host and this shell know, say where a cell begins and ends there.
#
# Rule 1: builtins only (`rm` may fail). `kill -1` spares this process, and nothing else.
# Rule 2: nothing here may end this shell: `command eval` keeps a failed fork from it.
# Rule 3: a cell starts when nothing of the previous one is left.

# As anything but the first process, `kill -1` would be everything that its user has.
[ "$$" -eq 1 ] || exit 70

# Written in one piece to both streams, so that each says how far the cell's output goes.
mark() {
    printf '\036%s %s\036' "$1" "$2"
    printf '\036%s %s\036' "$1" "$2" >&2
}

# A question's answer needs one stream only.
say() {
    printf '\036%s said %s\036' "$1" "$2"
}

count() {
    jobs >/dev/null 2>&1
    set -- "$1" /proc/[0-9]*
    say "$1" "$(($# - 1))"
}

# End all other processes. `jobs` reaps: until then the dead count as processes.
sweep() {
    trap - CHLD
    pid=
    left=200000
    while kill -KILL -1 && [ "$left" -gt 0 ]; do
        jobs
        left=$((left - 1))
    done >/dev/null 2>&1
    jobs >/dev/null 2>&1
}

# run TOKEN FILE PROGRAMS CODE [ARGUMENT...]: starts a cell. The host sends `sweep` before:
# without children, no signal can cut the reading of this long line short.
run() {
    token=$1 file=$2 programs=$3 code=$4
    shift 4
    is_up=
    trap 'is_up=1' USR1
    trap 'is_woken=1' CHLD
    if command eval 'cell "$@" </dev/null 2>&3 3>&- & pid=$!' 3>&2 2>/dev/null; then
        # A `stop` that comes before the cell can hear it would be lost.
        left=500000
        while [ -z "$is_up" ] && [ -n "$pid" ] && [ "$left" -gt 0 ]; do
            left=$((left - 1))
            if [ -n "$is_woken" ]; then
                is_woken=
                look
            fi
        done
    else
        mark "$token" begin
        mark "$token" crowded
    fi
    code=
    trap '' USR1
}

# In a process of its own, which outlives SIGTERM to tell how its program ended.
cell() {
    trap : TERM
    mark "$token" begin
    write || finish unwritten
    find || finish missing
    code= left=$# mark='{file}'
    while [ "$left" -gt 0 ]; do
        case $1 in
            *'{file}'*) set -- "$@" "${1%%"$mark"*}$path${1#*"$mark"}" ;;
            *) set -- "$@" "$1" ;;
        esac
        shift
        left=$((left - 1))
    done
    # A fork of its own, where no trap is left: SIGTERM ends it from before this is told. (A
    # plain command would be a vfork in dash, with our handlers until its exec.) What the shell
    # has to say of its end is said by the mark; without the colon dash would say it anyway.
    {
        :
        (
            exec 2>&3 3>&-
            kill -USR1 "$$"
            exec "$program" "$@"
        )
    } 3>&2 2>/dev/null
    finish "end $?"
}

finish() {
    mark "$token" "$1"
    rm -f "$path" 2>/dev/null
    exit 0
}

# In the working directory, where programs look for what a cell requires; elsewhere if full.
write() {
    for path in "$file" "/tmp/$file" "/dev/shm/$file"; do
        printf %b "$code" >"$path" && return
    done 2>/dev/null
    return 1
}

find() {
    for program in $programs; do
        command -v "$program" >/dev/null 2>&1 && return
    done
    return 1
}

stop() {
    kill -TERM -1
    kill -CONT -1
    look
} 2>/dev/null

halt() {
    sweep
    mark "$1" gone
}

# The cell's own process is gone. If it could not say how, this does; else it is old news.
look() {
    jobs >/dev/null 2>&1
    if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
        pid=
        mark "$token" lost
    fi
}

pid= token= is_woken= part=
trap '' USR1
while :; do
    if [ -n "$is_woken" ]; then
        is_woken=
        look
    fi
    line=
    if IFS= read -r line; then
        line=$part$line part=
        command eval "$line"
    elif [ -n "$is_woken" ]; then
        # What dash had read before the signal. Bash reads on, and busybox has forgotten it.
        part=$part$line
    else
        break
    fi
done
kill -KILL -1 2>/dev/null
exit 0
