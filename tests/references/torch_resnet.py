"""ResNet-18 and ResNet-50 in plain torch.nn, with torchvision's names for the tensors."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, features, stride, bottleneck):
        super().__init__()
        outputs = features * 4 if bottleneck else features
        if bottleneck:
            layers = [(inputs, features, 1, 1), (features, features, 3, stride)]
            layers.append((features, outputs, 1, 1))
        else:
            layers = [(inputs, features, 3, stride), (features, features, 3, 1)]
        self.depth = len(layers)
        for i, (fan_in, fan_out, size, step) in enumerate(layers, start=1):
            convolution = nn.Conv2d(fan_in, fan_out, size, step, size // 2, bias=False)
            setattr(self, f"conv{i}", convolution)
            setattr(self, f"bn{i}", nn.BatchNorm2d(fan_out))
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.depth:
                y = torch.relu(y)
        return torch.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """``depth`` 18 or 50; forward returns the taps of reid_jax's network, in NCHW."""

    def __init__(self, depth, num_classes):
        super().__init__()
        bottleneck = depth == 50
        blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate(blocks):
            features = 64 * 2**stage
            layers = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(Block(inputs, features, stride, bottleneck))
                inputs = features * 4 if bottleneck else features
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, image):
        taps = {}
        taps["conv1"] = x = torch.relu(self.bn1(self.conv1(image)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            taps[f"res{stage + 1}"] = x = getattr(self, f"layer{stage}")(x)
        taps["pool5"] = x.mean((2, 3))
        taps["logits"] = self.fc(taps["pool5"])
        return taps
