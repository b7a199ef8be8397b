#!/bin/sh
# run.sh [FILE]: counts the words of a text, by default that of all packages
# that this Debian knows of, and shows what becomes of a co-op whose processes
# are killed meanwhile. Wants erlangsp compiled: `make demo` sees to that.
# Ends with status 0 if every result was what sort | uniq -c says.
set -eu
text=${1:-}
case $text in "" | /*) ;; *) text=$PWD/$text ;; esac
cd "$(dirname "$0")"
root=$(cd ../.. && pwd -P)
ebin=${DEMO_ERLANGSP:-$root/_build/default/lib/erlangsp}/ebin
work=${DEMO_WORK:-$PWD/_build}
mkdir -p "$work" ebin
export LC_ALL=C

say() { printf '== %s\n' "$*"; }

say "Building the plugin, c_src/wordcount.cpp, and the Erlang half, src/"
cmake -S c_src -B _build/c_src -Derlangsp_DIR="$root/cmake" >"$work/build.log" &&
    cmake --build _build/c_src >>"$work/build.log" || {
        cat "$work/build.log"
        exit 1
    }
erlc +debug_info -o ebin -pa "$ebin" src/*.erl
cp src/demo.app.src ebin/demo.app

if [ -z "$text" ]; then
    text=$work/text
    if command -v apt-cache >/dev/null && apt-cache dumpavail >"$text" &&
        [ "$(wc -c <"$text")" -gt 1000000 ]; then
        say "Text: apt-cache dumpavail, $(wc -c <"$text") bytes"
    else
        # Words of 1 to 12 letters, the short ones often, from a fixed seed.
        awk 'BEGIN { srand(1); for (l = 0; l < 500000; l++) {
            for (w = 0; w < 8; w++) { s = ""
                for (n = int(12 * rand() * rand()) + 1; n > 0; n--)
                    s = s sprintf("%c", 97 + int(26 * rand() * rand()))
                printf "%s%s", s, w < 7 ? " " : "\n" } } }' >"$text"
        say "Text: made up, $(wc -c <"$text") bytes, since apt-cache has" \
            "little to say here (apt-get update would change that; or name" \
            "a file: make demo FILE=text)"
    fi
elif [ ! -f "$text" ] || [ ! -s "$text" ] || [ ! -r "$text" ]; then
    echo "$text is not a file with a text in it" >&2
    exit 2
else
    say "Text: $text, $(wc -c <"$text") bytes"
fi

say "What is right: tr -s ' \t\n' '\n' | LC_ALL=C sort | uniq -c"
from=$(date +%s)
tr -s ' \t\n' '\n' <"$text" | sort -T "$work" | uniq -c >"$work/wanted"
echo "   $(wc -l <"$work/wanted") lines after $(($(date +%s) - from)) s"

say "The co-op. What OTP and the C-node log goes to ${work#"$root"/}/log"
rm -f "$work/log"
cd "$work"
exec erl -noshell -boot start_clean -pa "$ebin" "$root/examples/demo/ebin" \
    -kernel logger_level notice logger "[{handler, default, logger_std_h,
        #{config => #{file => \"$work/log\"}}}]" \
    -kernel inet_dist_use_interface '{127,0,0,1}' \
    -s demo main -extra "$text" "$work/wanted" 2>>"$work/log"
