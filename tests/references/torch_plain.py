"""CaffeNet and VGG16 in plain torch.nn; VGG16 with torchvision's names for the tensors."""

import torch
from torch import nn


class CaffeNet(nn.Module):
    """forward returns the taps of reid_jax's network, in NCHW; ``side`` is that of pool5."""

    def __init__(self, width, num_classes, side=6):
        super().__init__()
        small, middle, wide = width, width * 8 // 3, width * 4
        self.conv1 = nn.Conv2d(3, small, 11, 4)
        self.conv2 = nn.Conv2d(small, middle, 5, 1, 2, groups=2)
        self.conv3 = nn.Conv2d(middle, wide, 3, 1, 1)
        self.conv4 = nn.Conv2d(wide, wide, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(wide, middle, 3, 1, 1, groups=2)
        self.fc6 = nn.Linear(middle * side * side, width * 128 // 3)
        self.fc7 = nn.Linear(width * 128 // 3, width * 128 // 3)
        self.fc8 = nn.Linear(width * 128 // 3, num_classes)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)

    def forward(self, image):
        taps = {}
        taps["conv1"] = x = torch.relu(self.conv1(image))
        taps["conv2"] = x = torch.relu(self.conv2(self.norm(self.pool(x))))
        taps["conv3"] = x = torch.relu(self.conv3(self.norm(self.pool(x))))
        taps["conv4"] = x = torch.relu(self.conv4(x))
        taps["conv5"] = x = torch.relu(self.conv5(x))
        taps["pool5"] = x = self.pool(x)
        taps["fc6"] = x = torch.relu(self.fc6(x.flatten(1)))
        taps["fc7"] = x = torch.relu(self.fc7(x))
        taps["logits"] = self.fc8(x)
        return taps


class VGG16(nn.Module):
    """forward returns the taps of reid_jax's network, in NCHW, for images of 224 x 224."""

    def __init__(self, width, num_classes):
        super().__init__()
        layers, inputs = [], 3
        for count, multiple in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, multiple * width, 3, 1, 1), nn.ReLU()]
                inputs = multiple * width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        dense = 64 * width
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, dense),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(dense, dense),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(dense, num_classes),
        )

    def forward(self, image):
        taps, x, stage = {}, image, 1
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                taps[f"conv{stage}"] = x
                stage += 1
            x = layer(x)
        taps["pool5"] = x
        taps["fc6"] = x = self.classifier[1](self.classifier[0](x.flatten(1)))
        taps["fc7"] = x = self.classifier[4](self.classifier[3](x))
        taps["logits"] = self.classifier[6](x)
        return taps
