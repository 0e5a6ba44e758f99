"""What a lowered program executes, functions that it calls several times included."""

import functools
import re


def executions(text, operation):
    """How often ``operation`` is executed by ``main`` of an MLIR module; a loop's body once."""
    parts = re.split(r"func\.func (?:public |private )?@", text)[1:]
    bodies = {re.match(r"[\w.$-]+", part)[0]: part for part in parts}

    @functools.cache
    def in_function(name):
        body = bodies[name]
        called = re.findall(r"call @([\w.$-]+)", body)
        return body.count(operation) + sum(in_function(other) for other in called)

    return in_function("main")
