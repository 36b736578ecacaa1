"""What a checkpoint is taken for: the same training goes on, another one never gets its weights."""

import copy

import numpy as np
import pytest
import torch

from skmode.language import ModularLanguageModel
from skmode.language.networks import make_network
from skmode.language.tokenizer import train_tokenizer
from skmode.language.training import _Loop

# Importing transformers takes seconds.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skmode.language.TeacherNotAheadWarning"),
]

TEXTS = {
    "en": "the cat sat on the mat and the dog sat on the log. ",
    "fr": "le chat est sur la table et le chien est dans la maison. ",
    "C/C++": "int f(int x) { return x + 1; } for (int i = 0; i < 3; ++i) f(i);\n",
}
CODE = [TEXTS["C/C++"] * 4] * 6
OTHERS = ["int g(int y) { return y - 1; }\n" * 4] * 6


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS.values(), 300)


@pytest.fixture
def make(tokenizer, tmp_path):
    """Make a model that is hardly trained, with a folder for checkpoints."""

    def make(checkpoint=tmp_path, **parameters):
        defaults = {
            "student": "tiny", "teacher": None, "tokenizer": tokenizer, "max_length": 16,
            "warm_start_steps": 2, "steps": 2, "batch_size": 2, "random_state": 0,
            "checkpoint": checkpoint, "checkpoint_every": 1,
        }  # fmt: skip
        return ModularLanguageModel(**defaults | parameters)

    return make


@pytest.fixture
def stop(monkeypatch):
    """Stop a training at a step, all phases counted."""
    step = _Loop.step

    def stop(at):
        n_steps = 0

        def counted(loop, number):
            nonlocal n_steps
            n_steps += 1
            if n_steps == at:
                raise KeyboardInterrupt
            step(loop, number)

        monkeypatch.setattr(_Loop, "step", counted)

    return stop


@pytest.fixture
def steps(monkeypatch):
    """The steps that are taken."""
    taken, step = [], _Loop.step

    def counted(loop, number):
        taken.append(loop.phase.name)
        step(loop, number)

    monkeypatch.setattr(_Loop, "step", counted)
    return taken


def corpus():
    texts = [TEXTS[name] * (2 + i % 3) for name in ("en", "fr") for i in range(6)]
    return texts, [name for name in ("en", "fr") for _ in range(6)]


def network(tokenizer, seed, size="tiny"):
    torch.manual_seed(seed)
    return make_network(
        size, tokenizer.get_vocab_size(), 16, tokenizer.token_to_id("<|endoftext|>")
    )


def same(first, second, domain="en"):
    ours, theirs = (model.experts_[domain].state_dict() for model in (first, second))
    return all(torch.equal(own, theirs[name]) for name, own in ours.items())


def better(tokenizer):
    """A teacher that is ahead of an untrained student, else it would not be asked."""
    model = network(tokenizer, 5)
    rows = tokenizer.encode("".join(text for text in (*corpus()[0], *CODE))).ids
    rows = torch.tensor(rows[: len(rows) // 16 * 16]).view(-1, 16)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model(input_ids=rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("given", ["student", "teacher"])
def test_weights_that_are_given_tell_trainings_apart(given, make, tokenizer):
    teacher = {"teacher": better(tokenizer)} if given == "teacher" else {}
    first = make(**teacher | {given: network(tokenizer, 1)}).fit(*corpus())
    other = teacher.get("teacher", network(tokenizer, 2))
    second = make(**{given: other}).fit(*corpus())
    assert not same(first, second)
    assert same(second, make(checkpoint=None, **{given: other}).fit(*corpus()))


def test_a_copy_of_given_weights_is_the_same(make, tokenizer, steps):
    student = network(tokenizer, 1)
    first = make(student=student).fit(*corpus())
    steps.clear()
    assert same(first, make(student=copy.deepcopy(student)).fit(*corpus()))
    assert not steps


def test_equal_numbers_and_seeds_are_the_same(make, steps):
    first = make(random_state=np.random.RandomState(3), alpha=0).fit(*corpus())
    steps.clear()
    numpys = {"batch_size": np.int64(2), "alpha": np.float64(0)}
    again = make(random_state=np.random.RandomState(3), **numpys).fit(*corpus())
    assert not steps
    assert same(first, again)
    assert not same(first, make(random_state=4, alpha=0).fit(*corpus()))


def test_an_added_expert_is_told_by_its_steps_teacher_and_start(make, tokenizer, steps):
    model = make().fit(*corpus()).add_expert("C/C++", CODE, steps=4)
    shorter = make().fit(*corpus()).add_expert("C/C++", CODE, steps=1)
    assert not same(model, shorter, "C/C++")
    teacher = better(tokenizer)
    taught = make().fit(*corpus()).add_expert("C/C++", CODE, steps=4, teacher=teacher)
    assert taught.distilled_ == ["C/C++"]
    assert "kd" in taught.history_[-1]
    assert not same(model, taught, "C/C++")
    steps.clear()
    again = make().fit(*corpus()).add_expert("C/C++", CODE, steps=4, teacher=teacher)
    assert not steps
    assert same(taught, again, "C/C++")


def test_a_finished_training_makes_room(make, tmp_path):
    model = make().fit(*corpus()).add_expert("C/C++", CODE)
    before = copy.deepcopy(model)
    model.replace_expert("C/C++", OTHERS)
    assert not same(before, model, "C/C++")
    assert not same(before, make(learning_rate=1e-2).fit(*corpus()))
    names = [path.stem for path in tmp_path.glob("added*.pt")]
    assert len(names) == 1
    assert names[0].startswith("added_expert_C_C__-")


# In the warm start, behind it, in the experts, of two steps each.
@pytest.mark.parametrize("at", [2, 3, 6])
def test_an_unfinished_training_is_not_overwritten(at, make, stop, monkeypatch, tmp_path):
    stop(at)
    with pytest.raises(KeyboardInterrupt):
        make().fit(*corpus())
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="resumed with the parameters and texts.* unfinished"):
        make(learning_rate=1e-2).fit(*corpus())
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert same(make().fit(*corpus()), make(checkpoint=None).fit(*corpus()))
    make(learning_rate=1e-2).fit(*corpus())


def test_an_unfinished_expert_is_not_overwritten(make, stop, monkeypatch):
    model = make().fit(*corpus())
    stop(2)
    with pytest.raises(KeyboardInterrupt):
        model.add_expert("C/C++", CODE)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="tells of an unfinished training with others"):
        model.add_expert("C/C++", OTHERS)
    model.add_expert("C/C++", CODE)
    assert same(model, make(checkpoint=None).fit(*corpus()).add_expert("C/C++", CODE), "C/C++")


@pytest.mark.parametrize("name", ["experts.pt", "fit.json"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_damaged_checkpoint_is_named(name, kept, make, tmp_path):
    make().fit(*corpus())
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"must be whole, but .*{name} cannot .* delete it"):
        make().fit(*corpus())
    path.unlink()
    assert same(make().fit(*corpus()), make(checkpoint=None).fit(*corpus()))


def test_a_folder_that_cannot_be_made_is_refused_before_the_training(make, tmp_path):
    (tmp_path / "file").write_text("")
    model = make(tmp_path / "file", checkpoint_every=10**6)
    with pytest.raises(ValueError, match="checkpoint must be a folder that can be made, got '.*fi"):
        model.fit(list(TEXTS.values()), list(TEXTS))
    assert not hasattr(model, "router_")
