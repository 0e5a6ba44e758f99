"""From a person's own folder to a model: what `reid-jax train` does, and its recipes.

    import reid_jax as rj

    trained = rj.recipes.train("my_crops", "model", minutes=30)
    trained.embedder(["a.jpg", "b.jpg"])

`rj.recipes.RECIPES` has the only hyper-parameters in the library.
"""

from reid_jax.recipes.division import Division, divided
from reid_jax.recipes.methods import RECIPES, Recipe, image_size, starting_network
from reid_jax.recipes.running import Trained, train

__all__ = [
    "RECIPES",
    "Division",
    "Recipe",
    "Trained",
    "divided",
    "image_size",
    "starting_network",
    "train",
]
