"""What listeners said comes back as what they meant, or not at all."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import example

from flowtts.compare.listen import write_listen
from flowtts.compare.ratings import Ratings, crossed_interval, read_ratings
from flowtts.compare.result import Result
from flowtts.compare.statistics import cluster_interval, holm
from flowtts.types import UserError

SYSTEMS = ("voicebox", "tortoise", "recordings")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("asked")
    result = example(folder)
    write_listen(result, folder)
    return result, folder


@pytest.fixture
def result(asked: tuple[Result, Path], tmp_path: Path) -> Result:
    """A comparison of the test's own, in ``tmp_path``."""
    shutil.copytree(asked[1], tmp_path, dirs_exist_ok=True)
    return deepcopy(asked[0])


def key(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "listen" / "key.json").read_text("utf-8"))
    return found


def name(folder: Path, system: str, item: str, catch: bool = False) -> str:
    (found,) = (
        name for name, clip in key(folder)["clips"].items()
        if (clip["system"], clip["item"], clip["catch"]) == (system, item, catch)
    )  # fmt: skip
    return found


def answers(folder: Path, listener: str, **parts: Any) -> dict[str, Any]:
    """A file's content; opinions as {(system, item): score}, pairs as (system, system, item, answer)."""
    mos, smos = (
        {name(folder, *clip): score for clip, score in parts.get(kind, {}).items()} for kind in ("mos", "smos")
    )
    return {
        "kind": "flowtts-answers", "format": 1, "comparison": key(folder)["comparison"], "listener": listener,
        "saved": "", "mos": mos, "smos": smos,
        "ab": [
            {"a": name(folder, a, item), "b": name(folder, b, item), "answer": answer}
            for a, b, item, answer in parts.get("ab", ())
        ],
    }  # fmt: skip


def save(folder: Path, content: Any, file: str = "") -> Path:
    path = folder / (file or f"answers-{content['listener']}.json")
    path.write_text(json.dumps(content), "utf-8")
    return path


def heard(result: Result, folder: Path, *contents: Any) -> Ratings:
    return read_ratings([save(folder, content) for content in contents], folder, result)


# --- summing up ------------------------------------------------------------------------------------------------------


def test_opinions_are_means_by_system(result: Result, tmp_path: Path) -> None:
    anna = answers(
        tmp_path, "anna", smos={("tortoise", "e01"): 2},
        mos={("voicebox", "e01"): 5, ("voicebox", "e02"): 4, ("tortoise", "e01"): 1, ("recordings", "e01"): 5},
    )  # fmt: skip
    ben = answers(tmp_path, "ben", mos={("voicebox", "e01"): 3, ("tortoise", "e03"): 2})
    found = heard(result, tmp_path, anna, ben)
    assert list(found["mos"]) == list(SYSTEMS) and list(found["smos"]) == ["tortoise"]
    assert [(o["value"], o["count"], o["listeners"]) for o in found["mos"].values()] == [
        (4, 3, 2),
        (1.5, 2, 2),
        (5, 1, 1),
    ]
    box, single = found["mos"]["voicebox"], found["mos"]["recordings"]
    assert box["low"] is not None and box["high"] is not None and 3 <= box["low"] < 4 < box["high"] <= 5
    # One rating, drawn again, is always itself.
    assert single["low"] is single["high"] is None
    assert (found["listeners"], found["files"]) == (2, ["answers-anna.json", "answers-ben.json"])
    assert found["preferences"] == [] and json.loads(json.dumps(found)) == found


def test_a_preference_counts_for_the_system_whichever_side_it_was_on(result: Result, tmp_path: Path) -> None:
    ab = [
        ("voicebox", "tortoise", "e01", "a"), ("tortoise", "voicebox", "e02", "b"),
        ("tortoise", "voicebox", "e03", "a"), ("recordings", "voicebox", "e01", "a"),
        ("voicebox", "recordings", "e02", "same"), ("recordings", "voicebox", "e03", "same"),
        ("tortoise", "recordings", "e01", "same"),
    ]  # fmt: skip
    found = heard(result, tmp_path, answers(tmp_path, "anna", ab=ab))["preferences"]
    assert [tuple(one.values()) for one in found] == [
        ("voicebox", "tortoise", 2, 1, 0, 1.0, 1.0), ("voicebox", "recordings", 0, 1, 2, 1.0, 1.0),
        ("tortoise", "recordings", 0, 0, 1, None, None),
    ]  # fmt: skip


