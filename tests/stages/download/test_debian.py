"""Files of a Debian package come from apt, also where its lists are empty, and failures name the command."""

import os
from pathlib import Path

import pytest

from stages.download.fetch import SourceError
from stages.download.sources.debian import debian_files

# Stand-ins for Debian's tools. This apt-get has the package only after an update into the given lists.
APT_GET = """#!/bin/sh
echo "$*" >> "{log}"
lists=
for option in "$@"; do
  case "$option" in -oDir::State::Lists=*) lists=${{option#-oDir::State::Lists=}};; esac
done
case "$*" in
  *update) [ {update_works} = yes ] && touch "$lists/fresh" && exit 0; echo "E: no network" >&2; exit 100;;
  *"download the-package") [ {knows} = yes ] || [ -e "$lists/fresh" ] && touch the-package_1.0_all.deb && exit 0
    echo "E: Unable to locate package the-package" >&2; exit 100;;
esac
echo "E: unexpected: $*" >&2; exit 1
"""
DPKG_DEB = """#!/bin/sh
[ "$1" = --extract ] && [ -e "$2" ] || exit 2
mkdir -p "$3/usr/share/doc" && printf first > "$3/usr/share/one.gz" && printf second > "$3/usr/share/doc/two.gz"
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts the stand-ins on the PATH; returns a function that says how they behave and gives the log of their calls."""

    def install(*, knows: bool, update_works: bool) -> Path:
        log = tmp_path / "log"
        scripts = {
            "apt-get": APT_GET.format(
                log=log, knows="yes" if knows else "no", update_works="yes" if update_works else "no"
            ),
            "dpkg-deb": DPKG_DEB,
        }
        for name, text in scripts.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return log

    return install


def test_files_are_found_wherever_the_package_puts_them(tools):
    log = tools(knows=True, update_works=False)
    assert debian_files("the-package", ["two.gz", "one.gz"], 5.0) == {"two.gz": b"second", "one.gz": b"first"}
    assert len(log.read_text().splitlines()) == 1  # no update without need


def test_a_machine_with_empty_lists_updates_into_a_private_folder_and_then_works(tools):
    log = tools(knows=False, update_works=True)
    assert debian_files("the-package", ["one.gz"], 5.0) == {"one.gz": b"first"}
    first, update, second = log.read_text().splitlines()
    assert "Dir::State::Lists" not in first
    assert update.endswith("update")
    private = next(option for option in update.split() if option.startswith("-oDir::State::Lists="))
    assert private in second
    assert not Path(private.partition("=")[2]).exists()  # nothing stays behind
    assert "Timeout=5" in update


def test_a_machine_without_network_gives_a_source_error_with_apts_own_words(tools):
    tools(knows=False, update_works=False)
    with pytest.raises(SourceError, match="no network"):
        debian_files("the-package", ["one.gz"], 5.0)


def test_a_package_without_the_file_is_a_source_error_that_names_it(tools):
    tools(knows=True, update_works=True)
    with pytest.raises(SourceError, match=r"three\.gz"):
        debian_files("the-package", ["one.gz", "three.gz"], 5.0)


def test_a_machine_without_apt_is_a_source_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="apt-get"):
        debian_files("the-package", ["one.gz"], 5.0)
