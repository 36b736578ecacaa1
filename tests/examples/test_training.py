"""The scripts in `examples` train MoDE layers with torch, Lightning and Hugging Face's Trainer.

Lightning and transformers come with the extra `examples`; `make test-engines` installs them.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def seeded():
    """Give the random state back."""
    with torch.random.fork_rng(devices=[]):
        yield


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_plain_torch(capsys):
    assert load("layers/train_torch").main(["--steps", "80"]) > 0.9
    assert "computed" in capsys.readouterr().out


@pytest.mark.slow
def test_torchrun(tmp_path):
    """The script starts two processes, which train one model."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["sh", EXAMPLES / "train_torchrun.sh", "2", "--rows", "1000", "--epochs", "5"]
    model = tmp_path / "model.pickle"
    output = subprocess.check_output(
        [*command, "--output", model], env=os.environ | {"PATH": path}, text=True, timeout=200
    )
    assert "with 2 processes" in output
    assert float(output.split()[1]) > 0.8
    assert pickle.loads(model.read_bytes()).n_features_in_ == 10


def test_lightning():
    pytest.importorskip("lightning")
    assert load("layers/train_lightning").main(["--epochs", "5"]) > 0.85


def test_transformers():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    found = load("layers/train_transformers").main(["--steps", "100"])
    assert found["eval_accuracy"] > 0.7


def test_the_trainer_adds_and_divides_the_losses(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    example = load("layers/train_transformers")
    from transformers import TrainingArguments

    logged, added = [], []

    class Watched(example.MoDETrainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            loss = super().compute_loss(model, inputs, return_outputs, **kwargs)
            plain = model(**inputs).loss  # without dropout, equal to the task's part
            layers = [m for m in model.modules() if isinstance(m, example.skmode.nn.MoDELayer)]
            added.append((loss - plain - sum(x.losses.total for x in layers)).abs().item())
            return loss

        def training_step(self, *args, **kwargs):
            logged.append(super().training_step(*args, **kwargs).item())
            return torch.tensor(logged[-1])

    model = example.make_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    options = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    Watched(model, options, train_dataset=example.Sequences(64, 0)).train()
    assert max(added) < 1e-5
    assert len(logged) == 8
    assert all(0.1 < value < 0.3 for value in logged)  # a quarter of log(2) plus the losses
