#!/bin/sh
# Creates .venv, or refreshes it when the pins have changed; says what it does; quick when there is nothing to do.
# PYTHON=/path/to/python3.12 chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

stop() { echo "set-up: $*" >&2; exit 1; }

# The pins decide; a moved folder has dead paths in its .venv, so the place counts too.
pins="$(cat pyproject.toml constraints.txt | cksum) $(pwd)"
[ -x .venv/bin/python ] && [ -f .venv/pins ] && [ "$(cat .venv/pins)" = "$pins" ] && exit 0

recent='import sys; sys.exit(sys.version_info < (3, 11))'
if [ -x .venv/bin/python ] && .venv/bin/python -c "$recent" 2>/dev/null && .venv/bin/python -m pip --version >/dev/null 2>&1
then
    echo "set-up: the pins have changed (or an earlier set-up was cut short); refreshing .venv"
    python=.venv/bin/python
else
    python=
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c "$recent" >/dev/null 2>&1; then python=$candidate; break; fi
    done
    [ -n "$python" ] || stop "no Python >= 3.11 found (tried python3.13, python3.12, python3.11, python3): install one, or name it with PYTHON=/path/to/python3"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || stop "$python has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)"
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge 8 ] || stop "only $free GB free here; .venv needs about 8 GB (torch with CUDA): free some space, or clone to a larger disk"
fi
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    stop "$python has no Python.h, which compiling learn2learn needs: install it (Debian, Ubuntu: apt-get install python3-dev)"
compiler=
for candidate in ${CC:-} cc gcc clang; do command -v "$candidate" >/dev/null 2>&1 && { compiler=$candidate; break; }; done
[ -n "$compiler" ] || stop "no C compiler found (tried cc, gcc, clang), which learn2learn needs: install one (Debian, Ubuntu: apt-get install gcc)"

started=$(date +%s)
if [ "$python" != .venv/bin/python ]; then
    echo "set-up: creating .venv with $("$python" --version) (once; some minutes and about 7 GB)"
    "$python" -m venv --clear .venv || stop "creating .venv failed, see above"
fi
rm -f .venv/pins
echo "set-up: installing gmiqa and its pinned dependencies"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv || stop "installing uv failed, see above (is there a network?)"
.venv/bin/uv pip install --quiet --python .venv/bin/python -e '.[lab,dev,weights]' -c constraints.txt || stop "installing failed, see above"
echo "$pins" > .venv/pins
echo "set-up: done in $(($(date +%s) - started)) s"
