"""Recipes, vocoders and metrics by name: the only code that names the siblings of the core.

Names are looked up at call time, so that the core imports no sibling and importing one recipe does not import the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from flowtts import checkpoint
from flowtts.codec import Codec
from flowtts.published import read_json
from flowtts.pull import find as find_published
from flowtts.types import CodeSpec, LatentSpec, MelSpec, Metric, PathLike, Recipe, Score, Spec, UserError, Vocoder

RECIPES: Mapping[str, tuple[str, str]] = {
    "voicebox": ("flowtts.recipes.voicebox", "voicebox-small"),
    "tortoise": ("flowtts.recipes.tortoise", "tortoise-small"),
}
"""Name -> (module with ``load(folder, device, engine)``, shipped checkpoint)."""

TASKS: tuple[str, ...] = ("say", "edit", "fill", "denoise", "restyle", "continue", "sample")
"""What recipes can be asked to do; each is a verb of the command line."""

ABILITIES: Mapping[str, frozenset[str]] = {
    "voicebox": frozenset(TASKS),
    "tortoise": frozenset({"say", "sample"}),
}
"""Name of a recipe -> its tasks, so that they can be listed without importing it; equal to its ``tasks``."""

VOCODERS: Mapping[str, str | None] = {"vocos": "vocos-16k", "univnet": None, "griffin-lim": None}
"""Name -> shipped checkpoint, or None if it has none."""

VOCODER_KINDS: Mapping[str, tuple[str, str]] = {
    "vocos": ("flowtts.vocoders.vocos", "VocosVocoder"),
    "univnet": ("flowtts.vocoders.univnet", "UnivNetVocoder"),
}
"""Kind of a checkpoint -> (module, class with ``load(folder)``) of the vocoder that reads it."""

CODECS: Mapping[str, str | None] = {"codec": "codec-16k", "encodec": None, "mimi": None, "dac": None}
"""Name -> shipped checkpoint, or None if it has none."""

CODEC_KINDS: Mapping[str, str] = {
    "codec": "flowtts.vocoders.codec",
    "encodec": "flowtts.vocoders.encodec",
    "mimi": "flowtts.vocoders.mimi",
    "dac": "flowtts.vocoders.dac",
    "vocos-codes": "flowtts.vocoders.vocos_codes",
}
"""Kind of a checkpoint, or ``model_type`` of a folder of transformers' -> module with ``load(folder, codebooks)``."""

TRAINERS: Mapping[str, str] = {
    "voicebox": "flowtts.recipes.voicebox.train",
    "voicebox-duration": "flowtts.recipes.voicebox.train",
    "voicebox-fewstep": "flowtts.recipes.voicebox.distil",
    "tortoise": "flowtts.recipes.tortoise.whole",
    "tortoise-vqvae": "flowtts.recipes.tortoise.train",
    "tortoise-ar": "flowtts.recipes.tortoise.train",
    "tortoise-clvp": "flowtts.recipes.tortoise.train",
    "tortoise-diffusion": "flowtts.recipes.tortoise.train",
    **dict.fromkeys(("codec", "soundstream", "encodec", "mimi"), "flowtts.vocoders.codec_train.train"),
}
"""What ``flowtts train`` can train -> module with ``train(kind, manifests, out, …)``."""

CONVERTERS: Mapping[str, str] = {
    "tortoise": "flowtts.recipes.tortoise.convert",
    "univnet": "flowtts.vocoders.univnet",
}
"""What ``flowtts convert`` can read -> module with ``convert(source, out, *, dtype, others)``."""

KINDS: Mapping[str, str] = {"voicebox": "voicebox", "tortoise": "tortoise"}
"""Kind of a checkpoint -> recipe that reads it."""

DEPENDENCIES: Mapping[str, tuple[str, ...]] = {"voicebox": ("voicebox-duration", "voicebox-duration-flow")}
"""Name of a recipe -> shipped checkpoints that it takes where its own checkpoint lacks a part."""

