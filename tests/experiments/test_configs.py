"""Every row of every experiment builds, and wrong names say what is known."""

import dataclasses
import functools
import inspect

import jax
import numpy as np
import pytest

from experiments import build, complexity, figures, papers
from experiments.config import PROTOCOL_NAMES, changed, parse_overrides
from reid_jax import protocols
from reid_jax.preprocess import IMAGENET_MEAN, IMAGENET_STD
from reid_jax.training.trainer import example_images

SCALES = ("paper", "small")
ROWS = sorted(
    f"{name}:{row}" if row else name
    for name, experiment in papers.EXPERIMENTS.items()
    for row in ("", *experiment.paper)
)


@functools.cache
def output_shapes(model, size):
    """Of a network, traced once: most rows are of a few networks."""
    examples = example_images(model, size)
    made = lambda key: model.init_with_output(key, *examples, train=False)
    outputs, _ = jax.eval_shape(made, jax.random.key(0))
    return outputs


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("exp", list(dict.fromkeys(ROWS)))
def test_every_row_builds(exp, scale):
    config = papers.build_config(exp, papers.EXPERIMENTS, scale=scale)
    paper = papers.paper_row(exp, config, papers.EXPERIMENTS, scale=scale)
    name, _, row = exp.partition(":")
    assert paper == papers.EXPERIMENTS[name].paper.get(row)
    assert paper is None or 0 < min(paper.values()) <= max(paper.values()) < 1
    model = build.network(config, 7)
    outputs = output_shapes(model, build.preprocess(config).input_size)
    logits = [value.shape for key, value in outputs.items() if key.startswith("logits")]
    assert logits == [(1, 7)] * (len(logits))
    assert bool(logits) == config.model.identification
    dims = [v.shape[1] for k, v in outputs.items() if k in ("embedding", "embedding_a")]
    assert bool(dims) != model.scores_pairs
    objective = build.objective(config)
    assert callable(objective.loss)
    assert "axis_name" in inspect.signature(objective.loss).parameters
    state = objective.init(np.arange(50) % 7, *dims or [0])
    assert all(leaf.shape[-1:] in (tuple(dims), (50,)) for leaf in jax.tree.leaves(state))
    build.notes(config)
    sampler = build.sampler(config, np.arange(70) % 35, np.arange(70) // 35, 0)
    rows = sampler(0)
    assert len(rows[0] if isinstance(rows, tuple) else rows) == config.sampler.batch_size
    length = build.length(config, sampler)
    assert 0 < max(length.boundaries, default=1) < length.num_steps
    protocol = build.protocol(config)
    assert protocol.name in protocols.PROTOCOLS
    protocol.check(build.embedder(config))


def test_the_protocols_that_help_names_are_those_there_are():
    assert set(PROTOCOL_NAMES) == set(protocols.PROTOCOLS)


def test_paper_scale_is_the_papers():
    name = "batch_contrastive_market"
    config = papers.build_config(name, papers.EXPERIMENTS, scale="paper")
    paper = papers.paper_row(name, config, papers.EXPERIMENTS, scale="paper")
    assert paper == {"rank1": 0.8640, "rank5": 0.9445, "rank10": 0.9648, "map_trapezoid": 0.6764}
    assert config.data.image_size == (256, 128)
    assert config.sampler.batch_size == 16
    assert (config.model.name, config.model.dropout) == ("resnet50", 0.9)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.num_steps) == (0.01, 50_000)
    assert optimizer.boundaries == (20_000, 40_000)
    assert config.loss.loss_weight == 1.0


@pytest.mark.parametrize("exp", ["identif_verif_market", "clever_cuhk03", "clever_cuhk03:row=iv"])
def test_the_verification_loss_weighs_what_is_asked(exp):
    asked = exp + ("," if ":" in exp else ":") + "verification_weight=0.03"
    of_row, ours = (
        papers.build_config(name, papers.EXPERIMENTS, scale="paper") for name in (exp, asked)
    )
    assert of_row.loss.verification_weight != 0.03
    loss = dataclasses.replace(of_row.loss, verification_weight=0.03)
    assert ours == dataclasses.replace(of_row, loss=loss)


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("row=ic", {"center_weight": 0.001}),
        ("row=intra_i", {"intra_weight": 0.001, "inter_weight": 0.0}),
        ("row=clever_iv", {"intra_weight": 0.001, "inter_weight": 0.0008}),
    ],
)
def test_a_factor_weighs_the_losses_with_centers_alone(row, weights):
    of_row, ours = (
        papers.build_config(f"clever_cuhk03:{row}{factor}", papers.EXPERIMENTS, scale="paper")
        for factor in ("", ",center_factor=0.1")
    )
    found = dataclasses.asdict(ours.loss)
    for name, weight in weights.items():
        assert found.pop(name) == pytest.approx(weight)
    assert found.items() <= dataclasses.asdict(of_row.loss).items()
    assert dataclasses.replace(ours, loss=of_row.loss) == of_row


def _pretrained(exp):
    return papers.build_config(exp, papers.EXPERIMENTS, scale="pretrained")


