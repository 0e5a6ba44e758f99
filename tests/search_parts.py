"""A tiny model that sees colours, and folders of coloured crops."""

import cv2
import jax
import numpy as np

import reid_jax as rj
from reid_jax import models
from reid_jax.data import Source

PEOPLE = {"anna": (200, 40, 40), "bob": (40, 200, 40), "cleo": (40, 40, 200), "dan": (200, 200, 40)}


def make_embedder(seed=0, **scoring):
    model = models.ResNet(blocks=(1, 1), bottleneck=False, width=4, num_identities=None)
    preprocess = rj.Preprocess(size=(32, 32))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    random = np.random.default_rng(seed)

    def value(path, leaf):
        name = jax.tree_util.keystr(path)
        if "var" in name or "scale" in name:
            return np.ones(leaf.shape, np.float32)
        return random.normal(0, 0.3, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(value, {"batch_stats": {}, **shapes})
    return rj.Embedder(model, variables, preprocess, rj.Scoring(batch_size=4, **scoring))


def picture(colour, seed, size=(32, 32)):
    random = np.random.default_rng(seed)
    noise = random.normal(0, 12, (*size, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def write(path, colour, seed=0, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(colour, seed, size)[..., ::-1])
    return path


def write_photos(root):
    """Three crops by two cameras of each of four people, one sub-folder each."""
    for number, (name, colour) in enumerate(PEOPLE.items()):
        for i in range(3):
            write(root / name / f"{number}_c{1 + i % 2}_{i}.png", colour, 10 * number + i)
    return root


def people_source(*, people=8, cameras=(1, 1, 2), split="val", first=1):
    """Noisy pictures of one colour a person; the noise hides some of the colours."""
    random = np.random.default_rng(first)
    colours = random.integers(60, 200, (people, 3))
    colours = np.repeat(colours, len(cameras), axis=0)
    colours = colours + random.normal(0, 25, colours.shape)
    encoded = [
        cv2.imencode(".png", picture(colour, seed)[..., ::-1])[1].tobytes()
        for seed, colour in enumerate(colours)
    ]
    identities = np.repeat(np.arange(first, first + people), len(cameras))
    files = [f"{split}/{number}.png" for number in range(len(encoded))]
    return Source("rendered", split, files, identities, np.tile(cameras, people), encoded)
