"""The one training loop: resume, step, log, validate, save, stop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from reid_jax import parallel
from reid_jax.checkpoint import Checkpoints
from reid_jax.training.logs import MetricsLog
from reid_jax.training.state import TrainState

__all__ = ["Intervals", "NonFiniteLossError", "Several", "StoppedError", "train"]


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the message names the step and the terms."""


class StoppedError(RuntimeError):
    """The run was asked to stop and has saved its state."""


@dataclasses.dataclass(frozen=True)
class Intervals:
    """How often the loop does what, in steps.

    Attributes:
        log_every: how often metrics are read from the device and written.
        checkpoint_every: how often the state is saved; it always is at the end.
        validate_every: how often the state is validated, and at the end; 0 for never.
    """

    log_every: int = 50
    checkpoint_every: int = 1_000
    validate_every: int = 0


class Several(NamedTuple):
    """Steps that the devices take without the host in between.

    Attributes:
        num_steps: how many, where nothing is due between them.
        step: `reid_jax.parallel.pmap_step` of `several_steps`.
    """

    num_steps: int
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]


def train(
    state: TrainState,
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    *,
    constants: tuple[Any, ...] = (),
    devices: Sequence[jax.Device],
    images_per_step: int,
    num_steps: int,
    intervals: Intervals,
    checkpoints: Checkpoints,
    workdir: Any,
    learning_rate: Callable[[int], Any] | None = None,
    validate: Callable[[TrainState], Mapping[str, float]] | None = None,
    monitor: str = "map_step",
    refresh: Callable[[TrainState], Any] | None = None,
    refresh_every: int | None = 1,
    several: Several | None = None,
) -> TrainState:
    """Trains from the newest checkpoint, or from `state` if there is none, to the last step.

    Args:
        state: the initial state, of host or device arrays.
        step: from `reid_jax.parallel.pmap_step`.
        batches: `batches(first_step)` gives this process's rows of each batch from there on.
        constants: further arguments of `step`, already replicated.
        devices: this process's devices that share a batch.
        images_per_step: images of the global batch, for the rate that is shown: two for a pair.
        num_steps: length of the training.
        intervals: how often what is done.
        checkpoints: where states go.
        workdir: where metrics go.
        learning_rate: of each step, for the log; None where it is not known.
        validate: returns {metric: score} of a state.
        monitor: the metric of which the loop keeps the state with the highest score.
        refresh: gives the loss state before a step from the state, for methods that need more than
            the batch; it is on the devices already (`reid_jax.parallel.replicate`), and the
            step will donate it.
        refresh_every: steps from one `refresh` to the next, the first before step 0; None for
            that one alone.
        several: takes steps between which nothing of all this is due; `step` takes the others.
    Returns:
        The state after the last step, on the host.
    Raises:
        NonFiniteLossError: at the first log interval with a loss or gradient that is not finite.
        StoppedError: after an interrupt or a termination signal, with the state saved.
    """
    restored = checkpoints.restore_last(state)
    first_step = 0
    if restored is not None:
        state, first_step = restored
        parallel.say(f"Resuming after step {first_step} of {num_steps}.")
    if first_step >= num_steps:
        return jax.device_get(state)

    checkpoints.forget_best_after(first_step)
    main = parallel.is_main_process()
    log = MetricsLog(workdir, first_step=first_step) if main else None
    best_score = checkpoints.best_score() if validate is not None else None
    state = parallel.replicate(state, devices)
    due = (*dataclasses.astuple(intervals), (refresh_every or num_steps) if refresh else 0)
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    saved_step = first_step if restored is not None else None
    with contextlib.ExitStack() as stack:
        if log is not None:
            stack.callback(log.close)
        stop_requested = stack.enter_context(_stop_signals())
        bar = stack.enter_context(
            tqdm(
                total=num_steps * images_per_step,
                initial=first_step * images_per_step,
                desc="training",
                unit="img",
                disable=not main,
                mininterval=1,
            )
        )
        clock = started = time.perf_counter()
        waited = waited_before = 0.0
        iterator = batches(first_step)
        done = first_step
        while done < num_steps:
            number = done
            if refresh is not None and number % (refresh_every or num_steps) == 0:
                state = dataclasses.replace(state, loss_state=refresh(state))
            asked = time.perf_counter()
            if several is not None and nothing_due(number, several.num_steps, num_steps, due):
                taken, take = several
                given = [next(iterator) for _ in range(taken)]
                batch = parallel.shard_several(given, devices)
            else:
                taken, take = 1, step
                batch = parallel.shard(next(iterator), devices)
            waited += time.perf_counter() - asked
            state, metrics = take(state, batch, *constants)
            pending.append((taken, metrics))
            bar.update(taken * images_per_step)
            done = number + taken
            last = done == num_steps
            stopping = bool(stop_requested) or parallel.stop_agreed(range(number + 1, done + 1))
            save = last or stopping or done % intervals.checkpoint_every == 0
            check = intervals.validate_every and done % intervals.validate_every == 0
            if save or check or done % intervals.log_every == 0:
                records = _records(pending, done, learning_rate)
                elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                records[-1]["images_per_second"] = len(records) * images_per_step / elapsed
                records[-1]["data_wait"] = (waited - waited_before) / elapsed
                waited_before = waited
                bar.set_postfix(loss=f"{records[-1]['loss']:.3f}", refresh=False)
                if log is not None:
                    for record in records:
                        log.write(record, to_tensorboard=record is records[-1])
                _require_finite(records, saved_step, checkpoints)
                pending = []
            if validate is not None and (check or (last and intervals.validate_every)):
                scores = validate(state)
                score = scores[monitor]
                if log is not None:
                    log.write({"step": done - 1, **{f"val_{k}": v for k, v in scores.items()}})
                if best_score is None or score > best_score:
                    best_score = score
                    checkpoints.save(state, done, kind="best", score=score)
                clock = time.perf_counter()
            if save:
                checkpoints.save(state, done)
                saved_step = done
                if log is not None:
                    log.flush()
            if stopping and not last:
                checkpoints.wait()
                raise StoppedError(
                    f"Stopped after step {done} of {num_steps} and saved: the same "
                    "command goes on from there."
                )
        checkpoints.wait()
        share = waited / (time.perf_counter() - started)
        parallel.say(f"The training waited for data for {share:.1%} of its time.")
    return jax.device_get(state)


