"""Every row of every experiment builds, and wrong names say what is known."""

import inspect

import jax
import numpy as np
import pytest

from experiments import configs
from experiments.job import build_model
from experiments.methods import DEVIATIONS, METHODS, SAMPLERS

SCALES = ("paper", "small")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", sorted(configs.EXPERIMENTS))
def test_every_experiment_builds(name, scale):
    config = configs.build_config(name, configs.EXPERIMENTS, scale=scale)
    paper = configs.paper_row(name, config, configs.EXPERIMENTS, scale=scale)
    assert 0 < min(paper.values()) <= max(paper.values()) < 1
    model = build_model(config, 7)
    image = np.zeros((1, *config.data.image_size, 3), np.float32)
    init = lambda key: model.init(key, image, train=False)
    variables = jax.eval_shape(init, jax.random.key(0))
    outputs = jax.eval_shape(lambda v: model.apply(v, image, train=False), variables)
    assert outputs["logits"].shape == (1, 7)
    objective = METHODS[config.method](config, 7, outputs["embedding"].shape[1]).objective
    assert callable(objective)
    assert "axis_name" in inspect.signature(objective).parameters
    assert DEVIATIONS[config.method]
    sampler = SAMPLERS[config.sampler.name](config, np.arange(50) % 7, None, 0)
    assert len(sampler(0)) == config.sampler.batch_size
    assert max(config.optimizer.boundaries) < config.optimizer.num_steps


def test_paper_scale_is_the_papers():
    name = "batch_contrastive_market"
    config = configs.build_config(name, configs.EXPERIMENTS, scale="paper")
    paper = configs.paper_row(name, config, configs.EXPERIMENTS, scale="paper")
    assert paper == {"rank1": 0.8640, "rank5": 0.9445, "rank10": 0.9648, "map_trapezoid": 0.6764}
    assert config.data.image_size == (256, 128)
    assert config.sampler.batch_size == 16
    assert (config.model.name, config.model.dropout) == ("resnet50", 0.9)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.num_steps) == (0.01, 50_000)
    assert optimizer.boundaries == (20_000, 40_000)
    assert config.loss.loss_weight == 1.0


def test_a_row_sets_its_values_and_is_no_longer_the_papers():
    exp = "batch_contrastive_market:margin=0.5,gradient=eq8,loss_weight=10"
    config = configs.build_config(exp, configs.EXPERIMENTS, scale="paper")
    assert (config.loss.margin, config.loss.gradient, config.loss.loss_weight) == (0.5, "eq8", 10.0)
    assert configs.paper_row(exp, config, configs.EXPERIMENTS, scale="paper") is None
    exp = "batch_contrastive_market:margin=1.0,loss_weight=1"
    config = configs.build_config(exp, configs.EXPERIMENTS, scale="paper")
    assert configs.paper_row(exp, config, configs.EXPERIMENTS, scale="paper") is not None
    configs.apply_overrides(config, ["loss.loss_weight=0.1"])
    assert configs.paper_row(exp, config, configs.EXPERIMENTS, scale="paper") is None


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        ("batch_contrastiv_market", "did you mean 'batch_contrastive_market'"),
        ("nothing", "known: batch_contrastive_duke"),
        ("batch_contrastive_market:tau=1", "no key 'tau'; known: center_rate"),
        ("batch_contrastive_market:margin=wide", "margin=wide: expected a value of type float"),
        ("batch_contrastive_market:margin", "not of the form key=value"),
        ("softmax_market:margin=1", "no key 'margin'"),
    ],
)
def test_wrong_experiments_list_the_known(exp, message):
    with pytest.raises(ValueError, match=message):
        configs.build_config(exp, configs.EXPERIMENTS, scale="small")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rate=1", "did you mean 'optimizer'"),
        ("optimizer.rate=1", "no key 'rate'"),
        ("optimizer.num_steps=many", "type int"),
        ("optimizer.num_steps=1.5", "type int"),
        ("learning_rate=1", "section.key=value"),
        ("train.log_every=0", "at least 1"),
        ("optimizer.num_steps=-1", "at least 1"),
    ],
)
def test_wrong_overrides_list_the_known(override, message):
    config = configs.build_config("softmax_market", configs.EXPERIMENTS, scale="small")
    with pytest.raises(ValueError, match=message):
        configs.apply_overrides(config, [override])


def test_overrides_keep_types():
    config = configs.build_config("softmax_market", configs.EXPERIMENTS, scale="small")
    overrides = ["optimizer.learning_rate=1", "optimizer.boundaries=(3,4)", "data.flip=false"]
    configs.apply_overrides(config, [*overrides, "model.weights=a=b.pth"])
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.optimizer.boundaries == (3, 4)
    assert config.data.flip is False
    assert config.model.weights == "a=b.pth"


@pytest.mark.parametrize("name", sorted(configs.TABLES))
def test_tables_are_rectangular_and_name_experiments(name):
    table = configs.TABLES[name]
    assert all(len(row) == len(table.columns) + 1 for row in table.literature)
    for exp in table.rows.values():
        assert set(configs.EXPERIMENTS[exp].paper) == set(table.columns)


def test_figures_name_experiments():
    for panels in configs.FIGURES.values():
        assert set(panels.values()) <= set(configs.EXPERIMENTS)
