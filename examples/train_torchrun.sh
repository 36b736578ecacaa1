#!/bin/sh
# Train one estimator with several processes of this machine, each on one thread:
#
#     sh train_torchrun.sh [PROCESSES] [OPTIONS OF train_parallel.py]
#
# On several machines, run on each of them, with the name of the first one:
#
#     torchrun --nnodes 4 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
#         train_parallel.py
set -eu
processes=${1:-2}
[ $# -eq 0 ] || shift
OMP_NUM_THREADS=1 exec torchrun --standalone --nproc-per-node "$processes" \
    "$(dirname "$0")/train_parallel.py" "$@"
