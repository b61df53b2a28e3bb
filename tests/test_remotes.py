"""The commands of docs/sharing.md share results between two clones, through a folder and through a local S3 server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import Checkout
from support.documented import Page

pytestmark = pytest.mark.slow

TEAM = "s3://team-bucket/latentline"
ENDPOINT = "http://localhost:9000"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Start an S3 server that holds the team's bucket; return its address."""
    server_module = pytest.importorskip("moto.server", reason=".venv/bin/pip install -e '.[test-s3]'")
    pytest.importorskip("dvc_s3", reason=".venv/bin/pip install -e '.[test-s3]'")
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(variable, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "localhost")
        server = server_module.ThreadedMotoServer(ip_address="localhost", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="team-bucket")
        yield address
        server.stop()


@pytest.fixture(scope="module", params=["folder", "s3"])
def page(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    if request.param == "s3":
        return Page(root / "docs" / "sharing.md", {ENDPOINT: request.getfixturevalue("s3")})
    return Page(root / "docs" / "sharing.md", {TEAM: str(tmp_path_factory.mktemp("team"))})


def _use_endpoint(page: Page, checkout: Checkout) -> None:
    """Configure the address of the S3 server; a folder needs none."""
    if ENDPOINT in page.instead:
        page.run(checkout, f"dvc remote modify --local team endpointurl {ENDPOINT}")


@pytest.fixture(scope="module")
def author(finished: Checkout, page: Page, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout whose owner ran the pipeline and an experiment, and pushed both."""
    folder = tmp_path_factory.mktemp("author")
    author = finished.copy(folder / "checkout")
    author.run("git", "init", "--quiet", "--bare", str(folder / "origin"))
    author.run("git", "remote", "add", "origin", str(folder / "origin"))
    page.run(author, f"dvc remote add --default team {TEAM}")
    page.run(author, "git add .dvc/config")
    page.run(author, 'git commit --message "Remote of the team"')
    author.run("git", "push", "--quiet", "--set-upstream", "origin", "HEAD")
    _use_endpoint(page, author)
    page.run(author, "dvc push")
    page.run(author, "git push")
    page.run(author, "dvc exp run --name three-steps --set-param sample.steps=3")
    page.run(author, "dvc exp push origin three-steps")
    page.run(author, "make push-runs")
    return author


@pytest.fixture
def colleague(author: Checkout, page: Page, tmp_path: Path) -> Checkout:
    """Return a clone of what the author pushed to git."""
    author.run("git", "clone", "--quiet", str(author.folder.parent / "origin"), str(tmp_path / "clone"))
    colleague = Checkout(tmp_path / "clone")
    _use_endpoint(page, colleague)
    return colleague


def _samples(checkout: Checkout) -> bytes:
    return (checkout.folder / "data" / "generated" / "samples-00000.safetensors").read_bytes()


def test_a_clone_pulls_all_results_and_repro_runs_nothing(finished, colleague, page):
    assert not (colleague.folder / "data" / "generated").exists()
    page.run(colleague, "dvc pull")
    assert "Data and pipelines are up to date" in page.run(colleague, "dvc repro")
    assert colleague.run("git", "status", "--porcelain").stdout == ""
    assert _samples(colleague) == _samples(finished)


def test_with_the_run_cache_no_clone_computes_what_another_has_computed(author, colleague, page):
    colleague.change(**{"sample.steps": 3})
    output = page.run(colleague, "dvc repro --pull")
    assert re.findall(r"Running stage '(\w+)'", output) == ["check_params"]
    assert "Stage 'sample' is cached - skipping run" in output
    assert _samples(colleague) == _samples(author)
    assert (colleague.folder / "fig" / "sample" / "grid.png").read_bytes() == (
        author.folder / "fig" / "sample" / "grid.png"
    ).read_bytes()


def test_an_experiment_reaches_another_clone_with_its_settings_numbers_and_files(author, colleague, page):
    assert "three-steps" in page.run(colleague, "dvc exp list origin")
    page.run(colleague, "dvc exp pull origin three-steps")
    page.run(colleague, "dvc exp apply three-steps")
    assert colleague.metrics("sample")["network_evaluations"] == 3 * 2 * 2  # steps, Heun, guidance
    assert (colleague.folder / "params.yaml").read_text() == (author.folder / "params.yaml").read_text()
    assert _samples(colleague) == _samples(author)
    assert colleague.repro() == set()
