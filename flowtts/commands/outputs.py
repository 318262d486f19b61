"""The files that a verb writes for one result: sound, the sidecar beside it, word times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flowtts.commands.align import FORMATS
from flowtts.commands.options import keep, output_file
from flowtts.commands.terminal import Misuse

if TYPE_CHECKING:
    from flowtts.types import PathLike, Word


class Result(Protocol):
    """What the verbs that make speech return: ``Speech`` or ``Edited``."""

    @property
    def seconds(self) -> float:
        """Length."""
        ...

    @property
    def words(self) -> Sequence[Word]:
        """Words with their times."""
        ...

    @property
    def phones(self) -> Sequence[Mapping[str, Any]]:
        """Phones with their times: {phone, word, start, end}."""
        ...

    @property
    def normalised(self) -> str:
        """The text of ``words``, with its punctuation."""
        ...

    def info(self, audio: PathLike | None = None) -> dict[str, Any]:
        """As JSON."""
        ...

    def save(self, path: PathLike, sidecar: bool = True) -> Path:
        """Write the sound and its sidecar."""
        ...


@dataclass(frozen=True)
class Outputs:
    """Where one result goes.

    Attributes:
        audio: the sound.
        sidecar: whether ``audio`` with the suffix ``.json`` is written too.
        words: where the word times go, or None.
    """

    audio: Path
    sidecar: bool = True
    words: Path | None = None

    def check(self, inputs: tuple[Path, ...] = ()) -> Outputs:
        """The same, if everything can be written.

        Args:
            inputs: files that must not be overwritten.

        Raises:
            Misuse: a folder is in the way or closed, a suffix is unknown, an input would be lost, or two results have
                one name.
        """
        output_file(self.audio, None, inputs)
        sidecar = self.audio.with_suffix(".json")
        if self.sidecar:
            if sidecar.is_dir():
                raise Misuse(f"{sidecar} is a folder, where the sidecar goes; choose another name or --no-sidecar")
            keep(sidecar, inputs)
        if self.words is not None:
            output_file(self.words, FORMATS)
            keep(self.words, inputs, "--words")
            if self.sidecar and self.words.absolute() == sidecar.absolute():
                raise Misuse(f"{self.words}: would overwrite the sidecar; choose another name with --words")
        return self

    def save(self, made: Result) -> None:
        """Write everything, the folders included."""
        self.audio.parent.mkdir(parents=True, exist_ok=True)
        made.save(self.audio, sidecar=self.sidecar)
        if self.words is not None:
            from flowtts.alignment.writers import write_words

            self.words.parent.mkdir(parents=True, exist_ok=True)
            write_words(self.words, made.words, made.phones, made.normalised, made.seconds)


def numbered(path: Path | None, number: int) -> Path | None:
    """The word times of one of several results: ``words.srt`` becomes ``words.0001.srt``."""
    return None if path is None else path.with_name(f"{path.stem}.{number:04d}{path.suffix}")
