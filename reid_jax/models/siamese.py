"""Two streams of one network with a verification head."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax.keys import as_row_keys
from reid_jax.models.dropout import dropout
from reid_jax.models.initialisers import before_loss

__all__ = ["VERIFICATION_HEADS", "Siamese", "backbone_variables"]

VERIFICATION_HEADS = ("square", "relu_diff", "none")
VERIFICATION_DROPOUTS = ("after_square", "before_square")


class Siamese(nn.Module):
    """The same backbone on both images of a pair, and the question whether they show one identity.

    `apply(variables, image_a, image_b, train=...)` takes images [P, H, W, 3] and returns
    `embedding_a`, `embedding_b` [P, D], `logits_a`, `logits_b` [P, K] (one identification
    head for both streams) and `pair_logits` [P, 2], index 1 = same identity. In training give
    `mutable=["batch_stats"]` and, if anything is dropped, `keys_a` and `keys_b`, one a pair.

    Both streams go through the backbone in one call. Batch statistics are separate for each stream,
    as in two calls; the running averages are moved by the mean of the two.

    For single images apply the backbone itself to its share of the variables::

        taps = siamese.backbone.apply(backbone_variables(variables), image, train=False)

    Attributes:
        backbone: single-image network with the fields `num_identities`, `dropout`,
            `axis_name` and `num_streams`, which are set from here.
        verification: 'square': (a - b)^2, dropout, dense 2 (Zheng, Zheng and Yang, Sec. III-D).
            'relu_diff': relu(a - b), dense 512, leaky ReLU 0.2, dense 2 (the code that CLEVER
            builds on; not symmetric in a and b). 'none': no `pair_logits`, for losses on the
            embeddings, of which nothing is dropped (the contrastive row of identif_verif).
        num_identities: size of the identification head; None leaves `logits_a` and `logits_b`
            out.
        dropout: share that is dropped of the embeddings on the way to the identification head and,
            with 'square', of what goes to the verification head.
        verification_dropout: what is dropped on the way to the verification head: the result of the
            square layer, 'after_square' (the authors' code), or the embeddings that it squares,
            'before_square', as they are dropped for the identification head (a port to Caffe).
        axis_name: device axis over which the pairs are divided; None if all are here.
    """

    # See `network.Network`.
    num_images = 2
    takes_keys = True
    scores_pairs = False

    backbone: nn.Module
    verification: str
    num_identities: int | None = None
    dropout: float = 0.0
    verification_dropout: str = "after_square"
    axis_name: str | None = None

    def __post_init__(self) -> None:
        for field, known in (
            ("verification", VERIFICATION_HEADS),
            ("verification_dropout", VERIFICATION_DROPOUTS),
        ):
            if (given := getattr(self, field)) not in known:
                raise ValueError(f"{field}={given!r} is not known; known: {', '.join(known)}.")
        for field, unset in (("num_identities", None), ("dropout", 0.0)):
            own, given = getattr(self, field), getattr(self.backbone, field)
            if given not in (unset, own):
                raise ValueError(
                    f"the backbone has {field}={given} and the siamese network {own}: give it to "
                    "the siamese network only."
                )
        self.backbone = self.backbone.clone(
            num_identities=self.num_identities,
            dropout=self.dropout,
            axis_name=self.axis_name,
            num_streams=2,
        )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        image_a: jax.Array,
        image_b: jax.Array,
        *,
        train: bool = False,
        keys_a: jax.Array | None = None,
        keys_b: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        if image_a.shape != image_b.shape:
            raise ValueError(
                f"image_a and image_b must have one shape, got {image_a.shape} and {image_b.shape}."
            )
        # A backbone may drop values of its hidden layers too.
        drops = train and (self.dropout > 0 or getattr(self.backbone, "hidden_dropout", 0) > 0)
        keys = None
        if drops:
            if keys_a is None or keys_b is None:
                raise ValueError("dropout in training needs keys_a and keys_b, one per pair.")
            num_pairs = image_a.shape[0]
            keys_a, keys_b = as_row_keys(keys_a, num_pairs), as_row_keys(keys_b, num_pairs)
            keys = jnp.concatenate([keys_a, keys_b])

        taps = self.backbone(jnp.concatenate([image_a, image_b]), train=train, keys=keys)
        a, b = jnp.split(taps["embedding"], 2)
        outputs = {"embedding_a": a, "embedding_b": b}
        if self.num_identities:
            outputs["logits_a"], outputs["logits_b"] = jnp.split(taps["logits"], 2)

        if self.verification == "square":
            if drops and self.verification_dropout == "before_square":
                # The keys of the identification head, so that both heads see the same values.
                a, b = jnp.split(dropout(taps["embedding"], self.dropout, keys), 2)
            difference = jnp.square(a - b)
            if drops and keys_a is not None and self.verification_dropout == "after_square":
                # The backbone used keys_a as they are; this layer needs bits of its own.
                own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys_a, 1)
                difference = dropout(difference, self.dropout, own_keys)
        elif self.verification == "relu_diff":
            hidden = nn.Dense(
                512, kernel_init=nn.initializers.he_normal(), name="verification_hidden"
            )(nn.relu(a - b))
            difference = nn.leaky_relu(hidden, 0.2)
        else:
            return outputs
        outputs["pair_logits"] = nn.Dense(2, kernel_init=before_loss, name="verification_head")(
            difference
        )
        return outputs


def backbone_variables(variables: dict) -> dict:
    """The backbone's share of a siamese network's variables, for `siamese.backbone.apply`.

    Args:
        variables: 'params' and 'batch_stats' of `Siamese`.

    Returns:
        the same collections of its backbone alone.
    """
    return {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
