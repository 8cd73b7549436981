# Sourced by ci/run and ci/lint: named steps with their seconds; the first failure ends everything.
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
