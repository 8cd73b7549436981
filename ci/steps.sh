# Sourced by ci/run and ci/lint: named steps with their seconds; the first failure ends everything, what runs beside too.
# shellcheck shell=bash
step() { # step TITLE COMMAND...
    local title=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$title"
    if ! "$@"; then
        printf '\n== FAILED after %s s: %s (%s)\n' "$((SECONDS - began))" "$title" "$*"
        exit 1
    fi
    printf '== %s: %s s\n' "$title" "$((SECONDS - began))"
}

# beside COMMAND...: begin a step that others may run beside; what it says comes out when `together` waits for it.
# Its own process group, so that the end of this script, Ctrl-C included, can end all of it.
beside() {
    beside_said=$(mktemp)
    set -m
    ("$@") >"$beside_said" 2>&1 </dev/null &
    beside_group=$!
    set +m
    trap 'kill -INT -- "-$beside_group" 2>/dev/null || true; rm -f "$beside_said"' EXIT
}

together() { # its output and its exit status
    local status=0
    wait "$beside_group" || status=$?
    trap - EXIT
    cat "$beside_said"
    rm -f "$beside_said"
    return $status
}