JUDGES: Mapping[str, tuple[str, str]] = {"clvp": ("flowtts.recipes.tortoise.judge", "tortoise-small")}
"""Name of a judge of takes -> (module with ``ClvpJudge``, shipped checkpoint)."""

_DEFAULTS = {shipped for _, shipped in RECIPES.values()} | {*VOCODERS.values(), *CODECS.values()} - {None}


def load_recipe(name: PathLike, device: torch.device | str = "cpu", engine: str = "eager") -> Recipe:
    """A recipe by its name, its shipped checkpoint's name or a folder.

    Raises:
        UserError: there is no such thing, or the folder holds something else.
    """
    folder = find_model(name)
    module = RECIPES[KINDS[str(checkpoint.read_header(folder)["kind"])]][0]
    recipe: Recipe = import_module(module).load(folder, device, engine)
    return recipe


def find_model(name: PathLike) -> Path:
    """The checkpoint folder of a model that speaks, by its recipe's name, its own or a path.

    Raises:
        UserError: there is no such thing, or the folder holds something else.
    """
    if str(name) in RECIPES:
        return _find(RECIPES[str(name)][1], "model", RECIPES)
    folder = _find(name, "model", RECIPES)
    kind = str(checkpoint.read_header(folder).get("kind"))
    if kind not in KINDS:
        raise UserError(f"{folder} is a checkpoint of kind {kind}: no recipe speaks with it")
    return folder


def find_vocoder(name: PathLike) -> Path | None:
    """The checkpoint folder of a vocoder, or None for one without weights.

    Raises:
        UserError: there is no such vocoder, or it needs weights that are not here.
    """
    if str(name) == "griffin-lim":
        return None
    if (codec := _as_codec(name)) is not None:
        return codec
    folder = _vocoder_folder(name)
    _vocoder_kind(folder)
    return folder


def load_vocoder(name: PathLike, spec: Spec | None = None, device: torch.device | str = "cpu") -> Vocoder:
    """A vocoder by its name or a folder.

    Args:
        name: one of ``vocoders()``, or a checkpoint folder.
        spec: features it must read; decides what a vocoder without weights reads.
        device: where it computes.

    Raises:
        UserError: there is no such vocoder, or it reads other features than ``spec``.
    """
    vocoder: Vocoder
    if str(name) == "griffin-lim":
        if isinstance(spec, CodeSpec | LatentSpec):
            raise UserError("griffin-lim reads mels and this model makes none: take the model's codec")
        vocoder = import_module("flowtts.vocoders.griffin_lim").GriffinLim(*([] if spec is None else [spec]))
    elif (codec := _as_codec(name)) is not None:
        vocoder = import_module("flowtts.vocoders.latents").LatentVocoder(load_codec(codec, None, device), str(name))
    else:
        module, cls = VOCODER_KINDS[_vocoder_kind(folder := _vocoder_folder(name))]
        vocoder = getattr(import_module(module), cls).load(folder).to(device)
    if spec is not None and vocoder.spec != spec:
        raise UserError(
            f"the vocoder {name} does not fit: {_mismatch(vocoder.spec, spec)}; take one made for these features"
        )
    return vocoder


def load_codec(name: PathLike, codebooks: int | None = None, device: torch.device | str = "cpu") -> Codec:
    """A codec by its name or a folder.

    Args:
        name: one of ``codecs()``, a checkpoint folder, or a folder as transformers' ``save_pretrained`` writes it.
        codebooks: the first so many are used; None for all.
        device: where it computes.

    Raises:
        UserError: there is no such codec, or it has fewer codebooks.
    """
    folder = codec_folder(name)
    codec: Codec = import_module(CODEC_KINDS[_codec_kind(folder)]).load(folder, codebooks)
    return codec.to(device)


def codec_folder(name: PathLike) -> Path:
    """Where the weights of a codec lie; raises UserError as `load_codec` does."""
    return _find(CODECS.get(str(name)) or name, "codec", CODECS)


