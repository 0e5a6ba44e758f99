"""Images per second of decoding and of the input pipeline alone, without a model.

    python experiments/benchmarks/pipeline.py [--data_dir DIR --dataset NAME] [--num_images N]

Without a prepared data set the images are smooth noise, JPEG of 128x64 as in Market-1501, in
memory. "decode" is one thread in a plain loop; "pipeline" is `reid_jax.data.batches` with batches
of 32. CPU time is that of all threads, and does not depend on what else runs on the machine.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from reid_jax import data

SIZES = ((256, 128), (128, 64))
BATCH_SIZE = 32


def noise_source(num_images: int) -> data.Source:
    generator = np.random.Generator(np.random.Philox(0))
    images = []
    for _ in range(num_images):
        noise = cv2.GaussianBlur(generator.normal(0, 1, (128, 64, 3)), (0, 0), 1.5)
        pixels = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
        images.append(cv2.imencode(".jpg", pixels)[1].tobytes())
    files = [f"{row}.jpg" for row in range(num_images)]
    return data.Source("noise", "train", files, np.arange(num_images) % 50 + 1, None, images)


def decode_with_pillow(image_bytes: bytes, size: tuple[int, int]) -> np.ndarray:
    image = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def speed(work: Callable[[], int], *, repeats: int) -> tuple[float, float]:
    """Images per second, and microseconds of CPU per image: medians, after one run to warm up."""
    rates, costs = [], []
    for _ in range(repeats + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        count = work()
        rates.append(count / (time.perf_counter() - start))
        costs.append((time.process_time() - start_cpu) / count * 1e6)
    return statistics.median(rates[1:]), statistics.median(costs[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir")
    parser.add_argument("--dataset", default="market1501")
    parser.add_argument("--num_images", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.data_dir:
        source = data.open_split(options.data_dir, options.dataset, "train")
    else:
        source = noise_source(options.num_images)
    labels, _ = data.identity_labels(source.identities)
    num_images = min(options.num_images, len(source))
    rows = np.random.Generator(np.random.Philox(1)).integers(0, len(source), num_images)
    sampler = data.UniformSampler(len(source), batch_size=BATCH_SIZE, seed=0)
    num_steps = num_images // BATCH_SIZE

    def decode_all(decoder, size):
        for row in rows:
            decoder(source[row], size)
        return num_images

    def pipeline(size, resident):
        made = data.batches(
            source,
            sampler,
            labels=labels,
            seed=0,
            first_step=0,
            num_steps=num_steps,
            image_size=size,
            resident=resident,
        )
        return sum(len(batch["row"]) for batch in made)

    print(f"{source.dataset}, {num_images} images, {os.cpu_count()} CPUs")
    for size in SIZES:
        cases = {
            "decode, OpenCV": lambda size=size: decode_all(data.decode, size),
            "decode, Pillow": lambda size=size: decode_all(decode_with_pillow, size),
            "pipeline": lambda size=size: pipeline(size, False),
            "pipeline, pixels on the device": lambda size=size: pipeline(size, True),
        }
        for name, work in cases.items():
            rate, cost = speed(work, repeats=options.repeats)
            size_name = f"{size[0]}x{size[1]}"
            print(f"  {size_name:8s} {name:31s}{rate:10,.0f} images/s {cost:8.1f} us CPU/image")


if __name__ == "__main__":
    main()
