"""Runs of the strong baseline: whole, and P x K that the images cannot fill."""

import pytest

from experiments import launch
from reid_jax.training.logs import read_metrics

TINY = ("optimizer.boundaries=()", "optimizer.warmup_steps=2", "data.shift=2")


@pytest.mark.slow
def test_the_whole_method_on_a_tiny_network(options):
    run = options(exp="strong_market", overrides=TINY)
    results = launch.run_experiment(run)
    assert (results.method, results.objective) == ("strong", "strong")
    assert results.paper == {"rank1": 0.945, "map_step": 0.859}
    records = [record for record in read_metrics(run.workdir) if "loss" in record]
    assert all(record["center_loss"] > 0 for record in records)
    rates = [record["learning_rate"] for record in records]
    # Half a cosine behind two steps of warm-up.
    assert rates == pytest.approx([2e-4, 1.1e-3, 2e-3, 1e-3])


def test_identities_that_cannot_fill_a_batch_are_one_error(options):
    with pytest.raises(ValueError, match=r"batch_size=64 .*=4 needs 16 identities, and 6 are"):
        launch.run_experiment(options(exp="strong_market", overrides=("sampler.batch_size=64",)))
