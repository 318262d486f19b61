"""Published weights from the model hub: the only part of flowtts that touches the network, and only when asked to."""

from __future__ import annotations

import difflib
import errno
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flowtts import checkpoint
from flowtts.compat import require
from flowtts.tuning import cache_file
from flowtts.types import PathLike, UserError


@dataclass(frozen=True)
class Published:
    """What can be pulled.

    Attributes:
        repository: on the hub.
        licence: of the weights.
        files: without which they are of no use.
        revision: a commit, or None for the newest.
    """

    repository: str
    licence: str
    files: tuple[str, ...] = ("config.json", checkpoint.WEIGHTS)
    revision: str | None = None


_VOCOS = ("config.yaml", "pytorch_model.bin")
"""Published as a pickle, of which ``flowtts.checkpoint.read_torch`` reads tensors and nothing else."""

PUBLISHED: Mapping[str, Published] = {
    # Its card names no licence; the 48 kHz model's says MIT, as does the code of both.
    "encodec-24khz": Published("facebook/encodec_24khz", "MIT (that of its code; its card names none)"),
    "encodec-48khz": Published("facebook/encodec_48khz", "MIT"),
    "mimi": Published("kyutai/mimi", "CC-BY-4.0"),
    "dac-16khz": Published("descript/dac_16khz", "MIT"),
    "dac-24khz": Published("descript/dac_24khz", "MIT"),
    "dac-44khz": Published("descript/dac_44khz", "MIT"),
    "vocos-mel-24khz": Published("charactr/vocos-mel-24khz", "MIT", _VOCOS),
    "vocos-encodec-24khz": Published("charactr/vocos-encodec-24khz", "MIT", _VOCOS),
}

SHORT: Mapping[str, str] = {"encodec": "encodec-24khz", "dac": "dac-44khz"}
"""Names of codecs that were published in several sizes -> the one that is mono, or the paper's."""


@dataclass(frozen=True)
class Pulled:
    """What `pull` did.

    Attributes:
        name: one of `PUBLISHED`.
        folder: where the files are.
        fresh: whether they were fetched now; False if they were there.
    """

    name: str
    folder: Path
    fresh: bool

    @property
    def published(self) -> Published:
        """Its entry."""
        return PUBLISHED[self.name]

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())


def pull(name: str, to: PathLike | None = None) -> Pulled:
    """Fetch published weights, unless they are there. The folder gets its name when everything is in it.

    Args:
        name: one of `PUBLISHED` or `SHORT`.
        to: the folder for its files; None for one in the user's cache, where ``flowtts.registry`` finds them by name.

    Raises:
        UserError: an unknown name, a folder that cannot be used, huggingface_hub is not installed, or the hub says no.
        ConnectionError: the hub cannot be reached, or stopped answering.
    """
    full = SHORT.get(name, name)
    if full not in PUBLISHED:
        known = [*PUBLISHED, *SHORT]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
        raise UserError(f"nothing to pull by the name {name!r}: {hint}")
    folder = _default(full) if to is None else Path(to).expanduser().absolute()
    if _complete(folder, PUBLISHED[full]):
        return Pulled(full, folder, fresh=False)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not {full}: choose another folder with --to, or move it away")
    require("huggingface_hub", "hf")
    nearest = folder.parent
    while not nearest.exists():
        nearest = nearest.parent
    try:
        # Beside where it goes, so that it can be renamed, and above folders that are not made before all has gone well.
        with TemporaryDirectory(prefix=".flowtts-", dir=nearest) as place:
            made = Path(place) / "files"
            made.mkdir()
            _fetch(PUBLISHED[full], made)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except ConnectionError:
        raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another folder with --to") from None
    return Pulled(full, folder, fresh=True)


def pulled(name: str) -> Path | None:
    """Where weights lie that were pulled into the user's cache, or None; looks at names of files only."""
    full = SHORT.get(name, name)
    if full not in PUBLISHED:
        return None
    folder = _default(full)
    return folder if _complete(folder, PUBLISHED[full]) else None


def find(name: PathLike) -> Path | None:
    """The folder of published weights that a name or a path means, or None if it means something else.

    Raises:
        UserError: it is a name that can be pulled, and was not.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        # As transformers' ``save_pretrained`` writes it.
        return path if (path / "config.json").is_file() and not (path / checkpoint.CONFIG).is_file() else None
    if (folder := pulled(str(name))) is None and SHORT.get(str(name), str(name)) in PUBLISHED:
        raise UserError(f"no weights of {name} are here: flowtts pull {name} fetches them, or give a folder of them")
    return folder


def with_hash(digest: str) -> Path | None:
    """The pulled weights with a hash, or None: one kind of codec may have been pulled in several sizes."""
    for name, entry in PUBLISHED.items():
        folder = pulled(name)
        if folder is None or checkpoint.WEIGHTS not in entry.files:
            continue
        if checkpoint.digest(folder / checkpoint.WEIGHTS) == digest:
            return folder
    return None


def _default(name: str) -> Path:
    return cache_file().parent / "published" / name


def _complete(folder: Path, entry: Published) -> bool:
    return all((folder / name).is_file() for name in entry.files)


def _fetch(entry: Published, folder: Path) -> None:
    """Have the hub's own client fill a folder."""
    hub, errors = require("huggingface_hub", "hf"), require("huggingface_hub.errors", "hf")
    page = f"https://huggingface.co/{entry.repository}"
    try:
        with _silent():
            hub.snapshot_download(
                entry.repository, revision=entry.revision, local_dir=folder,
                allow_patterns=[*entry.files, checkpoint.README],
            )  # fmt: skip
    except errors.GatedRepoError as error:
        raise UserError(f"{page} wants its terms accepted: do so there, then `hf auth login`, then again") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(f"{page} is not there any more: give a folder with {' and '.join(entry.files)}") from error
    except Exception as error:  # whatever the client's own client raises, which differs between its versions
        if isinstance(error, errors.OfflineModeIsEnabled) or isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            raise UserError("HF_HUB_OFFLINE is set, so that nothing may be fetched: unset it, then again") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise
        reason = str(error).strip().split("\n")[0]
        raise ConnectionError(f"{page} could not be fetched: check the connection and try again ({reason})") from error
    if missing := [name for name in entry.files if not (folder / name).is_file()]:
        raise UserError(f"{page} has no {' and '.join(missing)} any more: give a folder that has")
    # The client's notes on what it fetched.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep warnings of the client, of retries say, off the terminal: a failure is one line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
