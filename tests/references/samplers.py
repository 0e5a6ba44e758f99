"""Samplers again, as plain loops over Python integers."""

MASK = 2**64 - 1


def philox(key: tuple[int, int], count: int) -> list[int]:
    """The first words of Philox 4x64-10 (Salmon et al. 2011), counting from 1 as NumPy does."""
    words = []
    block = 1
    while len(words) < count:
        counter, (key0, key1) = [block, 0, 0, 0], key
        for _ in range(10):
            product0 = 0xD2E7470EE14C6C93 * counter[0]
            product1 = 0xCA5A826395121157 * counter[2]
            counter = [
                (product1 >> 64) ^ counter[1] ^ key0,
                product1 & MASK,
                (product0 >> 64) ^ counter[3] ^ key1,
                product0 & MASK,
            ]
            key0 = (key0 + 0x9E3779B97F4A7C15) & MASK
            key1 = (key1 + 0xBB67AE8584CAA73B) & MASK
        words += counter
        block += 1
    return words[:count]


def shuffled(seed: int, epoch: int, count: int) -> list[int]:
    """Order of an epoch: stream 0 of the seed."""
    words = philox((seed, epoch), count)
    return sorted(range(count), key=lambda row: (words[row], row))


def uniform(num_images: int, batch_size: int, seed: int, num_steps: int) -> list[list[int]]:
    """Batches cut from one epoch's order after the other."""
    stream, epoch = [], 0
    while len(stream) < num_steps * batch_size:
        stream += shuffled(seed, epoch, num_images)
        epoch += 1
    return [stream[step * batch_size : (step + 1) * batch_size] for step in range(num_steps)]


def partners(identities, cameras, row: int, *, same: bool, cross_camera: bool) -> set[int]:
    """All rows that may be the second element of a pair."""
    found = set()
    for other in range(len(identities)):
        if other == row or (identities[other] == identities[row]) != same:
            continue
        if not cross_camera or cameras[other] != cameras[row]:
            found.add(other)
    return found
