"""What the networks cost, beside Table 5 of csn: parameters, FLOPs and depth.

    python experiments/complexity.py

How it is counted:

* Parameters are all of them, batch norm and biases too.
* FLOPs are two for each multiplication with its addition, in convolutions (their zero padding
  too), products with matrices and the correlation; interpolation, pooling, batch norm and
  activations are not counted. "an image" is what belongs to one image and is computed once for many
  comparisons, "a comparison" what sees two; a pair is two images and a comparison.
* "by XLA" is the same pair as XLA counts the program for a GPU, before it is compiled: everything
  but the zeros of the padding, with convolutions and the correlation by their definitions.
* "layers" are those with weights on the longest path from an image to the outputs; "convolutions"
  are all with weights of their own but the ranking net's, which gives the depths of Table 5. The
  fc6 of CaffeNet and VGG16 is a convolution here. Identification heads are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.extend import core
from tqdm import tqdm

from experiments.launch import exit_status, prepare_jax
from experiments.papers import TABLES, PaperComplexity
from reid_jax import models, parallel

__all__ = ["NETWORKS", "Cost", "cost", "markdown", "multiply_adds", "weight_layers"]

# Options of models.build, and the (height, width) of the image.
NETWORKS = {
    "csn (L2)": ({"name": "csn", "levels": "l2"}, (160, 60)),
    "csn (L3)": ({"name": "csn", "levels": "l3"}, (160, 60)),
    "csn (L4)": ({"name": "csn", "levels": "l4"}, (160, 60)),
    "csn (L2, L3)": ({"name": "csn"}, (160, 60)),
    "csn (L2, L3), cls": ({"name": "csn", "ranking": False}, (160, 60)),
    "csn (L2, L3), sim_grid=20x8": ({"name": "csn", "sim_grid": "20x8"}, (160, 60)),
    "csn (L2, L3, L4)": ({"name": "csn", "levels": "l2l3l4"}, (160, 60)),
    "csn (L2, L3, L4), trunk=table5": (
        {"name": "csn", "levels": "l2l3l4", "trunk": "table5"},
        (160, 60),
    ),
    "csn (L2, L3, L4), trunk=table5, f4=5": (
        {"name": "csn", "levels": "l2l3l4", "trunk": "table5", "f4": 5},
        (160, 60),
    ),
    "csn (L2, L3, L4), C1": ({"name": "csn", "levels": "l2l3l4", "dividing": False}, (160, 60)),
    "csn (L2, L3, L4), C2": (
        {"name": "csn", "levels": "l2l3l4", "attention": "center_crop"},
        (160, 60),
    ),
    "nine_conv": ({"name": "nine_conv"}, (128, 48)),
    "nine_conv, verification": ({"name": "nine_conv", "verification": "relu_diff"}, (128, 48)),
    "caffenet, verification": ({"name": "caffenet", "verification": "square"}, (227, 227)),
    "vgg16, verification": ({"name": "vgg16", "verification": "square"}, (224, 224)),
    "resnet50, verification": ({"name": "resnet50", "verification": "square"}, (224, 224)),
    "resnet50": ({"name": "resnet50"}, (256, 128)),
    "resnet18": ({"name": "resnet18"}, (256, 128)),
}
"""The networks of the project, with the inputs of their papers."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a network costs; FLOPs are two for each multiplication with its addition.

    Attributes:
        num_parameters: all of them.
        image_flops: of what belongs to one image.
        comparison_flops: of what sees two images.
        xla_flops: of a pair, as XLA counts them; None where it does not.
        num_layers: layers with weights on the longest path.
        num_convolutions: convolutions with weights of their own, without the ranking net's.
    """

    num_parameters: int
    image_flops: int
    comparison_flops: int
    xla_flops: float | None
    num_layers: int
    num_convolutions: int

    @property
    def pair_flops(self) -> int:
        """FLOPs of a pair of images of which nothing is known yet."""
        return 2 * self.image_flops + self.comparison_flops


def cost(options: dict[str, Any], image_size: tuple[int, int], *, by_xla: bool = True) -> Cost:
    """Cost of a network at an image size; nothing is computed or compiled.

    Args:
        options: of `reid_jax.models.build`, its `name` too; with `verification` it is a
            `reid_jax.models.Siamese` of that network.
        image_size: (height, width).
        by_xla: asks XLA too, which lowers the network once more.
    """
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    fields = {name: value for name, value in options.items() if name != "verification"}
    single = network = models.build(**fields)
    if single.scores_pairs:
        # The definition of the correlation, whose products are what the paper counts.
        network = single.clone(correlation="grouped_conv")
    elif "verification" in options:
        network = models.Siamese(single, verification=options["verification"])
    images = (image,) * (1 if network is single else 2)
    init = functools.partial(network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), *images)
    whole = functools.partial(network.apply, train=False)
    flops = 2 * multiply_adds(whole, variables, *images)
    if network is single:
        image_flops = flops
    elif isinstance(network, models.Siamese):
        of_single = models.backbone_variables(variables)
        embed = functools.partial(single.apply, train=False)
        image_flops = 2 * multiply_adds(embed, of_single, image)
    else:
        embed = functools.partial(network.apply, method="embed")
        image_flops = 2 * multiply_adds(embed, variables, image)
    kernels = traverse_util.flatten_dict(variables["params"])
    convolutions = [
        path
        for path, leaf in kernels.items()
        if path[-1] == "kernel" and leaf.ndim == 4 and "ranking_net" not in path
    ]
    return Cost(
        num_parameters=sum(math.prod(leaf.shape) for leaf in kernels.values()),
        image_flops=image_flops,
        comparison_flops=0 if network is single else flops - 2 * image_flops,
        xla_flops=_by_xla(whole, variables, images) if by_xla else None,
        num_layers=weight_layers(whole, variables, *images),
        num_convolutions=len(convolutions),
    )


def _by_xla(apply: Callable[..., Any], variables: Any, images: Sequence[Any]) -> float | None:
    # Not for a CPU, whose convolutions have loops, and XLA counts what is inside once.
    traced = jax.jit(apply).trace(variables, *images)
    flops = (traced.lower(lowering_platforms=("cuda",)).cost_analysis() or {}).get("flops")
    return None if flops is None else flops * (2 // len(images))


# Counting in a program --------------------------------------------------------------------------


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Multiplications with their additions in the convolutions and matrix products of a function.

    Args:
        function: what is counted; it is traced, not run.
        *args: arrays, or their shapes.
    """
    return _multiply_adds(jax.make_jaxpr(function)(*args).jaxpr)


