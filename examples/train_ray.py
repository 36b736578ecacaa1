"""One estimator, trained by workers of Ray; a worker that dies is replaced, and nothing is lost.

    python train_ray.py ROWS FOLDER --target label [--workers 2] [--output model.pickle]

Ray Data reads ROWS, a folder of Parquet files, and Ray Train starts the workers. FOLDER has the
checkpoints: of `fit`, from which the workers go on after one of them died, and in the end that of
Ray, with the model. The same command goes on after all of Ray has ended, too. Other rows need
another FOLDER: skmode knows rows that a function reads by their columns alone, and would take up
the former ones.

It starts Ray on this machine. With --address, it uses a cluster, whose nodes must have skmode, and
FOLDER under the same path.
"""

import argparse
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.train
from ray.train.torch import TorchTrainer

from skmode import MoDEClassifier

# Rows that Ray hands over at once.
BATCH_ROWS = 2**16


def train(config: dict[str, Any]) -> None:
    """Train on each worker; Ray has initialized the process group."""
    rows = ray.train.get_dataset_shard("rows")

    def batches() -> Iterator[pa.RecordBatch]:
        """Read the rows. Two passes of the first worker do; the others see the types alone."""
        yield pa.RecordBatch.from_pylist([], config["schema"])
        for table in rows.iter_batches(batch_size=BATCH_ROWS, batch_format="pyarrow"):
            yield from table.to_batches()

    model = MoDEClassifier(
        batch_size=config["batch_size"], max_epochs=config["epochs"], random_state=0
    )
    model.fit(batches, target=config["target"], checkpoint=Path(config["folder"], "fit"))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if ray.train.get_context().get_world_rank() == 0:
            Path(folder, "model.pickle").write_bytes(pickle.dumps(model))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        metrics = {"accuracy": (model.validation_scores_ or {}).get("mixture")}
        ray.train.report(metrics, checkpoint=checkpoint)


def main(arguments: Sequence[str] | None = None) -> MoDEClassifier:
    """Run the command line; returns the model."""
    parser = argparse.ArgumentParser(description="Train one estimator with workers of Ray.")
    parser.add_argument("rows", help="folder of Parquet files")
    parser.add_argument("folder", help="folder of the checkpoints, which all workers can read")
    parser.add_argument("--target", required=True, help="column of the labels")
    parser.add_argument("--workers", type=int, default=2, help="each with one core")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=1024, help="of all workers together")
    parser.add_argument("--failures", type=int, default=3, help="how often to replace workers")
    parser.add_argument("--output", help="file to write the model to")
    parser.add_argument("--address", help="address of a cluster that runs already")
    args = parser.parse_args(arguments)

    # One core more than the workers need, for reading.
    ray.init(address=args.address, num_cpus=None if args.address else args.workers + 1)
    reading = ray.data.DataContext.get_current()
    reading.enable_progress_bars = False
    # Or the same seed would give other results each time.
    reading.execution_options.preserve_order = True
    rows = ray.data.read_parquet(str(Path(args.rows).absolute()))
    trainer = TorchTrainer(
        train,
        train_loop_config={
            "target": args.target,
            "folder": str(Path(args.folder).absolute()),
            "epochs": args.epochs,
            "batch_size": args.batch_size,
            "schema": rows.schema().base_schema,
        },
        datasets={"rows": rows},
        # Every worker may read all rows: skmode shares out each batch.
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(num_workers=args.workers),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=str(Path(args.folder).absolute()),
            failure_config=ray.train.FailureConfig(max_failures=args.failures),
        ),
    )
    result = trainer.fit()
    with result.checkpoint.as_directory() as folder:
        content = Path(folder, "model.pickle").read_bytes()
    ray.shutdown()
    if args.output:
        Path(args.output).write_bytes(content)
    print(f"validation accuracy {result.metrics['accuracy']:.3f} with {args.workers} workers")
    model: MoDEClassifier = pickle.loads(content)
    return model


if __name__ == "__main__":
    main()
