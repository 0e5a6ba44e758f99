"""Directions of imports, docstrings of public names, and what must never be imported."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import reid_jax

ROOT = Path(__file__).parents[1]

FOUNDATION = {
    *("schema", "keys", "distances", "parallel", "ops", "files", "deviations", "versions"),
    *("extras", "cpu", "compilation"),
}
MIDDLE = {"augment", "models", "losses", "data", "evaluation", "pretrained", "checkpoint"}
ALLOWED = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **dict.fromkeys(MIDDLE, FOUNDATION),
    "preprocess": FOUNDATION | {"augment"},
    "objectives": FOUNDATION | {"losses"},
    "scoring": FOUNDATION | {"evaluation", "models", "preprocess"},
    "embedder": FOUNDATION | MIDDLE | {"preprocess", "scoring"},
    "training": FOUNDATION | MIDDLE | {"preprocess", "objectives", "embedder", "scoring"},
    "protocols": FOUNDATION | {"data", "evaluation", "embedder"},
    "decide": FOUNDATION | {"data", "evaluation", "embedder"},
    "visual": FOUNDATION | {"evaluation"},
    "report": FOUNDATION | {"data", "evaluation", "visual"},
    "search": FOUNDATION | {"data", "evaluation", "embedder"},
    "export": FOUNDATION | {"models", "pretrained", "preprocess", "embedder"},
    "recipes": FOUNDATION
    | MIDDLE
    | {"preprocess", "objectives", "scoring", "embedder", "training", "protocols", "report"}
    | {"decide"},
    "cli": FOUNDATION
    | {"data", "decide", "evaluation", "embedder", "protocols", "search", "export", "training"}
    | {"recipes"},
}


def imports_of(path):
    """Names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def library_files():
    return sorted((ROOT / "reid_jax").rglob("*.py"))


@pytest.mark.parametrize("path", library_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layout(path):
    part = path.relative_to(ROOT / "reid_jax").parts[0].removesuffix(".py")
    imported = set(imports_of(path))
    foreign = {"experiments", "data_prep"} | (set() if part == "cli" else {"argparse"})
    assert not {name.split(".")[0] for name in imported} & foreign
    parts = {name.split(".")[1] for name in imported if name.startswith("reid_jax.")}
    if part != "__init__":
        unexpected = (parts & (set(ALLOWED) | MIDDLE)) - ALLOWED[part] - {part}
        assert not unexpected, f"{part} imports {unexpected}"


def test_only_parallel_names_devices_and_processes():
    names = {"pmap", "psum", "pmean", "all_gather", "axis_index", "process_index", "process_count"}
    for path in library_files():
        if path.name == "parallel.py":
            continue
        used = {
            n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)
        }
        assert not used & names, f"{path} uses {used & names}"


def test_data_prep_stands_on_data_alone():
    for path in sorted((ROOT / "data_prep").rglob("*.py")):
        parts = {n.split(".")[1] for n in imports_of(path) if n and n.startswith("reid_jax.")}
        assert parts <= {"data", "keys", "schema"}, path


def private_names_of_others(path, *, tops=("reid_jax", "experiments", "data_prep")):
    """(line, name) of each private name of another module of ours that a file uses."""
    tree = ast.parse(path.read_text())
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias for alias in node.names if alias.name.split(".")[0] in tops]
            ours |= {(alias.asname or alias.name).split(".")[0] for alias in modules}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in tops:
            ours |= {alias.asname or alias.name for alias in node.names}
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, name) for name in names if is_private(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in ours:
                yield node.lineno, ast.unparse(node)


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("top", ["reid_jax", "experiments", "data_prep"])
def test_no_private_name_is_used_in_another_module(top):
    found = {
        str(path.relative_to(ROOT)): used
        for path in sorted((ROOT / top).rglob("*.py"))
        if (used := list(private_names_of_others(path)))
    }
    assert not found


def test_a_private_name_of_another_module_is_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        """
import os
import reid_jax.data
from reid_jax import evaluation, keys as _keys
from reid_jax.evaluation.ranking import _a, rank
_keys.batch_keys(os._exit, evaluation.__doc__, self._own)
evaluation.ranking._b(reid_jax.data._c)
"""
    )
    found = {name for _, name in private_names_of_others(file)}
    assert found == {"_a", "evaluation.ranking._b", "reid_jax.data._c"}


MOST_LINES = 500


@pytest.mark.parametrize("top", ["reid_jax", "experiments", "data_prep"])
def test_no_file_is_too_long_to_read(top):
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sorted((ROOT / top).rglob("*.py"))
    }
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


