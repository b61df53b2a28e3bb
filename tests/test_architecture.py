"""The rules of the code hold: imports point one way, files are short, and nothing runs code from a file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentline.tools.import_table import MAY_IMPORT, MAY_IMPORT_PUBLIC_NAMES, PUBLIC_NAMES, table, with_table

SOURCE = Path(__file__).resolve().parent.parent / "src" / "latentline"
STAGES = SOURCE.parent.parent / "stages"
MODULES = sorted(SOURCE.rglob("*.py"))
STAGE_MODULES = sorted(STAGES.rglob("*.py"))
ALL = [*MODULES, *STAGE_MODULES]


def _name(path: Path) -> str:
    return path.relative_to(SOURCE if path.is_relative_to(SOURCE) else STAGES.parent).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of every import statement of a file."""
    yield from _imported(_tree(path))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names of every import statement, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _packages_imported(path: Path) -> set[str]:
    """Return the packages of latentline that a file imports."""
    return {name.split(".")[1] for name in _imports(path) if name.startswith("latentline.")}


def test_every_package_has_its_line_in_the_table():
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == MAY_IMPORT.keys() | {
        "pipeline"
    }  # the deprecated door


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    above = PUBLIC_NAMES if package in MAY_IMPORT_PUBLIC_NAMES else set()
    for path in (SOURCE / package).rglob("*.py"):
        assert _packages_imported(path) <= MAY_IMPORT[package] | {package} | above, _name(path)


def test_nothing_below_the_public_names_imports_what_may_import_them():
    for package, allowed in MAY_IMPORT.items():
        assert not allowed & MAY_IMPORT_PUBLIC_NAMES, package
    for path in SOURCE.glob("*.py"):
        assert not _packages_imported(path) & MAY_IMPORT_PUBLIC_NAMES, _name(path)


def test_the_table_has_no_cycle():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [package for package, allowed in MAY_IMPORT.items() if package not in order and allowed <= set(order)]
        assert free, f"a cycle among {MAY_IMPORT.keys() - set(order)}"
        order += free


def test_contributing_shows_the_same_table():
    page = (STAGES.parent / "CONTRIBUTING.md").read_text()
    assert with_table(page, table(SOURCE)) == page, "run `make deps`"


@pytest.mark.parametrize("path", [SOURCE / "__init__.py", STAGES / "__init__.py"], ids=_name)
def test_the_two_files_above_all_code_import_none_of_it(path):
    run = ast.Module([node for node in _tree(path).body if "TYPE_CHECKING" not in ast.unparse(node)], [])
    assert not {name.split(".")[0] for name in _imported(run)} & {"latentline", "stages"}


def test_the_library_imports_no_stage():
    assert [path for path in MODULES if any(name.split(".")[0] == "stages" for name in _imports(path))] == []


def test_no_stage_imports_another():
    for path in STAGE_MODULES:
        stages = {name.split(".")[1] for name in _imports(path) if name.startswith("stages.")}
        own = path.relative_to(STAGES).parts[0]
        allowed = {own, "schema"} if own == "check_params" else {own}
        assert path.name == "schema.py" or stages <= allowed, path


def test_no_stage_imports_the_tools():
    assert [path for path in STAGE_MODULES if any(name.startswith("latentline.tools") for name in _imports(path))] == []
    assert [path for path in STAGE_MODULES if _packages_imported(path) & {"report", "explorer"}] == []


@pytest.mark.parametrize("path", sorted(STAGES.glob("*/__main__.py")), ids=lambda path: path.parent.name)
def test_a_stage_runs_under_the_name_of_its_folder(path):
    assert path.read_text().endswith(f'if __name__ == "__main__":\n    run_stage("{path.parent.name}", main)\n')


def test_no_file_is_longer_than_300_lines():
    long = [path for path in ALL if len(path.read_text().splitlines()) > 300]
    assert long == []


def test_nothing_is_imported_by_a_star():
    assert [_name(path) for path in ALL for name in _imports(path) if name.endswith(".*")] == []


def test_nothing_that_runs_code_from_a_file_is_used():
    banned_modules = {"pickle", "dill", "joblib", "shelve", "marshal", "yaml"}
    banned_calls = re.compile(
        r"\btorch\.save\b|\bnp\.load\b|\bpd\.read_pickle\b|YAML\(typ=['\"](unsafe|full)|\b(eval|exec)\("
    )
    for path in ALL:
        assert not {name.split(".")[0] for name in _imports(path)} & banned_modules, _name(path)
        assert not banned_calls.search(path.read_text().replace(".eval()", "")), _name(path)
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                assert _name(path) == "runtime/packaged_weights.py"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in map(ast.unparse, node.keywords), _name(path)


def test_devices_are_named_in_runtime_and_in_their_setting():
    naming = {_name(path) for path in ALL if re.search("cuda", path.read_text(), re.IGNORECASE)}
    in_runtime = {f"runtime/{name}.py" for name in ("compute", "compile", "precision")}
    assert naming == {*in_runtime, "core/compute_params.py"}


def _classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for path in ALL for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)}


def _is_abstract(node: ast.ClassDef) -> bool:
    """Return whether a class has abstract methods, or neither fields nor methods: only a docstring and settings."""
    has_abstract_method = any(
        "abstractmethod" in ast.unparse(part) for part in node.body if isinstance(part, ast.FunctionDef)
    )
    return has_abstract_method or all(isinstance(part, ast.Expr | ast.Assign) for part in node.body)


def test_every_class_of_ours_is_abstract_or_final():
    classes = _classes()
    parents = {ast.unparse(base).split(".")[-1] for node in classes.values() for base in node.bases} & classes.keys()
    assert parents >= {"Autoencoder", "Section"}  # else the test would hold of nothing
    assert [name for name in parents if not _is_abstract(classes[name])] == []


def test_class_names_are_unique():
    names = [node.name for path in ALL for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_every_module_has_a_docstring():
    tests = (STAGES.parent / "tests").rglob("*.py")
    assert [path for path in [*ALL, *tests] if not ast.get_docstring(_tree(path))] == []


def test_every_setting_is_explained_in_its_model():
    """Require a docstring under each field but those of a section, whose own class explains them."""
    for path in [
        SOURCE / "core" / "compute_params.py",
        SOURCE / "training" / "params.py",
        *STAGES.glob("*/*params.py"),
    ]:
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.ClassDef) or node.name == "Params":
                continue
            for part, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(part, ast.AnnAssign) and not ast.unparse(part.annotation).endswith("Params"):
                    explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    assert explained, f"{_name(path)}: {ast.unparse(part.target)}"
