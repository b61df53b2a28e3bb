"""One module of this package as a file that runs without the package: all that it uses is copied into it."""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]  # holds latentline/
_PACKAGE = "latentline"
_HEADER = """\
# Written by Latentline: the definitions that this file uses, in the order in which they need each other.
# Type hints may name classes that are not in this file, since nothing evaluates them."""
_ONCE = """\
# diffusers runs this file again for every pipeline that it loads, over the names of the earlier run. Networks of an
# earlier pipeline would then meet classes of another run or version. So the class comes from a module of its own.
if not __name__.endswith("{digest}"):
    _own_name = f"{{__name__}}_{digest}"
    if _own_name not in sys.modules:
        _spec = importlib.util.spec_from_file_location(_own_name, __file__)
        sys.modules[_own_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_own_name])
    {name} = sys.modules[_own_name].{name}
"""


@dataclass(frozen=True)
class _Definition:
    """A statement at the top of a module, with its comments and its docstring."""

    name: str
    text: str
    uses: frozenset[str]
    """Names that it needs when it runs."""
    hints: frozenset[str]
    """Names in its type hints."""


class _Module:
    """Definitions and imports of one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        source = (_SOURCE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        tree, lines = ast.parse(source), source.splitlines()
        self.docstring = ast.get_docstring(tree, clean=False) or ""
        self.definitions: dict[str, _Definition] = {}
        self.ours: dict[str, str] = {}  # imported name -> module of this package
        self.others: dict[str, tuple[str, str]] = {}  # bound name -> module, or "" for `import`; what is imported
        end = last = 0  # last line of the previous statement; first line of the definition that it belongs to
        name = ""
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node)
            elif isinstance(node, ast.Expr):  # a docstring: of the module, or of the constant above
                if name:
                    self._add(name, lines[last : node.end_lineno], node)
            elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
                name, last = self._name(node), end
                self._add(name, lines[end : node.end_lineno], node)
            end = node.end_lineno or end

    def _name(self, node: ast.stmt) -> str:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise ValueError(f"{self.name}, line {node.lineno}: expected a class, a function or one constant")
        return targets[0].id

    def _add(self, name: str, lines: list[str], node: ast.stmt) -> None:
        hints = {used for hint in _type_hints(node) for used in _names(hint)}
        uses = set(_names(node, within_hints=False))
        if name in self.definitions:  # its docstring follows
            uses |= self.definitions[name].uses
            hints |= self.definitions[name].hints
        self.definitions[name] = _Definition(name, "\n".join(lines).strip("\n"), frozenset(uses), frozenset(hints))

    def _add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            bound = alias.asname or (alias.name if module else alias.name.split(".")[0])
            if module.split(".")[0] == _PACKAGE:
                self.ours[bound] = module
            else:
                renamed = f"{alias.name} as {bound}" if alias.asname else alias.name
                self.others[bound] = module, renamed


def single_file(module: str, name: str) -> str:
    """Return the source of class ``name``, after all definitions of this package that it needs.

    Args:
        module: dotted name of its module. Modules import this package's names at their top, and rename none.
        name: of the class.

    Raises:
        ValueError: two definitions have one name; rename one of them.
    """
    collected = _Collected()
    root = collected.module(module)
    collected.add(root, name)
    blocks = [f'"""{root.docstring}"""', _HEADER]
    blocks += ["from __future__ import annotations", "\n".join(collected.import_lines())]
    for each in collected.in_order(root):
        texts = [one.text for one in each.definitions.values() if collected.chosen.get(one.name) == each.name]
        if texts:
            blocks += [f"\n# From {each.name.replace('.', '/')}.py", *texts]
    text = "\n\n".join(blocks) + "\n\n\n"
    return text + _ONCE.format(digest=hashlib.sha256(text.encode()).hexdigest()[:12], name=name)


class _Collected:
    """The definitions that a module needs, directly or through others."""

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}  # name of a definition -> its module
        self._modules: dict[str, _Module] = {}
        self._imports: dict[str, tuple[str, str]] = {}

    def module(self, name: str) -> _Module:
        if name not in self._modules:
            self._modules[name] = _Module(name)
        return self._modules[name]

    def add(self, module: _Module, name: str) -> None:
        """Choose a definition, and what it needs."""
        definition = module.definitions[name]
        if other := self.chosen.get(name):
            if self.module(other).definitions[name].text != definition.text:
                raise ValueError(f"{name} must be defined once, but {other} and {module.name} do; rename one of them")
            return
        self.chosen[name] = module.name
        for used in sorted(definition.uses):
            if used in module.definitions:
                self.add(module, used)
            elif used in module.ours:
                self.add(self.module(module.ours[used]), used)
        for used in definition.uses | definition.hints:
            if used in module.others and self._imports.setdefault(used, module.others[used]) != module.others[used]:
                raise ValueError(f"{used} must be one import, but {module.name} imports another; rename it there")

    def import_lines(self) -> Iterator[str]:
        """Yield the lines that import what other libraries define."""
        if twice := self._imports.keys() & self.chosen.keys():
            raise ValueError(f"{min(twice)} must be defined or imported, but it is both; rename the definition")
        whole = {name for module, name in self._imports.values() if not module} | {"importlib.util", "sys"}
        yield from (f"import {name}" for name in sorted(whole))
        for source in sorted({module for module, _ in self._imports.values() if module}):
            names = sorted(name for module, name in self._imports.values() if module == source)
            yield f"from {source} import {', '.join(names)}"

    def in_order(self, root: _Module) -> list[_Module]:
        """Return the modules of the definitions, each after those that it imports."""
        ordered: dict[str, _Module] = {}

        def visit(module: _Module) -> None:
            for name in dict.fromkeys(module.ours.values()):
                if name in self._modules and name not in ordered:
                    visit(self._modules[name])
            ordered[module.name] = module

        visit(root)
        return list(ordered.values())


def _type_hints(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the type hints of a statement."""
    for part in ast.walk(node):
        for field in ("annotation", "returns"):
            if isinstance(hint := getattr(part, field, None), ast.AST):
                yield hint


def _names(node: ast.AST, *, within_hints: bool = True) -> Iterator[str]:
    """Yield the names in a statement, or those outside of its type hints."""
    hints = set() if within_hints else {id(hint) for hint in _type_hints(node)}
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if id(part) in hints:
            continue
        if isinstance(part, ast.Name):
            yield part.id
        waiting += ast.iter_child_nodes(part)