@pytest.mark.parametrize(
    "exp",
    [
        *("softmax_market", "batch_contrastive_market:loss_weight=0.1", "strong_market"),
        *("identif_verif_market", "identif_verif_market:loss=contrastive", "clever_cuhk03"),
        *("clever_cuhk03:row=ic", "inherent_pku", "inherent_pku:row=resnet18_htri"),
    ],
)
def test_at_the_scale_pretrained_the_losses_are_the_papers(exp):
    config, paper = _pretrained(exp), papers.build_config(exp, papers.EXPERIMENTS, scale="paper")
    assert (config.model.name, config.model.weights) == ("efficientnet_lite0",) * 2
    assert config.optimizer == _pretrained("softmax_market").optimizer
    images = config.sampler.batch_size * build.network(config, 7).num_images
    assert images == 32
    loss = paper.loss
    if config.objective == "clever":
        loss = dataclasses.replace(loss, margin=625.0)  # 250 of 512 features; here are 1280.
    if config.objective == "inherent":
        loss = dataclasses.replace(loss, means="bank")
    assert (config.objective, config.loss) == (paper.objective, loss)
    assert dataclasses.replace(config.sampler, batch_size=paper.sampler.batch_size) == paper.sampler
    assert (config.data.erase, config.evaluation.protocol) == (
        paper.data.erase,
        paper.evaluation.protocol,
    )
    assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="pretrained") is None
    assert len(papers.notes_of(exp, config, scale="pretrained")) > 1
    assert "scale pretrained" in papers.notes_of(exp, config, scale="pretrained")[-1]


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        ("csn_cuhk03", "csn is a network of its own, .* --scale=small"),
        ("clever_cuhk03:row=frw_ic", "CNN-FRW-IC is a network of its own"),
        ("inherent_pku:means=exact", "means=exact has no meaning"),
        ("softmax_market:dropout=0.9", "dropout=0.9 has no meaning"),
        ("strong_market:decay=steps", "decay=steps has no meaning"),
        ("clever_viper:mean=image", "mean=image has no meaning"),
        ("clever_cuhk01:augmentation=true", "augmentation=True has no meaning"),
        ("clever_cuhk01:images_per_camera=2", "images_per_camera=2 has no meaning"),
        ("identif_verif_market:backbone=vgg16", "backbone=vgg16 has no meaning"),
    ],
)
def test_what_has_no_meaning_at_the_scale_pretrained(exp, message):
    with pytest.raises(ValueError, match=message):
        _pretrained(exp)


def test_a_row_sets_its_values_and_is_no_longer_the_papers():
    exp = "batch_contrastive_market:margin=0.5,gradient=eq8,loss_weight=10"
    config = papers.build_config(exp, papers.EXPERIMENTS, scale="paper")
    assert (config.loss.margin, config.loss.gradient, config.loss.loss_weight) == (0.5, "eq8", 10.0)
    assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper") is None
    exp = "batch_contrastive_market:margin=1.0,loss_weight=1"
    config = papers.build_config(exp, papers.EXPERIMENTS, scale="paper")
    assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper") is not None
    config = parse_overrides(config, ["loss.loss_weight=0.1"])
    assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper") is None


def test_centers_follow_the_schedule_of_the_network():
    exp = "batch_contrastive_market:center_rate=learning_rate"
    config = papers.build_config(exp, papers.EXPERIMENTS, scale="paper")
    assert config.loss.center_rate == "learning_rate"
    assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper") is None
    rate = build.schedule(config, build.length(config, None))
    objective = build.objective(config, rate)
    constants = objective.loss.keywords
    found = [float(constants["center_rate"](step)) for step in (0, 19_999, 20_000, 40_000)]
    np.testing.assert_allclose(found, [0.01, 0.01, 0.001, 0.0001], rtol=1e-6)
    other = papers.build_config("clever_cuhk03", papers.EXPERIMENTS, scale="paper")
    with pytest.raises(ValueError, match="belongs to batch_contrastive, and the objective is cle"):
        parse_overrides(other, ["loss.center_rate=learning_rate"])