def test_chances_are_exact_and_corrected_over_all_pairs(result: Result, tmp_path: Path) -> None:
    def file(number: int) -> dict[str, Any]:
        ab = [("voicebox", "tortoise", "e01", "b" if number < 2 else "a"), ("voicebox", "recordings", "e01", "b")]
        return answers(tmp_path, f"l{number}", ab=ab)

    first, second = heard(result, tmp_path, *map(file, range(10)))["preferences"]
    assert (first["wins"], first["losses"], first["p"]) == (8, 2, 112 / 1024)
    assert (second["wins"], second["losses"], second["p"]) == (0, 10, 2 / 1024)
    assert [first["adjusted"], second["adjusted"]] == holm([112 / 1024, 2 / 1024]) == [112 / 1024, 4 / 1024]


def test_catches_are_counted_and_are_no_preferences(result: Result, tmp_path: Path) -> None:
    ((again, clip),) = ((n, c) for n, c in key(tmp_path)["clips"].items() if c["catch"])
    one = name(tmp_path, clip["system"], clip["item"])
    contents = []
    for listener, answer in (("anna", "same"), ("ben", "a"), ("eve", None)):
        contents.append(answers(tmp_path, listener))
        contents[-1]["ab"] = [{"a": again, "b": one, "answer": answer}]
    found = heard(result, tmp_path, *contents)
    assert found["catches"] == {"trials": 2, "same": 1, "by_listener": {"anna": [1, 1], "ben": [0, 1]}}
    assert found["preferences"] == [] and found["unanswered"] == 1


def test_empty_answers_are_counted(result: Result, tmp_path: Path) -> None:
    anna = answers(tmp_path, "anna", mos={("voicebox", "e01"): None, ("voicebox", "e02"): 3})
    ben = answers(tmp_path, "ben", ab=[("voicebox", "tortoise", "e01", None)])
    found = heard(result, tmp_path, anna, ben, answers(tmp_path, "eve"))
    assert (found["listeners"], found["silent"], found["unanswered"]) == (1, ["ben", "eve"], 2)
    assert found["mos"]["voicebox"]["count"] == 1 and found["preferences"] == []
    nobody = read_ratings([], tmp_path, result)
    assert nobody["listeners"] == 0 and nobody["mos"] == {} == nobody["smos"]


# --- intervals -------------------------------------------------------------------------------------------------------


def table(rows: Any) -> tuple[list[float], list[str], list[str]]:
    """Ratings of all prompts (columns) by all listeners (rows)."""
    values = np.asarray(rows, dtype=float)
    cells = [(f"l{i}", f"p{j}") for i in range(values.shape[0]) for j in range(values.shape[1])]
    return values.ravel().tolist(), [listener for listener, _ in cells], [prompt for _, prompt in cells]


def width(interval: tuple[float, float | None, float | None]) -> float:
    _, low, high = interval
    assert low is not None and high is not None
    return high - low


def test_an_interval_draws_listeners_and_prompts() -> None:
    rng = np.random.default_rng(0)
    people, texts = rng.standard_normal((24, 1)), 0.7 * rng.standard_normal((1, 30))
    # Without interaction a draw's mean is one over listeners and one over prompts, drawn independently.
    expected = 2 * 1.96 * np.sqrt(people.var() / 24 + texts.var() / 30)
    assert width(crossed_interval(*table(people + texts))) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("shape", [(12, 1), (1, 12)])
def test_where_one_of_them_does_not_vary_it_is_the_others_bootstrap(shape: tuple[int, int]) -> None:
    rows = np.broadcast_to(np.random.default_rng(1).standard_normal(shape), (12, 12))
    values, listeners, prompts = table(rows)
    names = list(map(str, range(len(values))))
    clusters = listeners if shape[1] == 1 else prompts
    other = cluster_interval(dict(zip(names, values, strict=True)), {}, dict(zip(names, clusters, strict=True)))
    value, low, high = crossed_interval(values, listeners, prompts)
    assert (value, low, high) == (
        pytest.approx(other["value"]),
        *(pytest.approx(other[e], abs=0.05) for e in ("low", "high")),
    )


