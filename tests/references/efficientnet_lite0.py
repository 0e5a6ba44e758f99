"""EfficientNet-Lite0 in plain float64 NumPy, from a state dictionary of PyTorch's names.

Written from the code that the ImageNet weights are for (PyPI, efficientnet_lite_pytorch 0.1.0),
whose outputs it equals; padding as for its image size of 224.
"""

import math

import numpy as np

# repeats, kernel, stride, expansion; widths are those of the tensors.
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6))
STAGES += ((1, 3, 1, 6),)


def padding(size, kernel, stride):
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolution(x, weight, stride, sides, groups):
    """[B, C, H, W] by [O, C / groups, h, w]; groups is 1 or C."""
    height, width = weight.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), sides, sides))
    rows = (x.shape[2] - height) // stride + 1
    columns = (x.shape[3] - width) // stride + 1
    y = 0
    for i in range(height):
        for j in range(width):
            seen = x[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
            seen = seen[:, :, :rows, :columns]
            if groups == 1:
                y = y + np.einsum("bchw,oc->bohw", seen, weight[:, :, i, j], optimize=True)
            else:
                y = y + seen * weight[:, 0, i, j][:, None, None]
    return y


def taps(state, images, *, last_stride=2, train=False):
    """Stages' outputs, embedding and logits for [B, H, W, 3], which were standardised before.

    And, with the statistics of the batch, where the running ones move to.
    """
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    moved = {}

    def layer(x, conv, norm, stride=1, size=224, active=True):
        weight = state[f"{conv}.weight"]
        groups = 1 if weight.shape[1] == x.shape[1] else x.shape[1]
        x = convolution(x, weight, stride, padding(size, weight.shape[2], stride), groups)
        scale, bias, mean, variance = (
            state[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
        )
        if train:
            count = x.size // x.shape[1]
            own_mean, own_variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            unbiased = own_variance * count / (count - 1)
            moved[f"{norm}.running_mean"] = 0.99 * mean + 0.01 * own_mean
            moved[f"{norm}.running_var"] = 0.99 * variance + 0.01 * unbiased
            mean, variance = own_mean, own_variance
        scale, bias, mean, variance = (v[:, None, None] for v in (scale, bias, mean, variance))
        x = scale * (x - mean) / np.sqrt(variance + 1e-3) + bias
        return np.clip(x, 0, 6) if active else x

    found = {}
    x = np.asarray(images, np.float64).transpose(0, 3, 1, 2)
    x = found["stem"] = layer(x, "_conv_stem", "_bn0", stride=2)
    size, number = 112, 0
    for stage, (repeats, _, first_stride, expansion) in enumerate(STAGES, start=1):
        if stage == 6:
            first_stride = last_stride
        for repeat in range(repeats):
            name, stride, y = f"_blocks.{number}", 1 if repeat else first_stride, x
            if expansion > 1:
                y = layer(y, f"{name}._expand_conv", f"{name}._bn0")
            y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride, size)
            y = layer(y, f"{name}._project_conv", f"{name}._bn2", active=False)
            x = x + y if x.shape == y.shape and stride == 1 else y
            size, number = size // stride, number + 1
        found[f"block{stage}"] = x
    found["head"] = x = layer(x, "_conv_head", "_bn1")
    found["embedding"] = x.mean((2, 3))
    found["logits"] = found["embedding"] @ state["_fc.weight"].T + state["_fc.bias"]
    found = {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in found.items()}
    return found, moved