def nothing_due(number: int, count: int, num_steps: int, due: Sequence[int]) -> bool:
    """Whether `count` steps from `number` on end before, or where, something is due."""
    last = number + count - 1
    return last < num_steps and all(number // every == last // every for every in due if every)


def _records(
    pending: list[tuple[int, dict[str, jax.Array]]],
    done: int,
    learning_rate: Callable[[int], Any] | None,
) -> list[dict[str, Any]]:
    """A record of each of the steps before `done` that `pending` holds."""
    single: list[dict[str, Any]] = []
    for taken, metrics in jax.device_get(pending):
        rows = {name: np.reshape(value, taken) for name, value in metrics.items()}
        single += [{name: row[i] for name, row in rows.items()} for i in range(taken)]
    records = []
    for step, values in enumerate(single, start=done - len(single)):
        record = {"step": step, **{name: float(value) for name, value in values.items()}}
        if learning_rate is not None:
            record["learning_rate"] = float(learning_rate(step))
        records.append(record)
    return records


def _require_finite(
    records: list[dict[str, Any]], saved_step: int | None, checkpoints: Checkpoints
) -> None:
    watched = ("loss", "gradient_norm")
    bad = next((r for r in records if not all(math.isfinite(r[k]) for k in watched)), None)
    if bad is None:
        return
    checkpoints.wait()
    shown = [name for name in bad if name.endswith("loss") or name in watched]
    terms = ", ".join(f"{name} {bad[name]:g}" for name in shown)
    kept = (
        "no checkpoint was saved before"
        if saved_step is None
        else f"the last good checkpoint is that of step {saved_step}"
    )
    rate = f" (learning rate {bad['learning_rate']:g})" if "learning_rate" in bad else ""
    raise NonFiniteLossError(
        f"The loss or its gradient is not finite at step {bad['step']}{rate}: {terms}; {kept}. "
        "Lower the learning rate or the loss weights and use another --workdir."
    )


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is no longer empty once the process was asked to stop.

    Several processes would stop at different steps and wait for each other, so there an interrupt
    has its usual effect, the last checkpoint is where the run goes on, and a termination signal is
    for `reid_jax.parallel.stop_agreed`.
    """
    received: list[int] = []
    if not parallel.is_single_process():
        yield received
        return

    def on_signal(number: int, frame: Any) -> None:
        del frame
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # Not the main thread: signals are not ours there.
            previous[number] = signal.signal(number, on_signal)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