def _codec_kind(folder: Path) -> str:
    """What kind of codec a folder holds, a checkpoint of ours, one of transformers', or a published Vocos."""
    kind = _kind(folder)
    if (folder / "pytorch_model.bin").is_file():
        kind = "vocos-codes"  # whose module refuses a Vocos of mels
    if kind not in CODEC_KINDS:
        raise UserError(f"{folder} is of the kind {kind}, not {', '.join(CODEC_KINDS)}; choose a codec")
    return kind


def _kind(folder: Path) -> str:
    """What a folder says that it holds; published Vocos lie beside a config.yaml of their own."""
    if (folder / "pytorch_model.bin").is_file():
        return "vocos"
    if (folder / "config.json").is_file() and not (folder / checkpoint.CONFIG).is_file():
        return str(read_json(folder / "config.json").get("model_type"))
    return str(checkpoint.read_header(folder)["kind"])


def vocoder_of(model: PathLike) -> str:
    """What makes a model's features audible if nothing else is asked for: Vocos, or the codec whose latents it makes.

    Raises:
        UserError: there is no such model.
    """
    latent = checkpoint.read_header(find_model(model))["config"].get("latent")
    return str(latent["codec"]) if isinstance(latent, Mapping) else "vocos"


def _as_codec(name: PathLike) -> Path | None:
    """The folder of a codec that is asked for as a vocoder, or None if it is something else."""
    if str(name) in CODECS:
        return codec_folder(name)
    if str(name) in VOCODERS:
        return None
    folder = _find(name, "vocoder", {**VOCODERS, **CODECS})
    return folder if _kind(folder) in CODEC_KINDS else None


def load_judge(name: str) -> Any:
    """What judges takes by their text, by its name: see ``flowtts.judge.Judge``.

    Raises:
        UserError: its checkpoint is not installed.
    """
    module, shipped = JUDGES[name]
    return import_module(module).ClvpJudge.load(_find(shipped, "judge", JUDGES))


def load_metric(name: str, **context: Any) -> Metric:
    """A metric by its name, e.g. "wer", "sim-o", "wer-whisper:base.en".

    Args:
        name: one of ``metrics()``, with an option after a colon if it takes one.
        **context: of ``flowtts.eval.judging.Context``.

    Raises:
        UserError: no such metric, or what it needs is not installed.
    """
    made = import_module("flowtts.eval.judging").Context(**context)
    metric: Metric = import_module("flowtts.eval.metrics").load(name, made)
    return metric


def load_metrics(names: Sequence[str], **context: Any) -> list[Metric]:
    """Metrics that share what they have in common; see ``load_metric``."""
    made = import_module("flowtts.eval.judging").Context(**context)
    found: list[Metric] = import_module("flowtts.eval.metrics").load_all(names, made)
    return found


def read_metrics(spelling: str) -> tuple[str, ...]:
    """Metrics from a command line: names with commas, or the path of a YAML list.

    Raises:
        UserError: none, an unknown one, or a file that is no such list.
    """
    metrics = import_module("flowtts.eval.metrics")
    if spelling.endswith((".yaml", ".yml")):
        listed: list[str] = metrics.read_list(spelling)
        return tuple(listed)
    # "name:key=value,key=value": a part that goes on with an option belongs to what stands before it.
    parts: list[str] = []
    for part in (part.strip() for part in spelling.split(",")):
        if part and parts and ":" in parts[-1] and ":" not in part and "=" in part:
            parts[-1] += f",{part}"
        elif part:
            parts.append(part)
    if not parts:
        raise UserError("--metrics names no metric; give at least one, such as wer")
    for part in parts:
        metrics.parse(part)
    return tuple(parts)


def metric_info(name: str) -> dict[str, Any]:
    """What a table says of a metric, what it needs, and with which it shares work: see ``flowtts.eval.table.Entry``."""
    found: dict[str, Any] = import_module("flowtts.eval.metrics").info(name)
    return found


def metric_identity(name: str) -> dict[str, Any]:
    """Whatever decides a metric's values beside the recordings."""
    found: dict[str, Any] = import_module("flowtts.eval.metrics").identity(name)
    return found


