"""Every objective with the smallest network of its experiment, on the batches of `tiny`."""

import jax
import numpy as np
import tiny

from experiments import build, papers
from experiments.config import parse_overrides
from reid_jax import training
from reid_jax.training import schedules
from reid_jax.training.trainer import example_images

EXPERIMENTS = {
    "softmax": "softmax_market",
    "batch_contrastive": "batch_contrastive_market",
    "identification_verification": "identif_verif_market",
    "identification_contrastive": "identif_verif_market:loss=contrastive",
    "clever": "clever_cuhk03",
    "identification_center": "clever_pretrain:row=frw_ic",
    "inherent": "inherent_pku",
    "triplet": "inherent_pku:row=resnet18_htri",
    "csn": "csn_cuhk03",
    "strong": "strong_market",
}
"""An experiment of each objective."""

WIDTHS = {"csn": 6}


def config_of(exp, *overrides):
    """The config of an experiment, with few channels."""
    config = papers.build_config(exp, papers.EXPERIMENTS, scale="small")
    width = WIDTHS.get(config.model.name, 2)
    return parse_overrides(config, [f"model.width={width}", *overrides])


def batch_for(config, step=0):
    """A batch of images or pairs, as the sampler of a config has it."""
    return tiny.pair_batch(step) if config.sampler.name == "pair" else tiny.batch_at(step)


def state_for(model, optimizer, objective, seed=0):
    """A fresh state of a model of `tiny.IMAGE`, on the host."""

    def fresh(key):
        examples = example_images(model, tiny.IMAGE[:2])
        state = training.create_state(model, optimizer, *examples, key=key)
        outputs = jax.eval_shape(
            lambda variables: model.apply(variables, *examples, train=False), state.variables
        )
        dims = [v.shape[-1] for k, v in outputs.items() if k in ("embedding", "embedding_a")]
        labels = np.arange(tiny.BATCH) % tiny.IDENTITIES
        return state.replace(loss_state=objective.init(labels, *dims or [0]))

    return jax.device_get(fresh(jax.random.key(seed)))


def make(config, *, seed=0, **options):
    """(step, state) of a config."""
    model, objective = build.network(config, tiny.IDENTITIES), build.objective(config)
    optimizer = schedules.sgd(tiny.LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    step = training.make_train_step(
        model, optimizer, objective, preprocess=tiny.preprocess, **options
    )
    return step, state_for(model, optimizer, objective, seed)
