"""The files of checkpoints: written so that a process may be killed at any moment.

A checkpoint is tensors in the format of `tf.train.Checkpoint`, `step-N.index` and `step-N.data-...`, and `step-N.json`,
which is put in its place at once, when all else is there. Without it there is no checkpoint. TensorFlow keeps a
checksum of each tensor, the JSON has one of itself.
"""

import glob
import json
import os
import re
import shutil
import zlib
from typing import Any, NamedTuple

import tensorflow as tf


class DamagedCheckpointError(Exception):
    """A checkpoint does not hold what was written."""


class Saved(NamedTuple):
    """A checkpoint.

    Attributes:
      step: how many steps had been taken.
      facts: what was written beside the tensors.
      tensors: by name.
    """

    step: int
    facts: dict[str, Any]
    tensors: dict[str, tf.Tensor]

    def numbered(self, name: str) -> list[tf.Tensor]:
        """The tensors that `numbered` gave names to."""
        found: list[tf.Tensor] = []
        while (key := f"{name}/{len(found)}") in self.tensors:
            found.append(self.tensors[key])
        return found


def numbered(name: str, tensors) -> dict[str, tf.Tensor]:
    """Names for the tensors of a list."""
    return {f"{name}/{i}": tensor for i, tensor in enumerate(tensors)}


class CheckpointFiles:
    """The checkpoints in a directory.

    Args:
      directory: made if it is not there.
      keep: how many are kept.
    """

    def __init__(self, directory: str, keep: int):
        self._directory, self._keep = directory, keep
        os.makedirs(directory, exist_ok=True)

    def steps(self) -> list[int]:
        """The steps of all checkpoints, the last one first."""
        names = (re.fullmatch(r"step-(\d+)\.json", name) for name in os.listdir(self._directory))
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def prefix(self, step: int) -> str:
        return os.path.join(self._directory, f"step-{step}")

    def write(self, step: int, tensors: dict[str, tf.Tensor], facts: dict) -> None:
        """Writes a checkpoint, then removes those that are not to be kept. `tensors` are at least one."""
        prefix = self.prefix(step)
        self.remove(step)
        # By the op itself: `tf.train.Checkpoint` takes some 50 ms of Python to look at 150 variables.
        with tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=list(tensors.values()),
            )
        text = json.dumps(facts)
        temporary = f"{prefix}.json.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(json.dumps({"crc": zlib.crc32(text.encode()), "facts": text}))
        os.replace(temporary, f"{prefix}.json")
        for old in self.steps()[self._keep :]:
            self.remove(old)

    def remove(self, step: int) -> None:
        """Removes a checkpoint, so that it is never there in part."""
        prefix = self.prefix(step)
        files = glob.glob(f"{glob.escape(prefix)}.*") + glob.glob(f"{glob.escape(prefix)}_temp*")
        for path in sorted(files, key=lambda path: not path.endswith(".json")):
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def remove_parts(self) -> None:
        """Removes what is left of checkpoints that were not written to the end."""
        whole = {f"step-{step}" for step in self.steps()}
        for name in os.listdir(self._directory):
            part = re.match(r"(step-\d+)(?=[._])", name)
            if part and part[1] not in whole:
                self.remove(int(part[1].removeprefix("step-")))

    def facts(self, step: int) -> dict:
        """What was written beside the tensors.

        Raises:
          DamagedCheckpointError: it is damaged.
        """
        try:
            with open(f"{self.prefix(step)}.json", encoding="utf-8") as file:
                written = json.load(file)
            if zlib.crc32(written["facts"].encode()) != written["crc"]:
                raise DamagedCheckpointError(f"{self.prefix(step)}.json was changed")
            return json.loads(written["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedCheckpointError(f"{self.prefix(step)}.json cannot be read: {error}") from error

    def read(self, step: int) -> Saved:
        """A checkpoint, all of its tensors read, so that their checksums are right.

        Raises:
          DamagedCheckpointError: it is damaged.
        """
        facts, prefix = self.facts(step), self.prefix(step)
        try:
            dtypes = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
            with tf.device("CPU:0"):
                values = tf.raw_ops.RestoreV2(
                    prefix=prefix,
                    tensor_names=list(dtypes),
                    shape_and_slices=[""] * len(dtypes),
                    dtypes=list(dtypes.values()),
                )
        except (tf.errors.OpError, RuntimeError, ValueError, OSError, IndexError) as error:
            raise DamagedCheckpointError(f"{prefix} cannot be read: {error}") from error
        return Saved(step, facts, dict(zip(dtypes, values, strict=True)))
