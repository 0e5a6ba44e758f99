"""Learning rates as functions of the step."""

import numpy as np
import pytest

from reid_jax.training import schedules


def test_exponential_decay_is_constant_and_then_a_factor_a_step():
    schedule = schedules.exponential_decay(0.2, first_step=30, num_steps=80, final=0.01)
    steps = np.arange(100)
    expected = [0.2 * 0.01 ** (min(max(step - 30, 0), 50) / 50) for step in steps]
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-5)
    ratios = schedule(steps[31:81]) / schedule(steps[30:80])
    np.testing.assert_allclose(ratios, 0.01 ** (1 / 50), rtol=1e-5)


def test_cosine_decay_is_half_a_cosine():
    schedule = schedules.cosine_decay(0.2, num_steps=80, first_step=20)
    steps = np.arange(100)
    expected = [0.1 * (1 + np.cos(np.pi * min(max(step - 20, 0), 60) / 60)) for step in steps]
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-5, atol=1e-7)


def test_a_warm_up_is_a_line_to_the_schedule():
    schedule = schedules.step_decay(3.5e-4, boundaries=[40, 70])
    warmed = schedules.warm_up(schedule, num_steps=10, start=0.1)
    rates = [float(warmed(step)) for step in (0, 5, 10, 39, 40, 41, 71)]
    expected = [3.5e-5, 1.925e-4, 3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert schedules.warm_up(schedule, num_steps=0, start=0.1) is schedule


@pytest.mark.parametrize("first_step", [-1, 80])
@pytest.mark.parametrize("decay", [schedules.exponential_decay, schedules.cosine_decay])
def test_a_decay_that_does_not_fit_is_refused(decay, first_step):
    with pytest.raises(ValueError, match="does not fit in 80 steps"):
        decay(0.2, first_step=first_step, num_steps=80)
