import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowtts.crew import Job, run


@dataclass(frozen=True)
class Start:
    """Work that doubles numbers, and does what its name says for some of them."""

    how: str
    at: int = 2
    folder: str = ""

    def __call__(self):
        if self.how == "refuses":
            from flowtts.types import UserError  # not above: most of these processes need no torch

            raise UserError("no such model")
        if self.how == "dies early":
            os.kill(os.getpid(), signal.SIGKILL)

        def work(piece):
            if piece == self.at and self.how == "raises":
                raise ValueError("two\nlines")
            if piece == self.at and self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.folder:
                (Path(self.folder) / f"{os.getpid()}").touch()
            return 2 * piece

        return work


def outcomes(*jobs, processes=1):
    found = {}

    def done(piece, result, reason):
        assert piece not in found
        found[piece] = result if reason is None else reason

    run(jobs, processes, done)
    return found


def test_pieces_are_done_in_processes_of_their_own(tmp_path):
    start = Start("", folder=str(tmp_path))
    found = outcomes(Job(start, (1, 2)), Job(start, (3,)), processes=2)
    assert found == {1: 2, 2: 4, 3: 6}
    pids = {path.name for path in tmp_path.iterdir()}
    assert len(pids) == 2 and str(os.getpid()) not in pids


def test_a_piece_that_raises_costs_itself_alone():
    assert outcomes(Job(Start("raises"), (1, 2, 3))) == {1: 2, 2: "ValueError: two lines", 3: 6}


def test_a_piece_that_kills_its_process_costs_itself_alone():
    found = outcomes(Job(Start("dies"), (1, 2, 3)))
    assert found[1] == 2 and found[3] == 6
    assert found[2] == "its process was ended by SIGKILL, perhaps for want of memory"


@pytest.mark.parametrize("how, reason", [("refuses", "no such model"), ("dies early", "SIGKILL")])
def test_a_job_that_cannot_start_says_why_of_every_piece(how, reason):
    found = outcomes(Job(Start(how), (1, 2)), Job(Start(""), (5,)))
    assert found[5] == 10
    assert all(reason in found[piece] for piece in (1, 2))


def test_nothing_to_do_starts_nothing():
    assert outcomes(Job(Start("dies early"), ())) == {}


def test_processes_end_with_whoever_leaves(tmp_path):
    def leave(piece, result, reason):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Job(Start("", folder=str(tmp_path)), tuple(range(1000)))], 1, leave)
    (pid,) = {int(path.name) for path in tmp_path.iterdir()}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
