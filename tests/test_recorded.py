"""A training whose passes are recorded and repeated equals one that runs them: here the recording is a function that
computes into the memory of its first results, as a CUDA graph does."""

import pytest
import test_finetuning
import test_meta_learning
import torch

from gmiqa import recorded
from gmiqa_core import finetuning, meta_learning, network, pretraining, step, training
from gmiqa_core.batch import Batch, Target


class Pool:
    """Batches that differ from step to step."""

    def batch(self, step, n, *_):
        g = torch.Generator().manual_seed(step)
        quality, kinds = torch.rand(n, generator=g), torch.randint(1, 6, (n,), generator=g)
        return Batch(torch.rand(n, 3, 32, 32, generator=g), quality, torch.full((n,), 0.1), kinds, kinds, 1 - quality,
                     kinds)

    def identity(self):
        return {}

    def task(self, step, type, support, query):
        drawn = self.batch(step, support + query)
        return drawn[:support], drawn[support:]

    def triplet(self, step, n):
        return tuple(self.batch(3 * step + k, n) for k in range(3))


def scored(k):
    b = Pool().batch(k, 6)
    return Target((b.images * 255).byte(), b.quality, b.spread, b.content)


def bank(synthetic=None, share=0.0):
    model = network.build("tiny", finetune_graph="bank")
    return model, finetuning.Objective(scored, bank=torch.rand(model.config["bank_size"], 3, 32, 32),
                                       synthetic=synthetic, share=share)


def meta(*args, **options):
    learner = meta_learning.MetaLearner(test_meta_learning.regressor(), *args, **options)
    return learner.float(), meta_learning.MetaObjective(Pool(), [1, 2], 1, 4, 4)


ARMS = {
    "plain": lambda: (network.QualityRegressor(network.build("tiny")), meta_learning.PlainObjective(Pool(), 8)),
    "maml, first order": lambda: meta("maml", True),
    "meta-sgd, second order": lambda: meta("meta-sgd", False, inner="adam"),
    "graphs of two sizes": lambda: (network.build("tiny"), pretraining.GraphObjective(
        Pool(), sizes=[1, 4], batch=8, mixed=8, level_loss="sampled_mse", classify_weight=1.0, quality_weight=1.0)),
    "fine-tuning with a bank and graphs": lambda: bank(test_finetuning.synthetic, 0.5),
}


def trained(tmp_path, arm, record=None, accumulate=1):
    made = []

    def passes(*parts):
        made.append(recorded.Recorded(*parts, lambda work: record(made[0], work)) if record else step.usual(*parts))
        return made[0]

    torch.manual_seed(0)
    model, objective = ARMS[arm]()
    history = training.train(model, objective, steps=8, lr=1e-2, folder=tmp_path / str(bool(record)), clip=1.0,
                             accumulate=accumulate, log_every=3, passes=passes, precision="fp32", resume="never",
                             report=lambda *_: None)
    return model.state_dict(), history.metrics.drop(columns="seconds"), made[0]


def record(run, work):
    """`repeat` runs the work again and writes into the memory of the first results."""
    buffers, random = [b.clone() for b in run.model.buffers()], torch.get_rng_state()
    result = work()  # a card only writes down what it is to do
    torch.set_rng_state(random)
    for b, before in zip(run.model.buffers(), buffers, strict=True):
        b.copy_(before)
    first = [p.grad for p in run.params]

    def repeat():
        now = [p.grad for p in run.params]
        for p in run.params:
            p.grad = None
        result.copy_(work())
        for p, mine, grad in zip(run.params, first, now, strict=True):
            if mine is not None:
                mine.copy_(p.grad)
            p.grad = grad

    return repeat, result


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("arm", ARMS)
def test_recorded_passes_train_the_same_network(tmp_path, arm, accumulate):
    usual, logged, _ = trained(tmp_path, arm, None, accumulate)
    again, logged_again, run = trained(tmp_path, arm, record, accumulate)
    assert run.recordings and not run.broken
    assert logged.equals(logged_again)
    for name, value in usual.items():
        assert torch.equal(value, again[name]), name


def test_what_cannot_be_recorded_runs_as_usual_and_says_so(tmp_path, capsys):
    def fails(run, work):
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    usual, _, _ = trained(tmp_path, "maml, first order")
    again, _, run = trained(tmp_path, "maml, first order", fails)
    assert run.broken and not run.recordings
    assert "cannot be recorded: operation not permitted" in capsys.readouterr().out
    assert all(torch.equal(value, again[name]) for name, value in usual.items())
