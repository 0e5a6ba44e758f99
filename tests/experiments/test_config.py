"""The configuration: today's values of every row, its types and limits, and its ways into text."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
from flat_config import defaults, flat

from experiments import papers
from experiments.build import MEANS
from experiments.config import (
    LOSS_KEYS,
    MODEL_KEYS,
    SECTIONS,
    Config,
    Loss,
    Model,
    changed,
    from_dict,
    from_json,
    load_config,
    page,
    parse_overrides,
    table,
    to_json,
)
from experiments.config.sections import annotations
from experiments.config.values import known_values
from reid_jax import models, objectives
from reid_jax.objectives.clever import INTER_GRADS
from reid_jax.objectives.inherent import REDUCTIONS, SCATTER_OVER

ROOT = Path(__file__).parents[2]
# A record of values: of each experiment the default row at paper scale, and of each row and scale
# what differs and which keys it lacks. A value changes here when a row is corrected, on purpose.
GOLDEN = json.loads((Path(__file__).parent / "resolved_rows.json").read_text())
CASES = [(exp, key) for exp, golden in GOLDEN.items() for key in golden["rows"]]
RENAMED = {"method": "objective", "model.evaluation": "model.test_statistics"}


def build(exp, scale="small"):
    return papers.build_config(exp, papers.EXPERIMENTS, scale=scale)


def of_case(exp, key):
    scale, _, row = key.partition(" ")
    return build(f"{exp}:{row}" if row else exp, scale)


# Rows ------------------------------------------------------------------------------------------


def test_the_golden_file_holds_every_printed_row_at_both_scales():
    assert GOLDEN.keys() == papers.EXPERIMENTS.keys()
    for name, experiment in papers.EXPERIMENTS.items():
        rows = {
            f"{scale} {row}".strip() for scale in ("paper", "small") for row in experiment.paper
        }
        assert rows | {"paper", "small"} <= GOLDEN[name]["rows"].keys()
        given = set(re.findall(r"(?:[ ,])(\w+)=", " ".join(GOLDEN[name]["rows"])))
        if name in ("clever_cuhk03", "identif_verif_market", "inherent_pku"):
            assert given >= papers.row_keys(experiment).keys() - {"dropout"}


@pytest.mark.parametrize(("exp", "key"), CASES)
def test_every_row_keeps_its_values(exp, key):
    changes, lacking = GOLDEN[exp]["rows"][key]
    old = {k: v for k, v in {**GOLDEN[exp]["default"], **changes}.items() if k not in lacking}
    old = {RENAMED.get(name, name): value for name, value in old.items()}
    new = flat(of_case(exp, key))
    # ResNet's None meant "uniform"; None now is the network's own default.
    if "model.head_init_std" in old:
        assert old.pop("model.head_init_std") is None
        assert new.pop("model.head_init_std") == "uniform"
    # The directory of a run is named for every shell and file system, and where it comes from is a
    # field of its own.
    if start := old.get("model.start_from", ""):
        old["model.start_from"] = re.sub("[,=]", "-", start)
        exp_of_start = start.removeprefix("runs/").replace(",", ":", 1)
        expected = exp_of_start if start.startswith("runs/") else ""
        assert new.pop("model.start_exp") == expected
    # Was a constant in the code, of means=ema.
    if new["objective"] == "inherent":
        assert new.pop("loss.mean_rate") == 0.5
    for name, value in old.items():
        assert new[name] == value, name
        assert type(new[name]) is type(value), name
    fresh = {name: value for name, value in new.items() if name not in old}
    assert fresh == {name: value for name, value in defaults().items() if name in fresh}


@pytest.mark.parametrize(("exp", "key"), CASES)
def test_json_gives_an_equal_config(exp, key):
    config = of_case(exp, key)
    again = from_json(to_json(config))
    assert again == config
    assert to_json(again) == to_json(config)
    assert isinstance(again.data.image_size, tuple)


def test_paper_rows_are_recognised_whatever_their_schedule():
    for name, experiment in papers.EXPERIMENTS.items():
        for row, numbers in experiment.paper.items():
            exp = f"{name}:{row}" if row else name
            config = build(exp, "paper")
            rows = [papers.paper_row(exp, config, papers.EXPERIMENTS, scale="paper")]
            other = parse_overrides(config, ["optimizer.num_steps=7", "model.dtype=bfloat16"])
            rows.append(papers.paper_row(exp, other, papers.EXPERIMENTS, scale="paper"))
            assert rows == [numbers, numbers]
    exp = "batch_contrastive_market"
    for override in (
        "loss.margin=2",
        "data.joined=cuhk03",
        "model.start_from=x",
        "model.name=vgg16",
        "data.mean=channel",
        "evaluation.rerank=true",
        "evaluation.expand=3",
        "evaluation.normalise=false",
    ):
        free = ["model.stride=none"] * ("vgg16" in override)
        config = parse_overrides(build(exp), [override, *free])
        assert papers.paper_row(exp, config, papers.EXPERIMENTS, scale="small") is None
    for exp in ("identif_verif_market:ratio_rule=code", "identif_verif_market:mean=channel"):
        assert papers.paper_row(exp, build(exp), papers.EXPERIMENTS, scale="small") is None


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        ("batch_contrastiv_market", "did you mean 'batch_contrastive_market'"),
        ("nothing", "known: batch_contrastive_duke"),
        ("softmax_market:", "nothing after its colon"),
        ("batch_contrastive_market:tau=1", "no key 'tau'; known: center_rate"),
        ("batch_contrastive_market:margn=1", "did you mean 'margin'"),
        ("batch_contrastive_market:margin=wide", "margin=wide: expected a value of type float"),
        ("batch_contrastive_market:margin", "not of the form key=value"),
        ("batch_contrastive_market:margin=1,", "not of the form key=value"),
        ("batch_contrastive_market:margin=1,margin=2", "gives margin twice"),
        ("batch_contrastive_market:margin=-1", "loss.margin=-1.0: expected .* at least 0"),
        ("softmax_market:margin=1", "no key 'margin'"),
        ("softmax_market:dataset=viper", "no key 'dataset'"),
        (
            "csn_cuhk03:row=l5",
            "row='l5'; known: cls, l2, l3, l4, l2l3, l2l3l4, l2l3l4_table5",
        ),
        ("clever_pretrain:row=iii", "known: ic, frw_ic, intra_i"),
        ("clever_cuhk03:images=drawn", "images='drawn'; known: detected, labeled"),
        ("clever_cuhk03:neg_updates_centers=maybe", "neg_updates_centers=maybe: .* bool"),
        ("inherent_pku:row=set4", "row='set4'; known: set1, set2, set3"),
        ("inherent_pku:lr_schedule=exp", "lr_schedule='exp'; known: constant, exponential"),
        ("identif_verif_market:loss=both", "loss='both'; known: i, v, iv, contrastive"),
        ("identif_verif_oxford:backbone=alexnet", "'alexnet'; known: caffenet, vgg16, resnet50"),
        ("identif_verif_duke:ratio_rule=none", "sampler.ratio_rule='none'; known: paper, code"),
        ("identif_verif_duke:mean=median", "data.mean='median'; known: imagenet, channel, image"),
        ("identif_verif_duke:test_mode=twice", "test_mode='twice'; known: single, dense_flip"),
    ],
)
def test_wrong_experiments_say_what_is_known(exp, message):
    with pytest.raises(ValueError, match=message):
        build(exp)


def test_directories_of_experiments_suit_every_file_system():
    assert papers.slug("clever_pretrain:row=ic") == "clever_pretrain-row-ic"
    exps = [f"{name}:{row}" for name, e in papers.EXPERIMENTS.items() for row in e.paper if row]
    slugs = {papers.slug(exp) for exp in exps}
    assert len(slugs) == len(exps)
    assert all(re.fullmatch(r"[\w.+-]+", name, re.ASCII) for name in slugs)


def test_the_run_to_start_from_is_named():
    model = build("clever_viper:row=iv").model
    assert model.start_exp == "clever_pretrain:row=iv"
    assert model.start_from == "runs/clever_pretrain-row-iv"
    build(model.start_exp)
    own = parse_overrides(build("clever_viper"), ["model.start_from=elsewhere"]).model
    assert (own.start_from, own.start_exp) == ("elsewhere", "")
    overrides = ["model.start_from=a", "model.start_exp=clever_pretrain"]
    assert parse_overrides(build("softmax_market"), overrides).model.start_exp == "clever_pretrain"
    with pytest.raises(ValueError, match=r"start_exp=clever_pretrain needs model.start_from"):
        parse_overrides(build("softmax_market"), overrides[1:])


# Overrides -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.learning_rate=1", 1.0),
        ("optimizer.learning_rate=1e-3", 0.001),
        ("optimizer.num_steps=50_000", 50_000),
        ("optimizer.num_steps=0", 0),
        ("optimizer.boundaries=(3,4)", (3, 4)),
        ("optimizer.boundaries=3", (3,)),
        ("optimizer.boundaries=(3,)", (3,)),
        ("optimizer.boundaries=()", ()),
        ("optimizer.decay=exponential", "exponential"),
        ("optimizer.head_steps=10", 10),
        ("optimizer.num_epochs=3", 3),
        ("data.image_size=(128,64)", (128, 64)),
        ("data.image_size=128,64", (128, 64)),
        ("data.image_size=[128, 64]", (128, 64)),
        ("data.crop_size=()", ()),
        ("data.crop_size=(96, 48)", (96, 48)),
        ("data.flip_or_shift=(3,1)", (3, 1)),
        ("data.flip=false", False),
        ("data.flip=True", True),
        ("data.joined=cuhk03,market1501", ("cuhk03", "market1501")),
        ("data.joined=('cuhk03', \"market1501\")", ("cuhk03", "market1501")),
        ("data.joined=cuhk03", ("cuhk03",)),
        ("data.partition=", ""),
        ("data.partition=1,(2", "1,(2"),
        ("data.erase=0.5", 0.5),
        ("model.weights=a=b.pth", "a=b.pth"),
        ("model.weights=none", "none"),
        ("model.verification=none", "none"),
        ("model.verification=", ""),
        ("model.head_init_std=uniform", "uniform"),
        ("model.head_init_std=0.01", 0.01),
        ("model.head_init_std=none", None),
        ("model.width=none", None),
        ("model.dtype=bfloat16", "bfloat16"),
        ("model.stride=None", None),
        ("evaluation.normalise=false", False),
        ("evaluation.shortlist=100", 100),
    ],
)
def test_overrides_are_read_by_their_annotation(override, value):
    path, _, _ = override.partition("=")
    section, _, key = path.partition(".")
    config = parse_overrides(build("softmax_market"), [override])
    found = getattr(getattr(config, section), key)
    assert (found, type(found)) == (value, type(value))


def test_a_value_called_none_is_not_nothing():
    config = parse_overrides(build("clever_cuhk03"), ["loss.inter_grad=none"])
    assert config.loss.inter_grad == "none"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rate=1", "no section 'optimiser' (did you mean 'optimizer'?); known:"),
        ("optimizer.rate=1", "optimizer has no key 'rate'; known: boundaries, boundary_epochs, "),
        ("optimizer.num_step=1", "did you mean 'num_steps'"),
        ("learning_rate=1", "not of the form section.key=value"),
        ("optimizer.num_steps", "not of the form section.key=value"),
        ("optimizer.num_steps=many", "optimizer.num_steps=many: expected a value of type int, at"),
        ("optimizer.num_steps=1.5", "expected a value of type int, at least 0"),
        ("optimizer.num_steps=-1", "at least 0"),
        ("optimizer.num_steps=true", "type int"),
        ("optimizer.num_steps=", "type int"),
        ("optimizer.learning_rate=fast", "type float, at least 0"),
        ("optimizer.learning_rate=nan", "learning_rate=nan: expected a value of type float"),
        ("optimizer.learning_rate=inf", "learning_rate=inf: expected a finite number"),
        ("optimizer.learning_rate=none", "learning_rate=none: expected a value of type float"),
        ("optimizer.boundaries=(3,x)", "boundaries=(3,x): expected a value of type tuple of int"),
        ("optimizer.boundaries=3,,4", "tuple of int"),
        ("optimizer.decay=linear", "optimizer.decay='linear'; known: cosine, exponential, steps"),
        ("train.log_every=0", "train.log_every=0: expected a value of type int, at least 1"),
        (
            "data.image_size=(0,5)",
            "data.image_size=(0,5): expected a value of type tuple of 2 int",
        ),
        ("data.image_size=128", "tuple of 2 int, at least 1"),
        ("data.image_size=1,2,3", "tuple of 2 int, at least 1"),
        ("data.crop_size=96", "data.crop_size=(96,): expected (height, width), or () for none"),
        ("data.flip=maybe", "data.flip=maybe: expected a value of type bool"),
        (
            "data.erase=1.5",
            "data.erase=1.5: expected a value of type float, at least 0 and at most",
        ),
        ("model.dropout=1", "type float, at least 0 and below 1"),
        (
            "model.name=resnet19",
            "model.name='resnet19'; known: caffenet, csn, efficientnet_lite0, nine_conv, resnet18",
        ),
        ("model.dtype=float64", "model.dtype='float64'; known: float32, bfloat16, none"),
        ("model.head_init_std=normal", "type float or uniform or none, at least 0"),
        ("model.width=0", "model.width=0: expected a value of type int or none, at least 1"),
        ("evaluation.protocol=none", "known: single-query, single-query-swapped"),
        ("evaluation.test_mode=denseflip", "test_mode='denseflip'; known: single, dense_flip"),
        ("loss.margin=1", "loss.margin belongs to batch_contrastive, identification_contrastive,"),
        ("loss.margin=1", "clever, triplet, csn, strong, and the objective is softmax"),
        ("loss.gradient=eq3", "loss.gradient='eq3'; known: autodiff, eq8, none"),
        ("model.levels=l2", "model.levels belongs to csn, and the network is resnet18"),
        (
            "model.name=vgg16",
            "model.stride belongs to resnet18, resnet50, and the network is vgg16",
        ),
    ],
)
def test_wrong_overrides_are_refused_in_one_message(override, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_overrides(build("softmax_market"), [override])
    assert "\n" not in str(error.value)


def test_overrides_are_checked_together():
    overrides = ["model.name=vgg16", "model.stride=none", "model.hidden_dropout=0.5"]
    assert parse_overrides(build("softmax_market"), overrides).model.name == "vgg16"
    for exp, overrides, lacking in (
        ("batch_contrastive_market", ["loss.margin=none"], "batch_contrastive needs a value of"),
        ("inherent_pku", ["loss.means=ema", "loss.mean_rate=none"], "loss.mean_rate"),
    ):
        with pytest.raises(ValueError, match=lacking):
            parse_overrides(build(exp), overrides)
    assert parse_overrides(build("inherent_pku"), ["loss.means=ema"]).loss.mean_rate == 0.5


# In code ---------------------------------------------------------------------------------------


def test_nothing_can_be_set():
    config = build("softmax_market")
    for where in (config, config.evaluation, config.model):
        for key in (dataclasses.fields(where)[0].name, "shortlits"):
            with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
                setattr(where, key, "x")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("data", {"image_size": (0, 5)}, r"data.image_size=\(0, 5\): expected .* at least 1"),
        ("data", {"image_size": 5}, "tuple of 2 int"),
        ("data", {"flip": 1}, "data.flip=1: expected a value of type bool"),
        ("data", {"shift": 1.0}, "data.shift=1.0: expected a value of type int"),
        ("data", {"partition": None}, "data.partition=None: expected a value of type str"),
        ("data", {"erase": float("nan")}, "data.erase=nan"),
        ("evaluation", {"test_mode": "denseflip"}, "test_mode='denseflip'; known: single"),
        ("optimizer", {"num_steps": "7"}, "optimizer.num_steps=7: expected a value of type int"),
        ("optimizer", {"learning_rate": float("inf")}, "finite"),
    ],
)
def test_wrong_values_are_refused_in_code(section, change, message):
    config = build("softmax_market")
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(getattr(config, section), **change)
    with pytest.raises(ValueError, match=message):
        changed(config, **{section: change})


def test_wrong_sections_are_refused_in_code():
    config = build("softmax_market")
    for change, message in (
        ({"objective": "hinge"}, "objective='hinge'; known: softmax, batch_contrastive"),
        ({"dataset": 3}, "dataset=3: expected a value of type str"),
        ({"loss": {"margin": 1.0}}, "expected the section Loss"),
        ({"loss": Loss(margin=1.0)}, "loss.margin belongs to"),
        ({"objective": "triplet"}, "the objective triplet needs a value of loss.margin"),
        ({"model": Model(name="csn", f4=3, stride="caffe")}, "model.stride belongs to"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, **change)
    with pytest.raises(TypeError, match="shortlits"):
        changed(config, evaluation={"shortlits": 3})


def test_lists_and_whole_numbers_become_what_the_field_is():
    config = changed(
        build("softmax_market"), data={"image_size": [64, 32]}, optimizer={"learning_rate": 1}
    )
    assert config.data.image_size == (64, 32)
    assert isinstance(config.optimizer.learning_rate, float)
    assert hash(config) == hash(from_json(to_json(config)))


def test_other_keys_in_json_are_refused_by_name(tmp_path):
    tree = json.loads(to_json(build("softmax_market")))
    old = {"method" if key == "objective" else key: value for key, value in tree.items()}
    with pytest.raises(ValueError, match="unknown: method; missing: objective"):
        from_dict(old)
    lacking = ("image_size", "erase", "mean")
    data = {key: value for key, value in tree["data"].items() if key not in lacking}
    with pytest.raises(ValueError, match=r"data.flop; missing: data.image_size, data.mean"):
        from_dict(tree | {"data": data | {"flop": 1}})
    # What an older version did not have is what it is today without a word.
    data = {key: value for key, value in tree["data"].items() if key != "erase"}
    assert from_dict(tree | {"data": data}).data.erase == 0
    with pytest.raises(ValueError, match=r"data.erase=a: expected a value of type float"):
        from_dict(tree | {"data": tree["data"] | {"erase": "a"}})
    with pytest.raises(ValueError, match="data=3: expected a section"):
        from_dict(tree | {"data": 3})
    with pytest.raises(ValueError, match="has sections"):
        from_dict([1])
    for content in ("[1]", "{", '{"config": 1}', '{"exp": 1}'):
        path = tmp_path / "broken.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=r"broken.json: "):
            load_config(path)


def test_a_config_is_loaded_from_a_runs_record_or_alone(tmp_path):
    config = build("clever_viper:row=ic")
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    assert load_config(path) == config
    path.write_text(json.dumps({"exp": "x", "seed": 0, "config": json.loads(to_json(config))}))
    assert load_config(str(path)) == config
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "nothing.json")


# What is known ---------------------------------------------------------------------------------


def test_the_table_has_every_key_with_its_meaning():
    config = build("csn_cuhk03")
    rows = table(config)
    assert [key for key, _, _ in rows] == list(flat(config))
    assert {key: value for key, value, _ in rows}["data.image_size"] == (96, 40)
    assert all(meaning and "\n" not in meaning for _, _, meaning in rows)


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "config.md").read_text() == page(), (
        "write it anew: python -m experiments.config > docs/config.md"
    )


def known(section, key):
    return set(known_values(annotations(SECTIONS[section])[key]))


def test_known_values_are_those_of_the_library():
    assert known("model", "name") == set(models.MODELS) == MODEL_KEYS.keys()
    assert known("loss", "means") == set(MEANS)
    assert known("loss", "inter_grad") == set(INTER_GRADS)
    assert known("loss", "reduction") == set(REDUCTIONS)
    assert known("loss", "scatter_over") == set(SCATTER_OVER)
    objective = set(known_values(annotations(Config)["objective"]))
    assert objective == LOSS_KEYS.keys()
    for name in objective:
        parameters = inspect.signature(getattr(objectives, name)).parameters.values()
        own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        # The rate is a constant of the moving means.
        assert own == set(LOSS_KEYS[name]) - {"mean_rate"}, name
    assert {key for keys in LOSS_KEYS.values() for key in keys} == annotations(Loss).keys()


NOT_OPTIONS = {
    *("parent", "name", "blocks", "bottleneck", "axis_name", "num_streams"),
    *("num_identities", "dropout"),
}


@pytest.mark.parametrize("name", MODEL_KEYS)
def test_options_of_networks_are_their_fields(name):
    fields = {field.name for field in dataclasses.fields(models.MODELS[name]())} - NOT_OPTIONS
    own = {{"evaluation": "test_statistics"}.get(field, field) for field in fields}
    assert own == set(MODEL_KEYS[name])
    for key in MODEL_KEYS[name]:
        for value in known_values(annotations(Model)[key]):
            if key in ("dtype", "head_init_std", "trunk", "sim_grid"):
                continue
            if (key, value) in {("pooling", "fc")} and name.startswith("resnet"):
                continue
            if (key, value) == ("pooling", "average") and not name.startswith("resnet"):
                continue
            option = {"test_statistics": "evaluation"}.get(key, key)
            models.build(name, **{option if option in fields else key: value})
