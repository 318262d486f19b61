"""The shape of the repository: what a wheel holds, who may import whom, and the house rules."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
SIBLINGS = ("recipes", "vocoders", "eval")
FOLDERS = ("flowtts", *SIBLINGS)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
# What they forward arrives at frozen dataclasses, which refuse unknown names.
MAY_FORWARD = ("flowtts/pipeline.py", "flowtts/registry.py")
# These talk to people: the command line, and modules that are programs (`python -m flowtts.x`).
MAY_PRINT = ("flowtts/cli.py", "flowtts/commands/")


def module_name(path: Path) -> str:
    """The dotted name under which a source file is imported."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if parts[0] == "flowtts" else ["flowtts", *parts])


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- packages and the wheel ------------------------------------------------------------------------------------------


def test_the_hand_kept_list_of_packages_is_the_tree() -> None:
    found = {module_name(path) for path in SOURCES if path.name == "__init__.py"}
    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_folder_with_code_is_a_package() -> None:
    assert [short(path) for path in SOURCES if not (path.parent / "__init__.py").exists()] == []


def test_the_version_is_said_once_and_the_same() -> None:
    import flowtts

    assert project()["project"]["version"] == flowtts.__version__


def test_the_extra_called_all_holds_every_extra_but_dev() -> None:
    extras = project()["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.removeprefix("flowtts[").removesuffix("]").split(",")) == set(extras) - {"all", "dev"}


def test_what_every_import_needs_is_a_dependency() -> None:
    """Packages imported at the head of a module; those imported inside functions belong to extras."""
    named = {"yaml": "pyyaml"}
    declared = {re.split(r"[<>=~!\[; ]", text)[0].lower() for text in project()["project"]["dependencies"]}
    needed = set()
    for path in SOURCES:
        for node in tree(path).body:
            if isinstance(node, ast.Import):
                needed |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                needed.add((node.module or "").partition(".")[0])
    needed -= {*sys.stdlib_module_names, "flowtts"}
    assert {named.get(name, name) for name in needed} - declared == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing stale in the checkout can slip in."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.part"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".part":
                name = short(path)
                wanted.add(name if folder == "flowtts" else f"flowtts/{name}")
    # Notes for people who read the repository.
    documents = {name for name in wanted if name.endswith(".md") and "/checkpoints/" not in name}
    assert held - wanted == set(), "in the wheel, not in the tree"
    assert wanted - documents - held == set(), "in the tree, not in the wheel: add it to packages or package-data"


def test_what_the_wheel_installs_can_be_imported_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
        entry = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "flowtts = flowtts.cli:main" in entry
    program = (
        "import flowtts, flowtts.recipes.voicebox, flowtts.vocoders, flowtts.eval, flowtts.cli, sys;"
        f"assert flowtts.recipes.__file__.startswith({str(tmp_path)!r}), flowtts.recipes.__file__;"
        "assert 'recipes' not in sys.modules and 'vocoders' not in sys.modules and 'eval' not in sys.modules"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_a_sibling_imported_by_its_bare_name_says_how_to_import_it(sibling: str) -> None:
    spec = importlib.util.spec_from_file_location(sibling, ROOT / sibling / "__init__.py")
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=rf"import flowtts\.{sibling}, not {sibling}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# --- who imports whom ------------------------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, absolute dotted name, whether it was written relatively) of everything a file imports."""
    name = module_name(path)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, False
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{target}.{alias.name}", node.level > 0


def owner(name: str) -> str:
    """The part of the project that a dotted name belongs to: a sibling, "flowtts", or "" for the rest of the world."""
    for sibling in SIBLINGS:
        if (name + ".").startswith((f"flowtts.{sibling}.", f"{sibling}.")):
            return sibling
    return "flowtts" if (name + ".").startswith("flowtts.") else ""


def breaches(path: Path) -> list[str]:
    """The imports of a file that break the rule."""
    home = owner(module_name(path))
    found = []
    for line, name, relative in imports(path):
        target = owner(name)
        wrong = (
            (target in SIBLINGS and target != home)  # core or sibling -> another sibling
            or (home in SIBLINGS and target == home and not relative)  # a sibling imports itself relatively
            or (home in SIBLINGS and target == "flowtts" and relative)  # and the core by name
        )
        if wrong:
            found.append(f"{short(path)}:{line} imports {name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_imports_a_sibling_by_name(path: Path) -> None:
    assert breaches(path) == []


def test_the_rule_sees_every_way_of_breaking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "recipes" / "paper" / "model.py"
    file.parent.mkdir(parents=True)
    wrong = (
        "import flowtts.vocoders.vocos", "from flowtts.vocoders import vocos", "from flowtts import vocoders",
        "from ...vocoders import vocos", "import eval", "from flowtts.recipes.paper import net", "from ... import path",
    )  # fmt: skip
    right = (
        "from .net import Net",
        "from ..other import x",
        "from flowtts.path import OT",
        "import vocos",
        "import torch",
    )
    for line in wrong:
        file.write_text(line, encoding="utf-8")
        assert breaches(file), line
    for line in right:
        file.write_text(line, encoding="utf-8")
        assert not breaches(file), line


# --- house rules -----------------------------------------------------------------------------------------------------


def called(node: ast.Call) -> str:
    """The dotted name that a call is written with."""
    parts: list[str] = []
    function: ast.expr = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    # The method of a value that has no name, such as Model().eval(), is no built-in.
    parts.append(function.id if isinstance(function, ast.Name) else "")
    return ".".join(reversed(parts))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def is_program(module: ast.Module) -> bool:
    """Whether a file ends in ``if __name__ == "__main__"``."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.body)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> int:
    """Lines of a function without its docstring; of a command without its options, which are a table, not logic."""
    head = node.body[0]
    first = head.lineno if short(path).startswith("flowtts/commands/") else node.lineno
    documented = ast.get_docstring(node) is not None
    return (node.end_lineno or 0) - first + 1 - ((head.end_lineno or 0) - head.lineno + 1 if documented else 0)


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{lines} lines: split it"
    long = [
        f"{node.name}: {size} lines"
        for node in functions(tree(path))
        if (size := length(node, path)) > LONGEST_FUNCTION
    ]
    assert long == []


# An aligner travels to worker processes of the same program; nothing is read from a file.
MAY_PICKLE = ("flowtts/data/prepare.py", "flowtts/data/work.py")


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_runs_code_from_data(path: Path) -> None:
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            banned = ("pickle", "dill", "marshal", "shelve") if short(path) not in MAY_PICKLE else ()
            found += [f"line {node.lineno}: {name}" for name in names if name in banned]
        elif isinstance(node, ast.Call):
            name, words = called(node), {word.arg: word.value for word in node.keywords}
            safe = isinstance(words.get("weights_only"), ast.Constant) and ast.unparse(words["weights_only"]) == "True"
            unsafe = name == "torch.load" and not safe
            pickled = "allow_pickle" in words and ast.unparse(words["allow_pickle"]) != "False"
            if name in ("eval", "exec", "os.system", "yaml.load", "pickle.load") or unsafe or pickled:
                found.append(f"line {node.lineno}: {name}")
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_house_style(path: Path) -> None:
    module, found = tree(path), []
    may_print = short(path).startswith(MAY_PRINT) or is_program(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            found.append(f"line {node.lineno}: global")
        elif isinstance(node, ast.Call) and called(node) == "hasattr":
            found.append(f"line {node.lineno}: hasattr")
        elif isinstance(node, ast.Call) and called(node) == "print" and not may_print:
            found.append(f"line {node.lineno}: print")
    for function in functions(module):
        keywords = function.args.kwarg
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and keywords is not None and short(path) not in MAY_FORWARD:
                forwarded = [word for word in node.keywords if word.arg is None]
                if any(isinstance(word.value, ast.Name) and word.value.id == keywords.arg for word in forwarded):
                    found.append(f"line {node.lineno}: **{keywords.arg} forwarded")
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_importing_a_module_does_nothing_but_define(path: Path) -> None:
    """A call at the head of a file that stands alone is there for its side effect."""
    calls = [
        f"line {node.lineno}: {called(node.value)}"
        for node in tree(path).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert calls == []


def test_the_command_line_starts_without_torch() -> None:
    program = "import sys, flowtts.cli; print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
