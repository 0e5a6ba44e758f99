"""The nine-convolution network of Jin et al. in PyTorch, for its speed beside ours."""

import torch
from torch import nn

CHANNELS = ((32, 32, 32), (64, 96), (128, 192), (256, 384))


class NineConv(nn.Module):
    """Nine 3x3 convolutions and a dense layer, each with batch norm and leaky ReLU."""

    def __init__(self, num_identities: int, size: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, (height, width) = 3, size
        for group in CHANNELS:
            for channels in group:
                layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(channels, eps=1e-3), nn.LeakyReLU(0.2)]
                before = channels
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        self.maps = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Linear(before * height * width, 512, bias=False),
            nn.BatchNorm1d(512, eps=1e-3),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Linear(512, num_identities, bias=False)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.dense(self.maps(image).flatten(1))
        return {"embedding": embedding, "logits": self.head(embedding)}
