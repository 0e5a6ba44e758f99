"""What ``metrics.jsonl`` holds, read strictly and read for a report."""

import json

import pytest

from reid_jax.training.logs import MetricsLog, read_metrics, salvage_metrics

GOOD = ['{"step": 0, "loss": 2.0}', '{"step": 1, "loss": null}']
NO_RECORDS = ['{"step": 2, "lo', "", "[1, 2]", '{"loss": 1.0}', '{"step": "2"}']


def write_lines(workdir, lines):
    (workdir / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("bad", NO_RECORDS)
def test_a_last_line_cut_off_is_left_out_and_any_other_is_refused(tmp_path, bad):
    records = [json.loads(line) for line in GOOD]
    write_lines(tmp_path, [*GOOD, bad])
    assert read_metrics(tmp_path) == records
    assert salvage_metrics(tmp_path) == (records, 1)
    write_lines(tmp_path, [GOOD[0], bad, GOOD[1]])
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is no record of a step"):
        read_metrics(tmp_path)
    assert salvage_metrics(tmp_path) == (records, 1)


def test_a_run_without_records_has_none(tmp_path):
    assert read_metrics(tmp_path) == []
    assert salvage_metrics(tmp_path) == ([], 0)


def test_a_resumed_log_keeps_what_was_before_its_first_step(tmp_path):
    write_lines(tmp_path, [*GOOD, '{"step": 2, "loss": 1.0}', '{"step": 3, "lo'])
    log = MetricsLog(tmp_path, first_step=2)
    log.write({"step": 2, "loss": float("nan")})
    log.close()
    assert read_metrics(tmp_path) == [*map(json.loads, GOOD), {"step": 2, "loss": None}]
    assert not list(tmp_path.glob("*.partial"))