def test_one_listener_leaves_the_prompts() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 3.0]
    alone = crossed_interval(values, ["anna"] * 6, list("abcdef"))
    assert alone[0] == 3 and 0 < width(alone) < width(crossed_interval(values, list("abcdef"), list("abcdef")))
    assert crossed_interval([4.0, 4.0], ["anna", "ben"], ["e01", "e01"]) == (4.0, 4.0, 4.0)
    assert crossed_interval([4.0, 2.0], ["anna", "anna"], ["e01", "e01"]) == (3.0, None, None)


def test_the_truth_is_inside_about_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(80):
        # Twelve listeners, twenty prompts, as in a real test: everybody has heard a third of it.
        rows = (
            0.5 * rng.standard_normal((12, 1))
            + 0.4 * rng.standard_normal((1, 20))
            + 0.7 * rng.standard_normal((12, 20))
        )
        known = [
            cell for cell, heard in zip(zip(*table(rows), strict=True), rng.random(240) < 1 / 3, strict=True) if heard
        ]
        _, low, high = crossed_interval(*(list(column) for column in zip(*known, strict=True)))
        assert low is not None and high is not None
        inside += low <= 0 <= high
    assert 0.9 < inside / 80 <= 0.995


# --- refusals --------------------------------------------------------------------------------------------------------


