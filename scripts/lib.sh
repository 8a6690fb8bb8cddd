# Sourced by the scripts beside it: messages, the build's directory, and a running pair of services.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
STARTED_AT=$SECONDS

# burn-ndarray's matrix product spins without it (FEASIBILITY).
export MATMUL_NUM_THREADS="${MATMUL_NUM_THREADS:-1}"

say() { printf '\n== %s [%d s]\n' "$*" "$((SECONDS - STARTED_AT))"; }
fail() {
    printf '\nFAILED: %s\n' "$*" >&2
    exit 1
}

need() { # need COMMAND WHAT-TO-DO
    command -v "$1" >/dev/null 2>&1 || fail "$1 is missing: $2"
}

check_tools() {
    need cargo "install Rust from https://rustup.rs"
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || fail "no C compiler: install gcc and g++ (Debian: apt-get install build-essential)"
    command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || fail "no C++ compiler: install g++ (Debian: apt-get install g++)"
    need python3 "install Python 3 with pip"
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip (Debian: apt-get install python3-pip)"
}

# Where cargo puts the binaries, whatever sets it (variable, configuration, default).
target_dir() {
    (cd "$ROOT" && cargo metadata --format-version 1 --no-deps --locked --offline) |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# start_services DATA_DIR: `moerag up` in the background on free ports; exports the addresses.
start_services() {
    local data=$1
    mkdir -p "$data"
    # What an earlier run left here would be taken for this one's addresses.
    rm -f "$data/up.out"
    "$BIN/moerag" up --json --data-dir "$data" --router-listen 127.0.0.1:0 --trainer-listen 127.0.0.1:0 \
        >"$data/up.out" 2>"$data/up.err" &
    UP_PID=$!
    UP_DATA=$data
    while ! [ -s "$data/up.out" ]; do
        if ! kill -0 "$UP_PID" 2>/dev/null; then
            cat "$data/up.err" >&2
            UP_PID=
            fail "moerag up ended before both services served"
        fi
        sleep 0.2
    done
    local urls
    urls=$(python3 -c 'import json, sys; up = json.load(open(sys.argv[1])); print(up["router"], up["trainer"])' "$data/up.out")
    read -r MOERAG_ROUTER_URL MOERAG_TRAINER_URL <<<"$urls"
    export MOERAG_ROUTER_URL MOERAG_TRAINER_URL
    printf 'router %s, trainer %s\n' "$MOERAG_ROUTER_URL" "$MOERAG_TRAINER_URL"
}

# Stops what start_services started; fails if it did not end cleanly.
stop_services() {
    [ -n "${UP_PID:-}" ] || return 0
    local pid=$UP_PID status=0
    UP_PID=
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" || status=$?
    [ "$status" -eq 0 ] || fail "moerag up ended with status $status; logs in $UP_DATA/logs"
}

# For an EXIT trap: takes the services down, and shows their logs if the script failed.
clean_up() {
    local status=$?
    trap - EXIT
    if [ -n "${UP_PID:-}" ]; then
        kill -TERM "$UP_PID" 2>/dev/null || true
        wait "$UP_PID" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -n "${UP_DATA:-}" ]; then
        for log in "$UP_DATA/up.err" "$UP_DATA"/logs/*.log; do
            [ -s "$log" ] || continue
            printf '\n---- the end of %s\n' "$log" >&2
            tail -n 30 "$log" >&2
        done
    fi
    for path in "${TEMPORARY[@]:-}"; do
        [ -n "$path" ] && rm -rf "$path"
    done
    exit "$status"
}

TEMPORARY=()
