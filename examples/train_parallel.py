"""One estimator, trained by several processes together.

    torchrun --standalone --nproc-per-node 2 train_parallel.py [--rows 2000] [--output model.pickle]

Each process calls `fit` with the same rows. In every step it computes its share of the batch, and
all of them end with the same weights. `train_torchrun.sh` is this command.
"""

import argparse
import pickle
from collections.abc import Sequence

import torch
import torch.distributed as dist
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

from skmode import MoDEClassifier


def main(arguments: Sequence[str] | None = None) -> float:
    """Train; the first process prints the accuracy on new rows, and writes the model."""
    parser = argparse.ArgumentParser(description="Train one estimator with several processes.")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", help="file to write the model to")
    args = parser.parse_args(arguments)

    dist.init_process_group("gloo")  # the one line
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_node_local_rank() % torch.cuda.device_count())

    # The same on each process; your own would read the same files.
    X, y = make_classification(args.rows, n_features=10, n_informative=6, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    # Larger batches than those of one process: each gets its share of them.
    model = MoDEClassifier(batch_size=256, max_epochs=args.epochs, random_state=0).fit(X, y)

    accuracy = model.score(X_test, y_test)
    if dist.get_rank() == 0:
        print(f"accuracy {accuracy:.3f} with {dist.get_world_size()} processes")
        if args.output:
            with open(args.output, "wb") as file:
                pickle.dump(model, file)
    dist.destroy_process_group()
    return accuracy


if __name__ == "__main__":
    main()