def drop(part: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        del content[part]

    return change


def put(part: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[part] = value

    return change


def score(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["mos"] = dict.fromkeys(content["mos"], value)

    return change


def pair(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["ab"][0] |= changes

    return change


def twice(content: dict[str, Any]) -> None:
    one = content["ab"][0]
    content["ab"].append({"a": one["b"], "b": one["a"], "answer": "same"})


def itself(content: dict[str, Any]) -> None:
    content["ab"][0]["b"] = content["ab"][0]["a"]


def stranger(content: dict[str, Any]) -> None:
    content["ab"][0]["b"] = next(iter(content["smos"]))


@pytest.mark.parametrize(("change", "said"), [
    (put("kind", "shopping"), "holds no answers of a listening test; give a file that listen.html saved"),
    (drop("kind"), "holds no answers of a listening test"),
    (put("format", 2), "answers of format 2, this flowtts reads 1; update flowtts"),
    (put("format", "1"), "answers of format '1', this flowtts reads 1; give the file as listen.html saved it"),
    (put("comparison", "0" * 16), "answers to another listening test; give the folder of the comparison they are of"),
    (drop("listener"), "does not say who listened"), (put("listener", " "), "does not say who listened"),
    (drop("mos"), 'has no "mos" as {clip: score}'), (put("smos", []), 'has no "smos" as {clip: score}'),
    (put("ab", {}), 'has no "ab" as a list'), (put("ab", [1]), '"ab" has an entry that is not'),
    (pair(extra=1), '"ab" has an entry that is not'),
    (put("mos", {"f" * 16: 3}), f"names a clip that this test does not have ('{'f' * 16}')"),
    (pair(a="f" * 16), "names a clip that this test does not have"),
    (pair(a=[1]), "names a clip that this test does not have"),
    *((score(value), "which is not a score from 1 to 5") for value in (0, 6, -1, 4.0, "4", True, math.nan, [3], {})),
    *((pair(answer=value), "which is not one of a, b, same") for value in ("c", "A", 1, True, ["a"])),
    (twice, "answers one pair twice"), (itself, "compares clips that are no pair"),
    (stranger, "compares clips that are no pair"),
])  # fmt: skip
def test_answers_that_cannot_be_are_refused(
    result: Result, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    good = answers(
        tmp_path, "anna", mos={("voicebox", "e01"): 4}, smos={("voicebox", "e02"): 4},
        ab=[("voicebox", "tortoise", "e01", "a")],
    )  # fmt: skip
    assert heard(result, tmp_path, good)["listeners"] == 1
    change(good)
    path = save(tmp_path, good, "odd.json")
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        read_ratings([path], tmp_path, result)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(("content", "said"), [
    (b'{"kind": "flowtts-ans', "is no JSON"), (b"", "is no JSON"), (b"\xff\xfe{", "is no JSON"),
    (b"[" * 100_000, "is no JSON"),
    (b"[]", "holds no answers"), (b"null", "holds no answers"),
])  # fmt: skip
def test_what_is_no_answers_file_is_refused(result: Result, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"odd.json: {said}"):
        read_ratings([path], tmp_path, result)


def test_what_is_not_there_is_refused(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.json: cannot be read \(No such file or directory\); check the path"):
        read_ratings([tmp_path / "gone.json"], tmp_path, result)
    with pytest.raises(UserError, match="cannot be read"):
        read_ratings([tmp_path], tmp_path, result)


def test_a_listener_is_heard_once(result: Result, tmp_path: Path) -> None:
    first = save(tmp_path, answers(tmp_path, "Anna"), "one.json")
    again = save(tmp_path, answers(tmp_path, "anna"), "two.json")
    with pytest.raises(UserError, match=r"two.json: listener 'anna' has answers in .*one.json too; give the file that"):
        read_ratings([first, again], tmp_path, result)
    # The same file twice is the same mistake.
    with pytest.raises(UserError, match="has answers in"):
        read_ratings([first, Path(str(first))], tmp_path, result)


def test_answers_are_of_what_was_heard(result: Result, tmp_path: Path) -> None:
    path = save(tmp_path, answers(tmp_path, "anna", mos={("voicebox", "e01"): 4}))
    raw: Any = result
    raw["items"][0]["audio_hash"] = "another"
    with pytest.raises(UserError, match=r"key.json: the recordings have changed since this listening test was made"):
        read_ratings([path], tmp_path, result)
    raw["items"] = raw["items"][1:]
    with pytest.raises(UserError, match=r"key.json: the recordings have changed"):
        read_ratings([path], tmp_path, result)
    write_listen(result, tmp_path)
    with pytest.raises(UserError, match=r"answers-anna.json: answers to another listening test"):
        read_ratings([path], tmp_path, result)


def test_another_seed_makes_other_names(result: Result, tmp_path: Path) -> None:
    content = answers(tmp_path, "anna", mos={("voicebox", "e01"): 4})
    write_listen(result, tmp_path, seed=1)
    with pytest.raises(UserError, match="answers to another listening test"):
        heard(result, tmp_path, content)
    content["comparison"] = key(tmp_path)["comparison"]
    with pytest.raises(UserError, match="names a clip that this test does not have"):
        heard(result, tmp_path, content)


def test_without_its_key_nothing_is_read(result: Result, tmp_path: Path) -> None:
    path = save(tmp_path, answers(tmp_path, "anna"))
    place = tmp_path / "listen" / "key.json"
    found = key(tmp_path)
    for content, said in (
        ({**found, "format": 2}, "of format 2"), ({**found, "comparison": 1}, "the recordings have changed"),
        ({**found, "clips": {"x": {}}}, "the recordings have changed"),
        ({**found, "clips": None}, "the recordings have changed"), ([], "no key to the clips"),
    ):  # fmt: skip
        place.write_text(json.dumps(content), "utf-8")
        with pytest.raises(UserError, match=f"key.json: {said}"):
            read_ratings([path], tmp_path, result)
    place.unlink()
    with pytest.raises(
        UserError, match=r"key.json: no key to the clips; the command that made the comparison writes it again"
    ):
        read_ratings([path], tmp_path, result)


def test_every_pair_of_systems_can_be_answered(result: Result, tmp_path: Path) -> None:
    ab = [(a, b, "e01", "a") for a, b in combinations(SYSTEMS, 2)]
    found = heard(result, tmp_path, answers(tmp_path, "anna", ab=ab))["preferences"]
    assert [(one["a"], one["b"], one["wins"]) for one in found] == [(a, b, 1) for a, b in combinations(SYSTEMS, 2)]


def test_two_recordings_of_one_system_are_no_pair(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["items"].append({**raw["items"][0], "item": "e01.s1", "audio_hash": "another"})
    write_listen(result, tmp_path)
    content = answers(tmp_path, "anna")
    both = [name(tmp_path, "voicebox", item) for item in ("e01", "e01.s1")]
    content["ab"] = [{"a": both[0], "b": both[1], "answer": "a"}]
    with pytest.raises(UserError, match="compares clips that are no pair"):
        heard(result, tmp_path, content)
