"""``make report``: one HTML file with everything inside, of one run or of two side by side."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from latentline.core.errors import UserError
from latentline.report.__main__ import main
from latentline.report.page import report_page
from latentline.report.run import IMAGES, Run, read_revision, read_workspace
from support.checkout import Checkout

FETCHING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += f" {data}"

    def named(self, name: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a kind."""
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture
def run(finished: Checkout, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the tiny pipeline's run; its folder is the current one."""
    monkeypatch.chdir(finished.folder)
    return read_workspace()


@pytest.fixture
def page_of(root: Path) -> Callable[..., Elements]:
    """Return a function that parses the page of one or two runs."""
    return lambda *runs: Elements(report_page([*runs], root))


def test_nothing_is_requested_from_outside(run, root):
    page = report_page([run], root)
    elements = Elements(page)
    for tag, attributes in elements.found:
        for name in FETCHING & attributes.keys():
            assert (attributes[name] or "").startswith("data:"), (tag, name)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    policies = [meta["content"] for meta in elements.named("meta") if "http-equiv" in meta]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'; img-src data:;")


def test_every_figure_is_inside_with_its_bytes(run, page_of):
    images = {image["alt"]: str(image["src"]) for image in page_of(run).named("img")}
    figures = run.below("fig", *IMAGES)
    assert len(figures) > 30
    assert images.keys() == set(figures)
    for path in figures:
        head, content = images[path].split(",", 1)
        assert head == f"data:{IMAGES[Path(path).suffix]};base64"
        assert base64.b64decode(content) == Path(path).read_bytes()


def test_every_column_of_every_table_of_numbers_can_be_read(run, page_of):
    charts = page_of(run).named("svg")
    lines = [line for chart in charts for line in json.loads(str(chart["data-lines"]))]
    with Path("fig/autoencoder/loss.csv").open() as file:
        header, first = file.readline().strip().split(","), file.readline().split(",")
    for name, value in zip(header[1:], map(float, first[1:]), strict=True):
        assert [1.0, value] in [
            point[1:] for line in lines if line["name"] == name.replace("_", " ") for point in line["points"]
        ]
    assert {chart["data-x"] for chart in charts} >= {"epoch", "t", "strength"}


def test_scores_settings_time_and_revision_are_in_the_text(run, page_of):
    text = " ".join(page_of(run).text.split())
    fd = run.metrics["evaluate"]
    for value in (fd["fd"], fd["fd_real_test"], fd["fd_of_decoded_noise"]):
        assert f"{value:.4g}" in text
    assert f"git checkout {run.revision}" in text
    assert "CC BY 4.0" in text  # of the data
    assert "denoiser.preview.width" in text  # differs from every recipe
    assert "train_denoiser" in text
    assert run.settings_text.strip().splitlines()[0] in text


def test_a_run_beside_another(run, page_of):
    metrics = json.loads(run.files["metrics/evaluate.json"])
    changed = {
        "metrics/evaluate.json": json.dumps(metrics | {"fd": metrics["fd"] + 1}).encode(),
        "params.yaml": run.files["params.yaml"].replace(b"\nseed: 0", b"\nseed: 7"),
        "fig/sample/grid.png": b"other",
        "metrics/timing.json": b'{"older_stage": {"seconds": 7}}',
        "metrics/older.json": b'{"older_score": 3}',
    }
    lacking = {path: content for path, content in run.files.items() if path != "fig/latents/channels.png"}
    elements = page_of(run, replace(run, name="earlier", files=lacking | changed))
    pictures = [image["alt"] for image in elements.named("img")]
    assert {
        "fig/sample/grid.png of this run",
        "fig/sample/grid.png of earlier",
        "fig/latents/channels.png of this run",
    } <= {*pictures}
    assert "fig/sample/trajectory.png" in pictures  # once, since both have the same
    text = " ".join(elements.text.split())
    assert "1 setting differs from earlier" in text
    assert "older_stage" in text
    assert "older_score" in text
    assert "-1 lower" in text  # the change of fd, and which way is better
    assert "channels: earlier has none" in text
    dashed = [line for line in elements.named("polyline") if "stroke-dasharray" in line]
    assert len(dashed) * 2 == len(elements.named("polyline"))


def test_names_of_classes_and_files_cannot_add_elements(run, page_of):
    hostile = "</script><img src=x onerror=alert(1)>"
    metrics = json.dumps({hostile: {"f1": 1.0}, "text": hostile}).encode()
    table = f'epoch,"{hostile}"\n1,2\n'.encode()
    files = run.files | {"metrics/latent_classifiers.json": metrics, "fig/sample/hostile.csv": table}
    elements = page_of(replace(run, name="<b>", files=files), replace(run, name='"><b>', files=files))
    assert "onerror" not in {name for _, attributes in elements.found for name in attributes}
    assert elements.named("b") == []
    assert len(elements.named("script")) == 1


def test_a_run_without_some_files_is_reported(run, page_of):
    few = {name: run.files[name] for name in ("params.yaml", "metrics/autoencoder.json")}
    elements = page_of(replace(run, revision="", files=few))
    text = " ".join(elements.text.split())
    assert elements.named("img") == elements.named("svg") == []
    assert "This run has no metrics/timing.json" in text


def test_the_command_compares_with_a_revision_and_with_an_experiment_of_dvc(copy, monkeypatch, capsys):
    monkeypatch.chdir(copy.folder)
    copy.run("git", "update-ref", "refs/exps/aa/bbb/tried", "HEAD")
    assert read_revision("tried").revision == read_revision("HEAD").revision == read_workspace().revision
    assert read_revision("HEAD").files == read_workspace().files
    assert main(["sent", "HEAD"]) == 0
    assert "wrote sent/report.html" in capsys.readouterr().out
    assert "compared with HEAD" in Path("sent/report.html").read_text()
    (copy.folder / "params.yaml").write_text(f"{(copy.folder / 'params.yaml').read_text()}# changed\n")
    assert read_workspace().changed == ("params.yaml",)
    Path("a_file").touch()
    for arguments, expected in {
        ("", "no-such-revision"): "BASE (no-such-revision) must be a git revision or an experiment",
        ("a_file/x", ""): "DIR (a_file/x) must be a folder to write",
    }.items():
        assert main([*arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {expected}")
        assert error.count("\n") == 1


def test_a_folder_without_a_run_is_refused(workplace):
    with pytest.raises(UserError, match=r"this folder must hold params\.yaml and metrics"):
        read_workspace()
