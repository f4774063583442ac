"""The epochs of a study for TensorBoard, when asked: `tensorboard --logdir STUDY/tensorboard`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study.run import StageBar
from zoosparse_ext.study.runner import StageProgress
from zoosparse_ext.study.work import OnProgress


class TensorBoard:
    """Writes the mean training accuracy of every chunk and epoch, as `accuracy/<stage>` of the run `<chunk>`.

    Args:
        folder: one event file a run lies below it; a run that goes on adds another.

    Raises:
        InputError: TensorBoard is not installed.
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "--tensorboard needs TensorBoard: pip install 'zoosparse-ext[tensorboard]'"
            ) from None
        self._writer = SummaryWriter
        self.folder = folder

    def stages(self, bar: StageBar) -> StageBar:
        """The same progress bars, with every epoch written down."""

        @contextmanager
        def written(stage: str) -> Iterator[OnProgress]:
            writers = {}
            with bar(stage) as show:

                def progress(state: Progress) -> None:
                    show(state)
                    if state.models < state.population:
                        return
                    chunk = state.chunk if isinstance(state, StageProgress) else "all"
                    try:
                        if chunk not in writers:
                            writers[chunk] = self._writer(str(self.folder / chunk))
                        writers[chunk].add_scalar(f"accuracy/{stage}", state.accuracy, state.epoch)
                        writers[chunk].flush()
                    except OSError as error:
                        reason = error.strerror or error
                        raise StoreError(
                            f"cannot write to {self.folder} for TensorBoard: {reason}"
                        ) from error

                try:
                    yield progress
                finally:
                    for writer in writers.values():
                        writer.close()

        return written
