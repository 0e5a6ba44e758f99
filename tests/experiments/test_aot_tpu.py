"""What the TPU's compiler says of a step; the compiler is in libtpu, and takes minutes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import compiled
from experiments.papers import EXPERIMENTS, build_config

ROOT = Path(__file__).parents[2]

TEXT = """
%fusion.1 (param_0: f32[8,256]) -> f32[32,256] {
  %all-gather.1 = f32[32,256]{1,0:T(8,128)S(1)} all-gather(%param_0), chain_id="0"
}
%fusion.2 (param_0: f32[8,256]) -> f32[32,256] {
  %all-gather.2 = f32[32,256]{1,0:T(8,128)S(1)} all-gather(%param_0), chain_id="0"
}
ENTRY %main {
  %sum = bf16[2,16]{1,0:T(2,128)(2,1)} all-reduce(%a), to_apply=%add
  %all-reduce.15 = (f32[]{:T(128)}, f32[16]{0:T(128)}, /*index=2*/pred[3]{0}) all-reduce(%b, %c, %d)
  %started = (f32[2,4]{1,0}, f32[8,4]{1,0}, u32[]{:S(2)}) all-gather-start(%e), dimensions={0}
  %done = f32[8,4]{1,0} all-gather-done(%started)
  %permuted = (f32[5]{0}, f32[5]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%f)
}
"""


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    assert compiled.collectives_of(TEXT) == {
        "all-gather": (2, 4 * 32 * 256 + 4 * 8 * 4),
        "all-reduce": (2, 2 * 2 * 16 + 4 + 4 * 16 + 3),
        "collective-permute": (1, 4 * 5),
    }


def test_collectives_of_a_program_are_counted_as_often_as_they_run():
    mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))

    def body(x):
        total, _ = jax.lax.scan(lambda y, _: (jax.lax.psum(y, "rows"), None), x, None, length=3)
        return jax.lax.all_gather(total, "rows", tiled=True)

    rows = PartitionSpec("rows")
    function = jax.shard_map(body, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    x = jax.ShapeDtypeStruct((8, 5), np.float32, sharding=NamedSharding(mesh, rows))
    program = compiled.Program(jax.jit(function), (x,), rows=8, chips=2)
    assert program.collectives() == {
        "all-reduce": (3, 3 * 4 * 5 * 4),
        "all-gather": (1, 8 * 5 * 4),
    }


@pytest.mark.parametrize(
    ("exp", "images", "identities"),
    [
        ("softmax_market", 12936, 751),
        ("inherent_pku", 16 * 57, 57),
        ("clever_viper", 2 * 316, 316),
        ("csn_cuhk01", 4 * 871, 871),
        ("csn_cuhk03", 11147, 1160),
    ],
)
def test_official_numbers_of_training_images(exp, images, identities):
    config = build_config(exp, EXPERIMENTS, scale="paper")
    assert compiled.official_training(config) == (images, identities)


@pytest.mark.parametrize("exp", ["identif_verif_oxford", "clever_pretrain"])
def test_without_official_numbers_there_is_no_training_step(exp):
    config = build_config(exp, EXPERIMENTS, scale="paper")
    with pytest.raises(ValueError, match="no official number"):
        compiled.official_training(config)


def aot_tpu(*options):
    command = [sys.executable, ROOT / "experiments/aot_tpu.py", *options]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_says_how_to_get_it(tmp_path):
    done = aot_tpu("--exp=softmax_market", f"--table={tmp_path / 'table.json'}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "pip install libtpu" in done.stderr


@pytest.mark.slow
def test_steps_of_an_experiment_are_compiled_once(tmp_path):
    pytest.importorskip("libtpu")
    table = tmp_path / "table.json"
    options = [
        *("--exp=softmax_market", "--scale=small", "--topology=v5e:2x2", f"--table={table}"),
        *("--set=data.image_size=(32,32)", "--set=model.width=4", "--set=sampler.batch_size=8"),
    ]
    assert aot_tpu(*options).returncode == 0
    training, embedding = json.loads(table.read_text())
    assert (training["rows"], training["chips"], training["dtype"]) == (8, 4, "bfloat16")
    images = 12936 * 32 * 32 * 3
    assert images < training["arguments"] < 1.5 * images
    assert training["collectives"]["all-reduce"][1] > 0
    assert embedding["collectives"] == {}
    before = table.read_text()
    assert aot_tpu(*options).returncode == 0
    assert table.read_text() == before
    assert table.with_suffix(".md").read_text().count("| softmax_market") == 2
    unknown = aot_tpu("--exp=softmax_market", "--topology=v5e:3x5", f"--table={table}")
    assert unknown.returncode == 1
    assert "v5e:3x5" in unknown.stderr