LATE_IMPORTS = {
    # --help, and what is wrong with an argument, come without the second that JAX takes to load.
    "experiments/evaluate.py": {"experiments", "reid_jax"},
    "experiments/run.py": {"experiments"},
    "experiments/tables.py": {"experiments"},
    "experiments/tune.py": {"experiments"},
    "reid_jax/cli/__init__.py": {"reid_jax"},
    "reid_jax/cli/embed.py": {"reid_jax"},
    "reid_jax/cli/evaluate.py": {"reid_jax"},
    "reid_jax/cli/export.py": {"reid_jax"},
    "reid_jax/cli/find.py": {"reid_jax"},
    "reid_jax/cli/same.py": {"reid_jax"},
    "reid_jax/cli/serve.py": {"reid_jax"},
    "reid_jax/cli/train.py": {"reid_jax"},
    # An extra: a model is trained without a page where it is not installed.
    "reid_jax/recipes/running.py": {"reid_jax"},
    # PyTorch is not among our packages; a benchmark compares with it where it is installed.
    "experiments/benchmarks/correlation.py": {"torch"},
    "experiments/benchmarks/csn_step.py": {"references", "torch"},
    "experiments/benchmarks/depthwise.py": {"torch"},
    "experiments/benchmarks/embedding.py": {"onnxruntime", "references", "torch"},
    "experiments/benchmarks/layers.py": {"torch"},
    "experiments/benchmarks/train_step.py": {"references", "torch"},
    "experiments/benchmarks/winograd.py": {"torch"},
    # The process of one side is to hold nothing of the other on the GPU.
    "experiments/benchmarks/gpu_step.py": {"experiments", "jax", "references", "reid_jax", "torch"},
    # The process of the NumPy side is to have no JAX in its peak memory.
    "experiments/benchmarks/ranking.py": {"reid_jax"},
    # Not on Windows, and of no use for a bucket.
    "data_prep/prepare.py": {"fcntl"},
    # An extra: StableHLO and safetensors are written without onnx.
    "reid_jax/export/graph.py": {"onnx"},
    "reid_jax/export/writers.py": {"reid_jax"},
    # PyTorch is hidden from it meanwhile, which it would load for seconds.
    "reid_jax/training/logs.py": {"tensorboardX"},
}
"""Packages that a file imports inside a function; each has a reason."""


def late_imports(path):
    """Packages that a file imports inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import):
                    yield from (alias.name.split(".")[0] for alias in inner.names)
                elif isinstance(inner, ast.ImportFrom):
                    yield (inner.module or ".").split(".")[0]


def test_imports_stand_at_the_top():
    found = {
        str(path.relative_to(ROOT)): packages
        for top in ("reid_jax", "experiments", "data_prep")
        for path in sorted((ROOT / top).rglob("*.py"))
        if (packages := set(late_imports(path)))
    }
    assert found == LATE_IMPORTS


def test_a_late_import_is_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("import os\ndef f():\n    if os:\n        import a.b\n    from c.d import e\n")
    assert set(late_imports(file)) == {"a", "c"}


def public_names():
    modules = [m.name for m in pkgutil.walk_packages(reid_jax.__path__, "reid_jax.")]
    for name in modules:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            yield name, public


def test_every_public_name_has_a_docstring():
    missing = []
    for module, name in public_names():
        value = getattr(importlib.import_module(module), name)
        callable_or_class = inspect.isclass(value) or inspect.isfunction(value)
        if callable_or_class and not inspect.getdoc(value):
            missing.append(f"{module}.{name}")
    assert not missing


def test_every_loss_says_shapes_source_and_deviation():
    from reid_jax import losses

    for name in losses.__all__:
        value = getattr(losses, name)
        if inspect.isfunction(value):
            text = inspect.getdoc(value)
            for part in ("Args:", "Returns:", "Deviation:"):
                assert part in text, f"{name} lacks {part}"


def test_tensorflow_and_torch_are_never_imported():
    program = """
import pkgutil, importlib, sys
import reid_jax, experiments.run, experiments.tables, experiments.evaluate, data_prep.prepare
for module in pkgutil.walk_packages(reid_jax.__path__, "reid_jax."):
    importlib.import_module(module.name)
import experiments.job, experiments.datasets, tempfile
from reid_jax.training.logs import MetricsLog
MetricsLog(tempfile.mkdtemp(), first_step=0).close()
import tensorflow_datasets
print(sorted({"tensorflow", "torch"} & set(sys.modules)))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr


def test_docstrings_have_one_dialect():
    """Names stand in single backticks; there are no roles and no double ones."""
    for part in ("reid_jax", "experiments", "data_prep"):
        for path in sorted((ROOT / part).rglob("*.py")):
            text = path.read_text()
            assert "``" not in text, path
            assert not re.search(r":(func|class|mod|meth|attr|data):`", text), path