def test_batch_norm_is_frozen_where_there_are_averages():
    config = papers.build_config("softmax_market", papers.EXPERIMENTS, scale="paper")
    with pytest.raises(ValueError, match="there is none: give model"):
        parse_overrides(config, ["model.freeze_batch_norm=true"])
    config = parse_overrides(config, ["model.freeze_batch_norm=true", "model.weights=resnet50.pth"])
    assert build.network(config, 7).freeze_batch_norm


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        ("identif_verif_market:loss=iv,margin=2", "margin=2.0 has no meaning"),
        ("identif_verif_market:loss=i,ratio_rule=code", "ratio_rule=code has no meaning"),
        ("inherent_pku:row=set1,reduction=mixed", "reduction=mixed has no meaning"),
        ("inherent_pku:row=set1,means=exact", "means=exact has no meaning"),
        ("clever_cuhk03:row=ic,margin=3", "margin=3.0 has no meaning"),
        ("clever_cuhk03:row=iv,center_factor=0.1", "center_factor=0.1 has no meaning in --exp=cle"),
        ("clever_cuhk03:row=iv,center_rate=0.1", "center_rate=0.1 has no meaning"),
        ("clever_cuhk03:row=iv,neg_updates_centers=false", "neg_updates_centers=False has no"),
        ("clever_cuhk03:row=iv,margin=3", "margin=3.0 has no meaning in row=iv"),
        ("clever_cuhk03:row=intra_iv,margin=3", "margin=3.0 has no meaning in row=intra_iv"),
        ("clever_cuhk03:row=intra_iv,inter_grad=none", "inter_grad=none has no meaning"),
        ("clever_cuhk03:center_factor=0,inter_grad=none", "inter_grad=none has no meaning"),
        ("inherent_pku:scatter_weight=0,scatter_cap=3", "scatter_cap=3.0 has no meaning"),
        ("inherent_pku:row=set2,scatter_over=batch", "scatter_over=batch has no meaning"),
        ("inherent_pku:row=set2,scatter_cap=3", "scatter_cap=3.0 has no meaning"),
        (
            "identif_verif_market:loss=i,verification_dropout=before_square",
            "_square has no meaning",
        ),
        ("identif_verif_duke:loss=contrastive,verification_dropout=before_square", "no meaning"),
        ("clever_cuhk03:row=ic,inter_grad=none", "inter_grad=none has no meaning"),
        ("clever_cuhk03:row=ic,verification_weight=1", "verification_weight=1.0 has no meaning"),
        ("clever_cuhk03:row=intra_i,verification_weight=1", "has no meaning in row=intra_i"),
        ("identif_verif_market:loss=i,verification_weight=0.1", "verification_weight=0.1 has no"),
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
        papers.build_config(exp, papers.EXPERIMENTS, scale="small")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rate=1", "did you mean 'optimizer'"),
        ("optimizer.rate=1", "no key 'rate'"),
        ("optimizer.num_steps=many", "type int"),
        ("optimizer.num_steps=1.5", "type int"),
        ("learning_rate=1", "section.key=value"),
        ("train.log_every=0", "at least 1"),
        ("optimizer.num_steps=-1", "at least 0"),
    ],
)
def test_wrong_overrides_list_the_known(override, message):
    config = papers.build_config("softmax_market", papers.EXPERIMENTS, scale="small")
    with pytest.raises(ValueError, match=message):
        parse_overrides(config, [override])


def test_overrides_keep_types():
    config = papers.build_config("softmax_market", papers.EXPERIMENTS, scale="small")
    overrides = ["optimizer.learning_rate=1", "optimizer.boundaries=(3,4)", "data.flip=false"]
    config = parse_overrides(config, [*overrides, "model.weights=a=b.pth"])
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.optimizer.boundaries == (3, 4)
    assert config.data.flip is False
    assert config.model.weights == "a=b.pth"


@pytest.mark.parametrize("name", sorted(papers.TABLES))
def test_tables_are_rectangular_and_name_rows(name):
    table = papers.TABLES[name]
    if isinstance(table, papers.PaperComplexity):
        assert table.printed.keys() <= complexity.NETWORKS.keys()
        assert {len(row) for row in (*table.literature, *table.printed.values())} == {3, 4}
        return
    assert all(len(row) == len(table.columns) + 1 for row in table.literature)
    assert all(len(row) == len(table.columns) + 2 for row in table.rows)
    labels = [label for label, *_ in table.rows]
    assert {label for pair in table.compared for label in pair} <= set(labels)
    for column in table.columns:
        assert "/" not in column or column.partition("/")[0] in protocols.PROTOCOLS
    for _, exp, *printed in table.rows:
        config = papers.build_config(exp, papers.EXPERIMENTS, scale="paper")
        paper = papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper")
        own = {
            column: number
            for column, number in zip(table.columns, printed, strict=True)
            if "/" not in column and number is not None
        }
        assert own.items() <= (paper or {}).items()


def test_figures_name_rows():
    for figure in papers.FIGURES.values():
        assert figure.draw in figures.FIGURES
        for exp in figure.rows.values():
            papers.build_config(exp, papers.EXPERIMENTS, scale="small")


def test_pixels_are_what_the_weights_expect():
    config = papers.build_config("batch_contrastive_market", papers.EXPERIMENTS, scale="small")
    assert build.preprocess(config).std.tolist() == [64.0] * 3
    for name, weights, mean, std in (
        ("resnet18", "a.pth", IMAGENET_MEAN, IMAGENET_STD),
        ("efficientnet_lite0", "efficientnet_lite0", (127.0,) * 3, (128.0,) * 3),
        ("caffenet", "a.mat", IMAGENET_MEAN, (1.0,) * 3),
    ):
        own = changed(config, model={"name": name, "weights": weights, "stride": None})
        made = build.preprocess(own)
        np.testing.assert_allclose((made.mean, made.std), (mean, std), rtol=1e-6)
    with pytest.raises(ValueError, match=r"efficientnet_lite1 is no weights file: known endings"):
        build.preprocess(changed(config, model={"weights": "efficientnet_lite1"}))
