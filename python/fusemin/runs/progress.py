"""The progress bar."""

import sys
import warnings


class Progress:
    """A bar of tqdm: steps, steps a second, time left, the loss.

    Args:
      show: False for none; True for one where it can be seen: in a terminal, or a notebook; "always" for one into
        files and logs too.
      num_steps: of the run.
      taken: how many of them were taken before.
    """

    def __init__(self, show: bool | str, num_steps: int, taken: int):
        self._bar = None
        if not show or not (show == "always" or _in_notebook() or sys.stderr.isatty()):
            return
        with warnings.catch_warnings():
            # That a notebook has no widgets: then it is a line of text there.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
        self._bar = tqdm(
            total=num_steps,
            initial=taken,
            unit=" steps",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.1,
            # Between two calls there is a segment, of many steps or of a long one.
            miniters=1,
            disable=False,
        )

    @property
    def is_shown(self) -> bool:
        return self._bar is not None

    def update(self, taken: int, loss: float) -> None:
        """After a segment: how many steps have been taken, and the last loss."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss={loss:.4g}", refresh=False)
            self._bar.update(taken - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose stderr is no terminal and can show a bar."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
