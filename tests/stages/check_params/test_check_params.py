"""The first stage refuses folders on which DVC would stumble, whichever setting names them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from latentline.core.errors import UserError
from latentline.core.paths import PARAMS_CHECKED
from stages.check_params import __main__ as check_params

SETTINGS = ("data.path", "autoencoder.init_from", "denoiser.init_from", "manipulate.files")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _broken_link(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "missing.png")


def _linked_folder(folder: Path) -> None:
    (folder / "cats").symlink_to(folder.parent)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_pipe, "a pipe, socket or device"), (_broken_link, "a broken link"), (_linked_folder, "a link to a folder")],
)
def test_what_dvc_stumbles_on_is_refused_by_the_setting_that_names_it(
    workplace: Path, write_params, setting: str, spoil: Callable[[Path], None], said: str
) -> None:
    folder = workplace / "mine"
    folder.mkdir()
    spoil(folder)
    write_params(workplace, {setting: "mine"})
    with pytest.raises(UserError, match=rf"{setting} \(.*{said}\) must"):
        check_params.main()
    assert not PARAMS_CHECKED.exists()


def test_a_pipe_in_the_place_of_a_file_is_refused(workplace: Path, write_params) -> None:
    os.mkfifo(workplace / "mine")
    write_params(workplace, {"data.labels": "mine"})
    with pytest.raises(UserError, match=r"data\.labels \(mine, a pipe, socket or device\) must be a regular file"):
        check_params.main()


def test_a_name_of_nothing_is_refused(workplace: Path, write_params) -> None:
    write_params(workplace, {"manipulate.files": "nowhere"})
    with pytest.raises(UserError, match=r"^manipulate\.files \(nowhere\) must be a path that exists, .*; correct the"):
        check_params.main()


def test_a_refused_experiment_says_that_params_yaml_keeps_its_values(workplace, write_params, monkeypatch, caplog):
    write_params(workplace, {"sample.guidance_scale": "abc"})
    for expected in ([], ["params.yaml keeps the values of this experiment, until you change them there"]):
        with pytest.raises(UserError, match=r"sample\.guidance_scale \('abc'\) must"):
            check_params.main()
        assert caplog.messages == expected
        monkeypatch.setenv("DVC_EXP_NAME", "scaly-name")


def test_folders_that_are_fine_and_missing_placeholders_pass(workplace: Path, write_params) -> None:
    write_params(workplace, {})
    check_params.main()
    assert PARAMS_CHECKED.is_file()


def test_a_device_that_this_machine_lacks_is_only_warned_of_since_a_queue_may_run_the_stages_elsewhere(
    workplace: Path, write_params, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_params(workplace, {"compute.device": "cuda"})
    check_params.main()
    assert "compute.device (cuda) is no device of this machine" in caplog.text
    assert PARAMS_CHECKED.is_file()


def test_missing_weights_of_inception_are_refused_before_any_stage_works(workplace: Path, write_params) -> None:
    write_params(workplace, {"feature_extractor.name": "inception", "feature_extractor.path": "none.pth"})
    with pytest.raises(
        UserError, match=r"^feature_extractor\.path \(none\.pth\) must be .*; download it: curl .* https:"
    ):
        check_params.main()
    assert not PARAMS_CHECKED.exists()
