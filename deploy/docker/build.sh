#!/bin/sh
# Make a virtual environment that serves bundles and holds nothing else: no torch, no scikit-learn,
# no pip. The Dockerfile runs this, and so do the tests.
#
#     sh docker/build.sh TARGET [PYTHON]
#
# TARGET is the folder of the environment, PYTHON the interpreter (python3). Only the package itself
# is built, its dependencies are installed as the wheels that constraints.txt names. The variable
# EXTRAS says for what: "serve", or "serve,signing" to check signatures as well.
set -eu

if [ "$#" -lt 1 ] || [ -e "$1" ]; then
    echo "build.sh: TARGET must be a folder that does not exist yet, got '${1:-}': name another." >&2
    exit 2
fi
target=$1
python=${2:-python3}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

# setuptools writes beside the sources: a copy takes that, for the sources may be read-only.
mkdir "$work/source"
cp "$here/../LICENSE" "$here/../README.md" "$here/../pyproject.toml" \
    "$here/../setup.py" "$work/source"
cp -R "$here/../skmode_deploy" "$work/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$work/source"

# pip of the outside installs, so that none is in the environment.
"$python" -m venv --without-pip "$target"
for wheel in "$work"/wheels/skmode_deploy-*.whl; do
    "$python" -m pip --python "$target/bin/python" install --quiet --no-cache-dir --no-compile \
        --only-binary :all: --constraint "$here/constraints.txt" "${wheel}[${EXTRAS:-serve}]"
done

# The tests of numpy are a tenth of the environment.
find "$target"/lib/python3*/site-packages/numpy -type d -name tests -prune -exec rm -rf {} +
# Compiled here, for whoever serves may not write into the environment.
"$target/bin/python" -m compileall -q "$target/lib"
"$target/bin/python" -I -c '
import importlib.util
import sys

found = [name for name in ("sklearn", "skmode", "torch") if importlib.util.find_spec(name)]
sys.exit(f"build.sh: {found} must not be in the environment: see what asks for it." if found else 0)
'
