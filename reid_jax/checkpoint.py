"""Orbax checkpoints of the training state: the last ones, and the best on validation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from reid_jax import parallel

__all__ = ["Checkpoints", "has_checkpoint"]

logger = logging.getLogger(__name__)


class Checkpoints:
    """`checkpoints/last` (the two newest) and `checkpoints/best` (one) of a work directory.

    Leaves are saved as host arrays, so a checkpoint does not depend on the kind or the number of
    devices. With several processes every process calls every method.
    """

    def __init__(self, workdir: epath.PathLike) -> None:
        root = epath.Path(workdir).resolve() / "checkpoints"  # Orbax takes no relative path.
        self._root = root
        self._managers = {
            "last": _manager(root / "last", max_to_keep=2),
            "best": _manager(root / "best", max_to_keep=1),
        }

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._managers["last"].latest_step()

    def save(
        self, state: Any, step: int, *, kind: str = "last", score: float | None = None
    ) -> None:
        """Starts saving a state; the copy is taken now, the files are written meanwhile.

        Args:
            state: tree of arrays.
            step: number of steps taken.
            kind: `"last"` or `"best"`.
            score: what made it the best, in [0, 1].
        """
        metadata = {"score": score}
        self._managers[kind].save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(jax.device_get(state)),
                metadata=ocp.args.JsonSave(metadata),
            ),
        )

    def restore_last(self, template: Any) -> tuple[Any, int] | None:
        """The newest readable state and its step, or None if nothing was saved.

        A checkpoint that cannot be read is reported, set aside and the one before it taken.

        Args:
            template: a state of the same shapes.
        Raises:
            ValueError: if checkpoints are there and none can be read, or if other processes see
                others.
        """
        self._require_same_everywhere()
        found = self._newest_readable(
            "last",
            lambda step: self._restore("last", step, template),
            "delete that directory to train from the start",
        )
        if found is None:
            return None
        state, step, unreadable = found
        if unreadable:
            self._set_aside(unreadable)
        return state, step

    def _require_same_everywhere(self) -> None:
        step = self.latest_step()
        newest = parallel.gather_hosts(np.array([-1 if step is None else step], np.int32))
        if len(set(newest.tolist())) > 1:
            seen = ", ".join(
                f"{'none' if at < 0 else f'that of step {at}'} on process {number}"
                for number, at in enumerate(newest.tolist())
            )
            raise ValueError(
                f"the processes do not see the same newest checkpoint in {self._root / 'last'}: "
                f"{seen}. All must reach one work directory: take a bucket or a shared disk."
            )

    def _newest_readable(
        self, kind: str, read: Callable[[int], Any], remedy: str
    ) -> tuple[Any, int, list[int]] | None:
        """What is read of the newest checkpoint that can be, its step, and the steps after it."""
        steps = sorted(self._managers[kind].all_steps(), reverse=True)
        problems = []
        for place, step in enumerate(steps):
            try:
                return read(step), step, steps[:place]
            except jax.errors.JaxRuntimeError:
                raise  # A process that is lost, or memory: the files are not at fault.
            except Exception as error:  # Orbax raises many kinds for a damaged file.
                problems.append(f"step {step}: {_first_line(error)}")
                before = "; trying the one before it" if place + 1 < len(steps) else ""
                logger.warning(
                    "The checkpoint of step %d cannot be read (%s)%s.",
                    step,
                    _first_line(error),
                    before,
                )
        if problems:
            raise ValueError(
                f"no checkpoint in {self._root / kind} can be read:\n  "
                + "\n  ".join(problems)
                + "\nIf the model or optimizer was changed, use another --workdir; if the files "
                f"are damaged, {remedy}."
            )
        return None

    def _set_aside(self, steps: list[int]) -> None:
        if parallel.is_main_process():
            for step in steps:
                name, number = f"unreadable_{step}", 1
                while (self._root / name).exists():
                    number += 1
                    name = f"unreadable_{step}_{number}"
                (self._root / "last" / str(step)).rename(self._root / name)
        parallel.barrier("unreadable checkpoints set aside")
        self._managers["last"].reload()

    def forget_best_after(self, step: int) -> None:
        """Deletes best states newer than `step`, which the resumed run will reach again."""
        manager = self._managers["best"]
        for later in [known for known in manager.all_steps() if known > step]:
            manager.delete(later)

    def restore_best(self, template: Any) -> tuple[Any, int] | None:
        """The state with the best validation score and its step, or None if there is none."""
        step = self._managers["best"].latest_step()
        return None if step is None else (self._restore("best", step, template), step)

    def restore_variables(self, template: Any) -> Any | None:
        """Parameters and batch statistics of the best state, else the last; None without any.

        A checkpoint that cannot be read is reported, left where it is, and the one before it taken.

        Args:
            template: `{"params": ..., "batch_stats": ...}` of the model.
        Raises:
            ValueError: if checkpoints are there and none can be read. The last state is not taken
                for a best one: it would be another result.
        """
        kind = "best" if self._managers["best"].latest_step() is not None else "last"
        expected = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)

        def read(step: int) -> Any:
            args = ocp.args.Composite(state=ocp.args.StandardRestore())
            saved = self._managers[kind].restore(step, args=args)["state"]
            return jax.tree.map(_same_shape, {name: saved[name] for name in template}, expected)

        remedy = "train again in another --workdir"
        if kind == "best":
            remedy = f"delete {self._root / kind} to take the last state instead of the best"
        found = self._newest_readable(kind, read, remedy)
        return None if found is None else found[0]

    def best_score(self) -> float | None:
        """The score that `restore_best` would restore, or None."""
        manager = self._managers["best"]
        step = manager.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        return manager.restore(step, args=args)["metadata"]["score"]

    def wait(self) -> None:
        """Returns when everything is on disk; an error while writing is raised here."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the background threads."""
        for manager in self._managers.values():
            manager.close()

    def _restore(self, kind: str, step: int, template: Any) -> Any:
        # Orbax restores a NumPy leaf for a NumPy template, whatever device had saved it.
        numpy_template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(numpy_template))
        state = self._managers[kind].restore(step, args=args)["state"]
        return jax.tree.map(_same_shape, state, numpy_template)


def has_checkpoint(workdir: epath.PathLike) -> bool:
    """Whether a training in a work directory has saved a state, without opening it.

    Args:
        workdir: may be absent.
    """
    last = epath.Path(workdir) / "checkpoints" / "last"
    return last.is_dir() and any(step.name.isdigit() for step in last.iterdir())


def _manager(path: epath.Path, *, max_to_keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, create=True)
    return ocp.CheckpointManager(path, options=options)


def _same_shape(restored: np.ndarray, expected: np.ndarray) -> np.ndarray:
    if restored.shape != expected.shape or restored.dtype != expected.dtype:
        raise ValueError(
            f"a saved array is {restored.dtype}{list(restored.shape)}, the model's is "
            f"{expected.dtype}{list(expected.shape)}"
        )
    return restored


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
