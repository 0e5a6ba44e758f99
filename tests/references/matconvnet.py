"""Files as MatConvNet saves its networks, and ResNet-50 as it evaluates one."""

import numpy as np
import scipy.io
import torch
from torch.nn import functional

BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}


def cell(*values):
    """A row of MATLAB's cell array."""
    row = np.empty((1, len(values)), object)
    row[0] = values
    return row


def meta(average):
    return {"normalization": {"averageImage": average, "imageSize": np.array([[227.0, 227, 3]])}}


def save_simplenn(path, layers, average, *, old=False):
    """``layers``: (name, kernel [h, w, C / groups, O], bias [O]); the others have no weights."""
    cells = []
    for name, kernel, bias in layers:
        layer = {"type": "conv", "name": name, "pad": np.zeros((1, 4)), "stride": np.ones((1, 2))}
        if old:
            layer |= {"filters": kernel, "biases": bias[None]}
        else:
            layer["weights"] = cell(kernel, bias[None])
        cells += [layer, {"type": "relu", "name": f"relu_{name}"}]
    cells.append({"type": "softmax", "name": "prob"})
    where = meta(average) if old else {"meta": meta(average)}
    scipy.io.savemat(path, {"layers": cell(*cells), **where})


def save_dagnn(path, params, average):
    array = np.zeros((1, len(params)), [("name", object), ("value", object)])
    array["name"][0] = list(params)
    array["value"][0] = list(params.values())
    scipy.io.savemat(path, {"params": array, "meta": meta(average)}, oned_as="column")


def resnet50_params(width, num_classes, seed=0):
    """Random values under the names of imagenet-resnet-50-dag."""
    rng = np.random.default_rng(seed)
    params = {}

    def convolution(name, size, inputs, outputs, *, bias=False):
        kernel = rng.standard_normal((size, size, inputs, outputs))
        params[f"{name}_filter"] = kernel * np.sqrt(2 / (size * size * inputs))
        if bias:
            params[f"{name}_bias"] = rng.uniform(-0.5, 0.5, outputs)

    def norm(name, channels):
        params[f"{name}_mult"] = rng.uniform(0.5, 1.0, channels)
        params[f"{name}_bias"] = rng.uniform(-0.3, 0.3, channels)
        moments = [rng.uniform(-0.3, 0.3, channels), rng.uniform(0.7, 1.4, channels)]
        params[f"{name}_moments"] = np.stack(moments, 1)

    convolution("conv1", 7, 3, width, bias=True)
    norm("bn_conv1", width)
    inputs = width
    for stage, letters in BLOCKS.items():
        features = width * 2 ** (stage - 2)
        for letter in letters:
            if letter == "a":
                convolution(f"res{stage}a_branch1", 1, inputs, 4 * features)
                norm(f"bn{stage}a_branch1", 4 * features)
            sizes = [(1, inputs, features), (3, features, features), (1, features, 4 * features)]
            for branch, (size, fan_in, fan_out) in zip("abc", sizes, strict=True):
                convolution(f"res{stage}{letter}_branch2{branch}", size, fan_in, fan_out)
                norm(f"bn{stage}{letter}_branch2{branch}", fan_out)
            inputs = 4 * features
    convolution("fc1000", 1, inputs, num_classes, bias=True)
    return {name: value.astype(np.float32) for name, value in params.items()}


def resnet50_taps(params, image):
    """The network in Caffe's layout on images [B, H, W, 3]; taps [B, h, w, C] and [B, D]."""
    tensors = {name: torch.from_numpy(value) for name, value in params.items()}

    def convolution(x, name, stride=1, pad=0):
        kernel, bias = tensors[f"{name}_filter"], tensors.get(f"{name}_bias")
        return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, pad)

    def norm(x, name):
        mean, sigma = tensors[f"{name}_moments"].T
        values = [tensors[f"{name}_mult"], mean, sigma, tensors[f"{name}_bias"]]
        mult, mean, sigma, bias = (value[:, None, None] for value in values)
        return mult * (x - mean) / sigma + bias

    def channels_last(x):
        return x.permute(0, 2, 3, 1).numpy()

    taps = {}
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    x = torch.relu(norm(convolution(x, "conv1", 2, 3), "bn_conv1"))
    taps["conv1"] = channels_last(x)
    x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
    for stage, letters in BLOCKS.items():
        for letter in letters:
            name = f"{stage}{letter}_branch"
            stride = 2 if letter == "a" and stage > 2 else 1
            y = torch.relu(norm(convolution(x, f"res{name}2a", stride), f"bn{name}2a"))
            y = torch.relu(norm(convolution(y, f"res{name}2b", 1, 1), f"bn{name}2b"))
            y = norm(convolution(y, f"res{name}2c"), f"bn{name}2c")
            if letter == "a":
                x = norm(convolution(x, f"res{name}1", stride), f"bn{name}1")
            x = torch.relu(x + y)
        taps[f"res{stage}"] = channels_last(x)
    pooled = x.mean((2, 3), keepdim=True)
    taps["pool5"] = pooled[:, :, 0, 0].numpy()
    taps["logits"] = convolution(pooled, "fc1000")[:, :, 0, 0].numpy()
    return taps
