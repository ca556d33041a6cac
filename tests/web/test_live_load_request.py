"""The models, revisions, devices and dtypes that may be requested over HTTP."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import pytest
from live_loading import folder, offline  # noqa: F401

from attributor.web.http.errors import ApiError
from attributor.web.live.model import check_request
from attributor.web.live.schema import LoadRequest
from attributor.web.live.service import ServerSettings


@pytest.mark.parametrize(
    "name",
    [
        "/etc",
        "/etc/passwd",
        "../model",
        "org/../model",
        "./model",
        "~/model",
        "org/model/more",
        "https://huggingface.co/org/model",
        "file:" + "//" + "/etc/passwd",
        "\\\\server\\share",
        "C:\\model",
        "org/mo\0del",
        "org/mo\ndel",
        "org/model\n",
        "org/model ",
        "-org/model",
        "org/model.gguf",
        "model.git",
        "org/mo--del",
        "org/módel",
        "$(reboot)",
        "a" * 200,
        " ",
    ],
)
def test_only_hub_ids_are_accepted_over_http(name, folder):
    with pytest.raises(ApiError, match="is no hub id") as refused:
        check_request(LoadRequest(id=name), ServerSettings(model=str(folder)))
    assert (refused.value.status, refused.value.code) == (400, "invalid_model")
    assert len(refused.value.message) < 500


def test_the_folder_of_the_command_line_is_accepted(folder):
    assert check_request(LoadRequest(id=str(folder)), ServerSettings(model=str(folder))).id == str(folder)
    with pytest.raises(ApiError, match="can only be named on the command line"):
        check_request(LoadRequest(id=str(folder)), ServerSettings())
    with pytest.raises(ApiError):
        check_request(LoadRequest(id=f"{folder}/"), ServerSettings(model=str(folder)))


def test_a_hub_id_is_not_read_as_a_local_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ApiError, match="is also a folder where this server runs"):
        check_request(LoadRequest(id="model"), ServerSettings())


@pytest.mark.parametrize("revision", ["../main", "a..b", "/main", "main/", "a//b", "x.lock", "ma in", "m\0", "-x", "ü"])
def test_invalid_revisions_are_refused(revision):
    with pytest.raises(ApiError, match="a revision is a branch, a tag or a commit") as refused:
        check_request(LoadRequest(id="org/model", revision=revision), ServerSettings())
    assert (refused.value.status, refused.value.code) == (400, "invalid_revision")


def test_valid_revisions_are_accepted():
    for revision in ("main", "refs/pr/3", "v1.0", "1234abcd" * 5):
        assert check_request(LoadRequest(id="org/model", revision=revision), ServerSettings()).revision == revision
    assert check_request(LoadRequest(id="org/model", revision=""), ServerSettings()).revision is None


@pytest.mark.parametrize("device_map", ["cuda:9", "disk", "meta", "__class__", '{"": 0}', "CPU"])
def test_unknown_devices_are_refused(device_map):
    with pytest.raises(ApiError, match=r"device_map must be one of cpu, auto") as refused:
        check_request(LoadRequest(id="org/model", device_map=device_map), ServerSettings())
    assert (refused.value.status, refused.value.code) == (400, "invalid_device_map")


@pytest.mark.parametrize("dtype", ["int8", "nn", "load", "__dict__", "float64", "Float32", ""])
def test_other_attributes_of_torch_are_refused_as_dtype(dtype):
    with pytest.raises(ValueError, match="Input should be 'auto', 'float32', 'bfloat16' or 'float16'"):
        LoadRequest(id="org/model", dtype=dtype)


def test_only_the_command_line_allows_code():
    for name in ("trust_remote_code", "remote_code", "allow_pickle"):
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            LoadRequest(**{"id": "org/model", name: True})
    wanted = check_request(LoadRequest(id="org/model"), ServerSettings(trust_remote_code=True, allow_pickle=True))
    assert (wanted.remote_code, wanted.pickle) == (True, True)
    wanted = check_request(LoadRequest(id="org/model"), ServerSettings())
    assert (wanted.remote_code, wanted.pickle) == (False, False)