def edit_scores(edits: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """All scores of edits: see ``flowtts.eval.edits.judge_edits``."""
    found: dict[str, Score] = import_module("flowtts.eval.edits").judge_edits(edits)
    return found


def edit_names() -> list[str]:
    """The scores of edits that every set of edits has."""
    table: Mapping[str, Any] = import_module("flowtts.eval.edits").TABLE
    return [name for name in table if name != "duration"]


def edit_info(name: str) -> dict[str, Any]:
    """What a table says of a score of edits."""
    found: dict[str, Any] = import_module("flowtts.eval.edits").info(name)
    return found


def trainer(name: str) -> Callable[..., Any]:
    """The function that trains a recipe: (kind, manifests, out, *, source, overrides, resume, vocode).

    Raises:
        UserError: no such recipe.
    """
    if name not in TRAINERS:
        raise UserError(_unknown("recipe", name, TRAINERS))
    found: Callable[..., Any] = import_module(TRAINERS[name]).train
    return found


def converter(name: str) -> Callable[..., Path]:
    """The function that makes a checkpoint of published files: (source, out, *, dtype, others).

    Raises:
        UserError: no such converter.
    """
    if name not in CONVERTERS:
        raise UserError(_unknown("converter", name, CONVERTERS))
    found: Callable[..., Path] = import_module(CONVERTERS[name]).convert
    return found


def recipes() -> list[str]:
    """Names of all recipes."""
    return sorted(RECIPES)


def can(task: str) -> list[str]:
    """Names of the recipes that can do a task."""
    return sorted(name for name, tasks in ABILITIES.items() if task in tasks)


def vocoders() -> list[str]:
    """Names of all vocoders."""
    return sorted(VOCODERS)


def codecs() -> list[str]:
    """Names of all codecs."""
    return sorted(CODECS)


def metrics() -> list[str]:
    """Names of all metrics."""
    names: list[str] = import_module("flowtts.eval.metrics").names()
    return names


def _find(name: PathLike, what: str, known: Mapping[str, Any]) -> Path:
    """The checkpoint folder that a shipped name, one that was pulled, or a path means."""
    if (folder := find_published(name)) is not None:
        return folder
    if str(name) in checkpoint.shipped() or Path(name).expanduser().is_dir():
        return checkpoint.find(name)
    if str(name) in _DEFAULTS:
        raise UserError(
            f"the {what} {name} belongs to flowtts and is not installed: install flowtts again, or give a folder"
        )
    raise UserError(_unknown(what, str(name), {**known, **dict.fromkeys(checkpoint.shipped())}))


def _vocoder_folder(name: PathLike) -> Path:
    """The checkpoint folder of a vocoder with weights."""
    if str(name) in VOCODERS and VOCODERS[str(name)] is None and not Path(name).is_dir():
        raise UserError(
            f"no weights of {name} come with flowtts: convert published ones (flowtts convert {name} --help) and give "
            "the folder that this makes"
        )
    return _find(VOCODERS.get(str(name)) or name, "vocoder", VOCODERS)


def _vocoder_kind(folder: Path) -> str:
    """What kind of vocoder a folder holds."""
    if (kind := _kind(folder)) not in VOCODER_KINDS:
        raise UserError(f"{folder} is a checkpoint of kind {kind}, not {' or '.join(VOCODER_KINDS)}; choose a vocoder")
    return kind


_SAID: Mapping[type, str] = {MelSpec: "mels", LatentSpec: "a codec's latents", CodeSpec: "codes"}


def _mismatch(has: Spec, wanted: Spec) -> str:
    """In what two specs differ."""
    if type(has) is not type(wanted):
        return f"it reads {_SAID[type(has)]} and the model makes {_SAID[type(wanted)]}"
    names = [field.name for field in fields(has) if getattr(has, field.name) != getattr(wanted, field.name)]
    return ", ".join(f"its {name} is {getattr(has, name)}, the model's {getattr(wanted, name)}" for name in names)


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}; or give a folder"
    return f"no {what} {name!r}: {hint}"
