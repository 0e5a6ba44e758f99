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


@pytest.mark.parametrize("first_step", [-1, 80])
def test_a_decay_that_does_not_fit_is_refused(first_step):
    with pytest.raises(ValueError, match="does not fit in 80 steps"):
        schedules.exponential_decay(0.2, first_step=first_step, num_steps=80)
