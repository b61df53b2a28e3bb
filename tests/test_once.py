"""Workers share folders that take long to make, and run the files in an order that makes each folder early."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.once import Once, in_order_for_workers


class Factory:
    """Stand-in for the factory of a worker, whose folders lie in ``base``."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def getbasetemp(self) -> Path:
        return self._base

    def mktemp(self, name: str) -> Path:
        (self._base / name).mkdir(parents=True)
        return self._base / name


def _worker(base: Path) -> Once:
    return Once(SimpleNamespace(workerinput={}), Factory(base))


def _maker(made: list[Path], text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text(text)
        (folder / "link").symlink_to("file")
        made.append(folder)

    return make


def test_two_workers_make_a_folder_once_and_neither_sees_what_the_other_changes(tmp_path):
    made: list[Path] = []
    first, second, third = (_worker(tmp_path / name) for name in ("gw0", "gw1", "gw2"))
    one = first.folder("run", _maker(made, "new"))
    (one / "file").write_text("changed")
    other = second.folder("run", _maker(made, "again"))
    assert made == [one]
    assert (other / "file").read_text() == "new"
    assert (other / "link").is_symlink()
    (other / "file").write_text("changed, too")
    assert (third.folder("run", _maker(made, "again")) / "file").read_text() == "new"
    assert (one / "file").read_text() == "changed"


def test_another_worker_makes_the_folder_when_the_first_has_failed(tmp_path):
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        _worker(tmp_path / "gw0").folder("run", fail)
    made: list[Path] = []
    assert (_worker(tmp_path / "gw1").folder("run", _maker(made, "new")) / "file").read_text() == "new"


def test_one_process_makes_its_folders_itself(tmp_path):
    made: list[Path] = []
    alone = Once(SimpleNamespace(), Factory(tmp_path / "base"))
    assert [alone.folder("run", _maker(made, "new"))] == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["base"]


def test_the_first_user_of_each_shared_folder_comes_first_and_quick_files_come_last():
    def test(path: str, *fixtures: str) -> SimpleNamespace:
        return SimpleNamespace(path=Path(path), fixturenames=fixtures)

    quick, stage = test("core/a.py", "tmp_path"), test("stages/a.py")
    makers = [test("docs/a.py"), test("docs/a.py", "long"), test("stages/b.py", "small")]
    users = [test("stages/c.py", "small", "long"), test("z.py", "long")]
    items = [quick, makers[0], makers[1], stage, makers[2], *users]
    assert in_order_for_workers(items, ("long", "small")) == [*makers, stage, *users, quick]
