"""Networks: `build(name, **options)` makes one by name.

A single-image network is `apply(variables, image [B, H, W, 3], train=...)` and returns a
dictionary with at least `embedding` [B, D] and, with `num_identities=K`, `logits` [B, K]. It
has the fields `num_identities`, `dropout`, `axis_name` and `num_streams` of
`ResNet`. Every network says what it is, see `Network`.
"""

from reid_jax.models.caffenet import CaffeNet
from reid_jax.models.csn import CSN, stripes
from reid_jax.models.description import MODELS, build, describe, from_description
from reid_jax.models.efficientnet_lite0 import EfficientNetLite0
from reid_jax.models.expected import expected_variables, misfits
from reid_jax.models.network import Network, usual_dtype
from reid_jax.models.nine_conv import NineConv
from reid_jax.models.resnet import ResNet, resnet18, resnet50
from reid_jax.models.siamese import Siamese, backbone_variables
from reid_jax.models.single_image import single_image, single_image_network
from reid_jax.models.vgg16 import VGG16

__all__ = [
    "CSN",
    "MODELS",
    "VGG16",
    "CaffeNet",
    "EfficientNetLite0",
    "Network",
    "NineConv",
    "ResNet",
    "Siamese",
    "backbone_variables",
    "build",
    "describe",
    "expected_variables",
    "from_description",
    "misfits",
    "resnet18",
    "resnet50",
    "single_image",
    "single_image_network",
    "stripes",
    "usual_dtype",
]
