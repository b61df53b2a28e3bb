"""The rules of the code, as tests: who imports whom, how long files are, what is never used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "latentline"
STAGES = SOURCE.parent.parent / "stages"
MODULES = sorted(SOURCE.rglob("*.py"))
LEAF = {"common", "core"}
MAY_IMPORT = {  # of latentline, besides itself
    "core": set(),
    "common": set(),
    "params": LEAF | {"diffusion"},  # schema.py alone, to refuse what does not go together
    "data": LEAF,
    "latents": LEAF,
    "diffusion": LEAF,
    "editing": LEAF,
    "evaluation": LEAF,
    "figures": LEAF,
    "runtime": LEAF,
    "nn": LEAF,
    "models": {"nn", "common"},
    "codecs": {"models", "nn", "diffusion", "common"},
    "training": {"runtime", "common"},
    "devtools": {"core"},
}
MAY_IMPORT["pipeline"] = MAY_IMPORT.keys() - {"devtools"}


def _name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of every import statement, those inside functions too."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _packages_imported(path: Path) -> set[str]:
    """Sub-packages of latentline."""
    return {name.split(".")[1] for name in _imports(path) if name.startswith("latentline.")}


def test_every_package_has_its_line_in_the_table():
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == MAY_IMPORT.keys()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    for path in (SOURCE / package).rglob("*.py"):
        assert _packages_imported(path) <= MAY_IMPORT[package] | {package}, _name(path)


def test_the_table_has_no_cycle():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [package for package, allowed in MAY_IMPORT.items() if package not in order and allowed <= set(order)]
        assert free, f"a cycle among {MAY_IMPORT.keys() - set(order)}"
        order += free


def test_the_package_itself_imports_nothing():
    assert list(_imports(SOURCE / "__init__.py")) == []


@pytest.mark.parametrize("path", sorted(STAGES.glob("*.py")), ids=lambda path: path.stem)
def test_a_stage_script_only_runs_the_pipeline_module_of_its_name(path):
    ours = {name for name in _imports(path) if name.split(".")[0] not in {"sys", "pathlib"}}
    if path.stem == "checkout":
        assert ours == set()
    else:
        pipeline = f"latentline.pipeline.{path.stem}"
        assert ours == {"checkout", pipeline, f"{pipeline}.main", "latentline.runtime.stage", "latentline.runtime.stage.run_stage"}
        assert f'run_stage("{path.stem}", main)' in path.read_text()


def test_checkout_is_the_first_import_of_every_stage_script():
    for path in STAGES.glob("*.py"):
        imports = [node for node in _tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert path.stem == "checkout" or (isinstance(imports[0], ast.Import) and imports[0].names[0].name == "checkout")


def test_no_file_is_longer_than_300_lines():
    long = [path for path in [*MODULES, *STAGES.glob("*.py")] if len(path.read_text().splitlines()) > 300]
    assert long == []


def test_nothing_is_imported_by_a_star():
    assert [_name(path) for path in MODULES for name in _imports(path) if name.endswith(".*")] == []


def test_nothing_that_runs_code_from_a_file_is_used():
    banned_modules = {"pickle", "dill", "joblib", "shelve", "marshal", "yaml"}
    banned_calls = re.compile(r"\btorch\.save\b|\bnp\.load\b|\bpd\.read_pickle\b|YAML\(typ=['\"](unsafe|full)|\b(eval|exec)\(")
    for path in MODULES:
        assert not {name.split(".")[0] for name in _imports(path)} & banned_modules, _name(path)
        assert not banned_calls.search(path.read_text().replace(".eval()", "")), _name(path)
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                assert _name(path) == "runtime/wheels.py"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in map(ast.unparse, node.keywords), _name(path)


def test_devices_are_named_in_one_place_and_its_knob():
    naming = {_name(path) for path in MODULES if re.search("cuda", path.read_text(), re.IGNORECASE)}
    assert naming == {"runtime/compute.py", "params/compute.py"}


def _classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for path in MODULES for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)}


def _is_abstract(node: ast.ClassDef) -> bool:
    """It has abstract methods, or it has neither fields nor methods at all: only a docstring and settings for its children."""
    has_abstract_method = any("abstractmethod" in ast.unparse(part) for part in node.body if isinstance(part, ast.FunctionDef))
    return has_abstract_method or all(isinstance(part, ast.Expr | ast.Assign) for part in node.body)


def test_every_class_of_ours_is_abstract_or_final():
    classes = _classes()
    parents = {ast.unparse(base).split(".")[-1] for node in classes.values() for base in node.bases} & classes.keys()
    assert parents >= {"Codec", "Section"}  # the test sees parents at all
    assert [name for name in parents if not _is_abstract(classes[name])] == []


def test_class_names_are_unique():
    names = [node.name for path in MODULES for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_every_module_says_what_it_is_for():
    assert [path for path in [*MODULES, *STAGES.glob("*.py")] if not ast.get_docstring(_tree(path))] == []


def test_every_knob_is_explained_in_its_model():
    """A docstring under each field, except ``optimizer``, ``process`` and ``preview``, whose own classes explain them."""
    for path in (SOURCE / "params").glob("*.py"):
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.ClassDef) or node.name == "Params":
                continue
            for part, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(part, ast.AnnAssign) and not ast.unparse(part.annotation).endswith("Params"):
                    explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    assert explained, f"{_name(path)}: {ast.unparse(part.target)}"
