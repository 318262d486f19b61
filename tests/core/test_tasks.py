"""What recipes can be asked to do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_tortoise import tiny_tortoise

from flowtts import registry
from flowtts.tasks import Diverse, FreeRecipe, Infilling, TimedRecipe, infilling, require, timed
from flowtts.types import Recipe, UserError


@dataclass
class _Mute:
    name: str = "mute"
    tasks: frozenset[str] = frozenset({"say"})


def test_every_declared_ability_is_the_recipes_own(tmp_path: Path) -> None:
    recipes = {name: registry.load_recipe(name) for name in ("voicebox", tiny_tortoise(tmp_path / "tortoise"))}
    found = {recipe.name: recipe for recipe in recipes.values()}
    assert set(found) == set(registry.ABILITIES) == set(registry.RECIPES)
    for name, tasks in registry.ABILITIES.items():
        recipe = found[name]
        assert recipe.tasks == tasks <= set(registry.TASKS)
        assert isinstance(recipe, Recipe) and isinstance(recipe, TimedRecipe) != isinstance(recipe, FreeRecipe)
        assert isinstance(recipe, Infilling) == ("edit" in tasks)
    assert isinstance(found["voicebox"], Diverse)


@pytest.mark.parametrize("task", [task for task in registry.TASKS if task != "say"])
def test_a_task_is_refused_with_the_recipes_that_can(task: str) -> None:
    able = " or ".join(registry.can(task))
    with pytest.raises(UserError, match=rf"mute cannot .*\({task}\): take {able}$"):
        require(_Mute(), task)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="my/model cannot"):
        infilling(_Mute(), task, "my/model")  # type: ignore[arg-type]
    require(_Mute(), "say")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the model mute does not time its phones"):
        timed(_Mute())  # type: ignore[arg-type]


def test_unknown_tasks_and_false_claims_are_programming_errors() -> None:
    with pytest.raises(ValueError, match="no task"):
        require(_Mute(), "sing")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="infill"):
        infilling(_Mute(tasks=frozenset({"edit"})), "edit")  # type: ignore[arg-type]


def test_listing_abilities_imports_no_recipe() -> None:
    code = "import sys, flowtts.registry as r; r.can('edit'); print('flowtts.recipes.voicebox' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_durations_of_another_variant() -> None:
    recipe = registry.load_recipe("voicebox")
    assert isinstance(recipe, Diverse)
    assert recipe.with_durations("regression") is recipe
    other = recipe.with_durations("flow")
    assert other.spec == recipe.spec and other.tasks == recipe.tasks
    with pytest.raises(UserError, match="no durations"):
        recipe.with_durations("guess")
