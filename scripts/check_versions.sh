#!/usr/bin/env bash
# Runs the fast tests with the oldest releases that pyproject.toml admits, and with the newest that there are.
#
#     scripts/check_versions.sh                                 Python 3.10, 3.12 and 3.13, both ends of each
#     PYTHONS=3.13 ENDS=newest scripts/check_versions.sh        one environment
#     scripts/check_versions.sh tests/parity                    arguments go to pytest, in the place of -m "not slow"
#     PROCESSES=1 scripts/check_versions.sh                     one process of tests at a time, where others need the cores
#
# python3.10 and so on are looked for in PATH; pyenv has them there with PYENV_VERSION=3.10.13:3.12.1:3.13.0.
# lowest: every bound `>=` of the dependencies and of the extra `dev` is taken as `==`; what they bring is the newest
# that fits them. newest: what pip takes by itself. On Linux torch brings CUDA and Triton: 5 to 8 GB an environment, in
# WHERE (build/versions), which is removed after its tests unless KEEP=1. The table at the end says what was there; the
# exit status is 1 where an environment could not be made or a test failed, and where no Python was found.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONS=${PYTHONS:-3.10 3.12 3.13}
ENDS=${ENDS:-lowest newest}
WHERE=${WHERE:-build/versions}
PROCESSES=${PROCESSES:-2}
TABLE=$WHERE/table.txt
SHOWN="numpy scipy h5py matplotlib torch triton lightning tensorflow keras"
status=1

# The requirements of one end, one a line.
requirements() {
    "$1" - "$2" <<'PY'
import sys
try:
    import tomllib
except ImportError:
    import pip._vendor.tomli as tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for one in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
    print(one.replace(">=", "==", 1) if sys.argv[1] == "lowest" else one)
PY
}

# The releases in an environment, in one line.
releases() {
    "$1" - $SHOWN <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(name, version(name), end="  ")
    except PackageNotFoundError:
        print(name, "-", end="  ")
PY
}

check() {
    local python=$1 end=$2 folder=$WHERE/$1-$2 result
    shift 2
    rm -rf "$folder"
    "python$python" -m venv "$folder"
    requirements "$folder/bin/python" "$end" > "$folder/requirements.txt"
    if "$folder/bin/python" -m pip install --quiet --upgrade pip &&
        "$folder/bin/python" -m pip install --quiet -r "$folder/requirements.txt"; then
        result=passed
        OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 PYTHONPATH=$PWD "$folder/bin/python" -m pytest -q \
            -n "$PROCESSES" --dist loadfile --no-loadscope-reorder "$@" || result=failed
    else
        result="not made"
    fi
    echo "$("$folder/bin/python" -V)  $end  $result  $(releases "$folder/bin/python")" >> "$TABLE"
    [ "${KEEP:-0}" = 1 ] || rm -rf "$folder"
    [ "$result" = passed ]
}

[ $# -gt 0 ] || set -- -m "not slow"
mkdir -p "$WHERE"
: > "$TABLE"
for python in $PYTHONS; do
    if ! "python$python" -c "" 2> /dev/null; then
        echo "Python $python  not here" >> "$TABLE"
        continue
    fi
    [ $status = 2 ] || status=0
    for end in $ENDS; do
        check "$python" "$end" "$@" || status=2
    done
done
cat "$TABLE"
[ $status = 0 ] || exit 1
