#!/bin/sh
# Run the demo and the commands from installed wheels: sh run_wheels.sh BIN DEMO
# BIN is the folder of the environment's programs, DEMO the script, which is run from a copy in an
# empty folder, so that nothing can be imported from the checkout.
set -eu
bin=$(CDPATH='' cd -- "$1" && pwd)
demo=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$demo" "$work/demo.py"
cd "$work"
unset PYTHONPATH
"$bin/python" -c '
import skmode, skmode_deploy
for package in (skmode, skmode_deploy):
    assert "site-packages" in package.__file__, package.__file__
assert skmode.__version__ == skmode_deploy.__version__
'
"$bin/python" -m pip check
"$bin/skmode"
"$bin/skmode-deploy" --version
"$bin/python" demo.py --quick --output output
"$bin/skmode-deploy" verify output/bundle
