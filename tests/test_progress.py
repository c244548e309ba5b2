"""The progress bar on a terminal of the usual width."""

import io

from rich.console import Console

from ikem_fast.progress import progress_bar
from ikem_fast.train.budget import Progress
from ikem_fast.train.log import TrainingLog

STATUS = "exchange  loss 53.190 (chance 62.453)  nearest 24%  rank 164  7 clips/s"


def test_nothing_of_a_training_is_cut_at_80_columns(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    with progress_bar() as bar:
        bar.add_task("pretrain, epoch 300", total=300, completed=33, status=STATUS)
    shown = file.getvalue()
    assert "pretrain, epoch 300 " in shown and "33/300" in shown and STATUS in shown and "…" not in shown


def test_a_bar_ends_where_minutes_end_the_run(tmp_path):
    class NoLoggers:
        def scalars(self, *_):
            pass

        def close(self):
            pass

    log = TrainingLog(tmp_path, "pretrain", steps_an_epoch=10, done=0, total=300, loggers=NoLoggers())
    with log:
        for steps, share, wanted in ((0, 0.002, 300), (10, 0.25, 40), (200, 0.9, 222), (200, 0.5, 300)):
            log.start(Progress(steps, 1, 0, share))
            assert log.progress.tasks[0].total == wanted
        log.step(4)
        log.end(Progress(33, 4, 3, 1.0, over=True), "contrast", 0.1, {"joint": 1.0})
        assert log.progress.tasks[0].total == 33
