"""A configuration as one mapping, for tests that compare values."""

import dataclasses
import json

from experiments.config import SECTIONS, to_json


def flat(config):
    """Values by key, tuples as lists, as JSON has them."""
    values = {}
    for name, value in json.loads(to_json(config)).items():
        inner = value.items() if isinstance(value, dict) else ()
        values |= {f"{name}.{key}": v for key, v in inner} or {name: value}
    return values


def defaults():
    """The default of each key of a section, or `dataclasses.MISSING`, in the same form."""
    return {
        f"{name}.{field.name}": list(field.default)
        if isinstance(field.default, tuple)
        else field.default
        for name, section in SECTIONS.items()
        for field in dataclasses.fields(section)
    }