def _multiply_adds(jaxpr: core.Jaxpr) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += eqn.outvars[0].aval.size * math.prod(kernel) // outputs
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += eqn.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        else:
            inner = [_multiply_adds(sub) for sub in _counted(eqn)]
            if eqn.primitive.name == "cond":
                # One form for each platform. One without products gathers what others multiply.
                total += min(inner)
            else:
                total += sum(inner) * eqn.params.get("length", 1)
    return total


def _inner(eqn: Any) -> Iterator[core.Jaxpr]:
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _counted(eqn: Any) -> list[core.Jaxpr]:
    """What is inside; of the forms for each platform those with a convolution, where there are.

    Winograd's form of a convolution has fewer products than it has.
    """
    inner = list(_inner(eqn))
    if eqn.primitive.name != "cond":
        return inner
    return [form for form in inner if _has_convolution(form)] or inner


def _has_convolution(jaxpr: core.Jaxpr) -> bool:
    return any(
        eqn.primitive.name == "conv_general_dilated" or any(map(_has_convolution, _inner(eqn)))
        for eqn in jaxpr.eqns
    )


def weight_layers(apply: Callable[..., Any], variables: Any, *images: Any) -> int:
    """Convolutions and matrix products with weights on the longest path from images to outputs.

    Args:
        apply: `apply(variables, *images)`.
        variables: of the network, or their shapes.
        *images: likewise.
    """
    jaxpr = jax.make_jaxpr(apply)(variables, *images).jaxpr
    # Depth of what depends on an image; None for weights and constants.
    num_variables = len(jax.tree.leaves(variables))
    depths = [None] * num_variables + [0] * (len(jaxpr.invars) - num_variables)
    return max(depth for depth in _depths(jaxpr, depths) if depth is not None)


def _depths(jaxpr: core.Jaxpr, depths: Sequence[int | None]) -> list[int | None]:
    known = dict(zip(jaxpr.invars, depths, strict=True))
    for eqn in jaxpr.eqns:
        given = [None if isinstance(v, core.Literal) else known.get(v) for v in eqn.invars]
        of_images = [depth for depth in given if depth is not None]
        found = [max(of_images, default=None)] * len(eqn.outvars)
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            if len(of_images) == 1:  # The other factor is weights.
                found = [of_images[0] + 1]
        elif inner := _counted(eqn):
            passed = given[1:] if eqn.primitive.name == "cond" else given
            branches = [_depths(sub, passed) for sub in inner if len(sub.invars) == len(passed)]
            if branches:
                # As for the products, the form with the fewest.
                found = min(branches, key=lambda b: max((d for d in b if d is not None), default=0))
        known.update(zip(eqn.outvars, found, strict=True))
    return [None if isinstance(v, core.Literal) else known.get(v) for v in jaxpr.outvars]


# The table --------------------------------------------------------------------------------------

_HEADINGS = (
    *("network", "parameters (M)", "GFLOPs: an image", "a comparison", "a pair"),
    *("a pair, by XLA", "layers", "convolutions", "paper: parameters (M)", "GFLOPs", "depth"),
)


def markdown(table: PaperComplexity) -> str:
    """The networks of the project and those of a paper's table, as Markdown with its notes."""
    rows = [(label, *[""] * 7, *printed) for label, *printed in table.literature]
    networks = tqdm(NETWORKS.items(), unit="network", disable=not parallel.is_main_process())
    for name, (options, size) in networks:
        networks.set_description(name)
        found = cost(options, size)
        flops = [found.image_flops, found.comparison_flops, found.pair_flops, found.xla_flops]
        rows.append(
            (
                f"{name}, {size[0]}x{size[1]}",
                f"{found.num_parameters / 1e6:.3f}",
                *("" if count is None else f"{count / 1e9:.3f}" for count in flops),
                found.num_layers,
                found.num_convolutions,
                *table.printed.get(name, [""] * 3),
            )
        )
    lines = [f"### {table.title}", "", *(_line(row) for row in (_HEADINGS, ["---"] * 11, *rows))]
    counting = (__doc__ or "").partition("How it is counted:\n\n")[2].rstrip()
    return "\n".join([*lines, "", counting, ""])


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/complexity.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    prepare_jax()
    return exit_status(lambda: parallel.say(markdown(TABLES["csn/5"])))


if __name__ == "__main__":
    sys.exit(main())
