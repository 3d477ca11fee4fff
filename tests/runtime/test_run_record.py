from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.recording import Recording, RecordingOptions
from gensoup.runtime.run_record import RunRecord, Takers

PREDICTION = Prediction("polyp", 1, 0.9, np.array([0.1, 0.9], np.float32), 1.0, 2.0)
FRAME = np.full((48, 64, 3), 90, np.uint8)


def result(number: int) -> Result:
    return Result(number, 0.0, 0.001, 0.002, 0.003, 0, State.OK, PREDICTION, "engine")


@pytest.mark.parametrize("realtime", [True, False])
def test_while_an_engine_hangs_frames_fill_no_memory_where_they_may_be_dropped(
    realtime: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gensoup.runtime.run_record._KEPT_BYTES", 10 * FRAME.nbytes)
    recording = Recording(RecordingOptions(tmp_path, keep_free_mb=0.0), 20.0, wait=True)
    with ExitStack() as stack:
        record = RunRecord(None, Takers(recording=recording), stack, realtime=realtime)
        for number in range(60):
            record.expect(number, FRAME)
        assert len(record._frames) == (10 if realtime else 60)
        record.add(result(0))  # the one that hung: its picture went, its line did not
        record.add(result(59))
        assert not record._frames
    recording.close()
    assert (recording.summary.lines, recording.summary.pictures) == (2, 1 if realtime else 2)
    assert recording.summary.skipped == (1 if realtime else 0)
