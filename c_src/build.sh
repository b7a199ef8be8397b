#!/bin/sh
# What rebar3's hooks run: builds the C-node into this application's own priv/
# (c_src/build.sh), or clears that away (c_src/build.sh clean). A script and
# not `make` itself, so that it can name a missing make.
set -eu
cd "$(dirname "$0")/.."

missing=
while read -r kind package command; do
    [ "$kind" = build ] && [ -n "$command" ] || continue
    # git and rebar3 have done their part when this runs.
    case $command in git | rebar3) continue ;; esac
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done <tools/packages
if [ -n "$missing" ]; then
    all=$(awk '$1 == "build" { sub(/\|.*/, "", $2); printf " %s", $2 }' \
        tools/packages)
    echo "erlangsp cannot be built: not found:$missing. The packages for a" \
        "build, as Debian 12 names them (tools/install-deps knows others):" >&2
    echo "apt-get install$all" >&2
    exit 1
fi

# A make that called us must not lend its flags and job slots to this one.
unset MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS 2>/dev/null || :
exec make --no-print-directory "native${1:+-$1}"
