"""To the hub and back: against a small one on the loopback address."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants, get_session

from glowflow import CheckpointError, Glow, GlowConfig, InputError, RealNVP, RealNVPConfig
from glowflow import load_model as load
from glowflow.models import hub as hub_of_models
from glowflow.models import hub_upload
from glowflow.models.training_data import TrainingData
from tests.conftest import perturb
from tests.hub_server import READ, WRITE, Repo

DATA = TrainingData(source="/home/somebody/photos", size=(8, 8), channels=3, images=(80, 10, 10))


def a_model(seed=0, kind="glow"):
    torch.manual_seed(seed)
    if kind == "realnvp":
        config = RealNVPConfig(image_shape=(3, 8, 8), residual_blocks=1, hidden_channels=4)
        return RealNVP(config).eval()
    config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=1, hidden_channels=4)
    model = perturb(Glow(config), 0.02).eval()
    model.trained_on = DATA
    return model


def same(one, other):
    theirs = other.state_dict()
    return all(torch.equal(weight, theirs[name]) for name, weight in one.state_dict().items())


@pytest.fixture
def at_once(monkeypatch):
    """The next attempt comes without a pause; the hub of the tests has its own clock."""
    monkeypatch.setattr(hub_of_models, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def quick(monkeypatch, at_once):
    """A hub that does not answer at once is silent."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)


@pytest.mark.parametrize("kind", ["glow", "realnvp"])
def test_what_is_pushed_is_loaded(hub, kind):
    model = a_model(kind=kind)
    url = model.push_to_hub("me/mine", token=WRITE)
    sha = hub.repos["me/mine"].branches["main"]
    assert url == f"{hub.address}/me/mine/commit/{sha}"
    for again in (load("me/mine"), type(model).from_pretrained("me/mine"), load("me/mine@main")):
        assert same(model, again)
        assert again.config == model.config
    assert torch.equal(load("me/mine").sample(2, seed=3), model.sample(2, seed=3))


def test_files_are_safetensors_and_say_no_path_of_this_machine(hub):
    a_model().push_to_hub("me/mine", token=WRITE)
    repo = hub.repos["me/mine"]
    files = repo.commits[repo.branches["main"]]
    names = {"README.md", "config.json", "model.safetensors", "samples.png"}
    assert set(files) == {".gitattributes", *names}
    assert not any(b"somebody" in content for content in files.values())
    assert json.loads(files["config.json"])["data"]["source"] == "photos"


def test_branches_tags_and_commits(hub):
    first, second = a_model(1), a_model(2)
    first.push_to_hub("me/mine", token=WRITE)
    sha = hub.repos["me/mine"].branches["main"]
    second.push_to_hub("me/mine", token=WRITE, branch="next", commit_message="More steps")
    assert hub.repos["me/mine"].messages[-1] == "More steps"
    assert same(load("me/mine"), first)
    assert same(load("me/mine", revision="next"), second)
    assert same(load("me/mine@next"), second)
    second.push_to_hub("me/mine", token=WRITE)
    assert same(load("me/mine"), second)
    assert same(load("me/mine", revision=sha), first)
    with pytest.raises(CheckpointError, match="me/mine on the hub has no v9: give a branch"):
        load("me/mine", revision="v9")


def test_a_pull_request_leaves_main_alone(hub):
    first, second = a_model(1), a_model(2)
    first.push_to_hub("me/mine", token=WRITE)
    url = second.push_to_hub("me/mine", token=WRITE, create_pr=True)
    assert url == f"{hub.address}/me/mine/discussions/1"
    assert same(load("me/mine"), first)
    assert same(load("me/mine", revision="refs/pr/1"), second)
    with pytest.raises(InputError, match="goes to main, and not to next"):
        second.push_to_hub("me/mine", token=WRITE, create_pr=True, branch="next")


def test_configuration_and_weights_are_of_one_commit(hub, monkeypatch):
    """Somebody pushes another model between the two downloads."""
    first = a_model(1)
    first.push_to_hub("me/mine", token=WRITE)
    from glowflow.models import pretrained

    real = pretrained.download

    def download(repo, name, *how):
        found = real(repo, name, *how)
        if name == "config.json" and hub.repos["me/mine"].messages[-1] != "other":
            a_model(2).push_to_hub("me/mine", token=WRITE, commit_message="other")
        return found

    monkeypatch.setattr(pretrained, "download", download)
    assert same(Glow.from_pretrained("me/mine"), first)


def test_a_private_model_wants_a_token(hub, tmp_path, monkeypatch):
    model = a_model()
    model.push_to_hub("me/secret", token=WRITE, private=True)
    assert hub.repos["me/secret"].private
    with pytest.raises(CheckpointError, match="or a private one that asks for a token: log in"):
        load("me/secret")
    assert same(load("me/secret", token=READ), model)
    with pytest.raises(CheckpointError, match=r"does not let this token read me/secret \(401\)"):
        load("me/secret", token="hf_wrong", cache_dir=tmp_path / "elsewhere")
    monkeypatch.setenv("HF_TOKEN", READ)
    assert same(load("me/secret", cache_dir=tmp_path / "another"), model)


def test_a_gated_model(hub):
    a_model().push_to_hub("me/gated", token=WRITE)
    hub.repos["me/gated"].gated = True
    with pytest.raises(CheckpointError, match="me/gated is gated on the hub: ask for access at"):
        load("me/gated")


def test_what_is_not_there(hub):
    with pytest.raises(
        CheckpointError, match="no folder me/none, and the hub has no model of that"
    ):
        load("me/none")
    with pytest.raises(CheckpointError, match="or a private one that this token may not read"):
        load("me/none", token=READ)
    hub.repos["me/other"] = Repo()
    hub.repos["me/other"].commit("main", {"pytorch_model.bin": b"\x80\x04."})
    with pytest.raises(CheckpointError, match=r"me/other on the hub has no config\.json"):
        load("me/other")
    hub.repos["me/other"].commit("main", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(CheckpointError, match="me/other is a model of type 'bert'"):
        load("me/other")
    hub.repos["me/other"].commit("main", {"config.json": b'{"model_type": "glow"}'})
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors: .* other kinds are not"):
        load("me/other")


class TestOffline:
    def test_what_is_kept_needs_no_hub(self, hub, tmp_path):
        model = a_model()
        model.push_to_hub("me/mine", token=WRITE)
        load("me/mine", cache_dir=tmp_path / "mine")
        asked = len(hub.asked)
        kept = {"cache_dir": tmp_path / "mine", "local_files_only": True}
        assert same(load("me/mine", **kept), model)
        assert same(load("me/mine", revision="main", **kept), model)
        assert len(hub.asked) == asked
        assert not (tmp_path / "hub").exists()

    def test_what_is_not_kept(self, hub, tmp_path, monkeypatch):
        with pytest.raises(CheckpointError, match=r"config\.json of me/mine is not kept in .*hub:"):
            load("me/mine", local_files_only=True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError, match=r"is not kept in .*: load it once with"):
            load("me/mine")
        assert not hub.asked

    def test_a_hub_that_is_gone(self, hub, quick, monkeypatch):
        model = a_model()
        model.push_to_hub("me/mine", token=WRITE)
        load("me/mine")
        hub.faults["HEAD", "me/mine"] = "silent"
        assert same(load("me/mine"), model)


def test_a_silent_hub_is_a_sentence_soon(hub, quick):
    hub.faults["HEAD", "me/mine"] = hub.faults["GET", "/api/"] = "silent"
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"did not give a model of that name: .*imed"):
        load("me/mine")
    with pytest.raises(InputError, match=r"The hub did not let me/mine be pushed \(.*imed"):
        a_model().push_to_hub("me/mine", token=WRITE)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/api/repos/create", "try again"),
        ("POST", "/branch/", "try again"),
        ("POST", "/preupload/", "nothing was committed to me/mine"),
        ("PUT", "/lfs/", "nothing was committed to me/mine"),
        ("POST", "/commit/", "whether it was committed to me/mine is not known"),
    ],
)
def test_a_hub_that_falls_silent_is_not_waited_for_for_ever(hub, monkeypatch, method, path, said):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1.0)
    monkeypatch.setattr(hub_upload, "SILENCE", 0.05)
    hub.faults[method, path] = "silent"
    with pytest.raises(InputError, match=f"The hub did not let .*imed.*{said}"):
        a_model().push_to_hub("me/mine", token=WRITE, branch="v2")
    assert get_session().timeout != 0.05


def test_a_slow_hub_is_waited_for(hub, monkeypatch, at_once):
    """The first attempt is too short for it, the second is not."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    model = a_model()
    model.push_to_hub("me/mine", token=WRITE)
    fault, slow = hub.fault, []

    def after_a_while(method, path):
        if method == "HEAD":
            slow.append(path)
            time.sleep(0.7)
        return fault(method, path)

    monkeypatch.setattr(hub, "fault", after_a_while)
    assert same(Glow.from_pretrained("me/mine"), model)
    assert len(slow) >= 4


def test_faults_that_pass_are_tried_again(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    model = a_model()
    hub.faults["POST", "/preupload/"] = [503]
    hub.faults["PUT", "/lfs/"] = [500, 503]
    hub.faults["HEAD", "config.json"] = [503, 502, 503]
    model.push_to_hub("me/mine", token=WRITE)
    assert same(load("me/mine"), model)
    assert not any(hub.faults.values())


def test_faults_that_stay(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.faults["HEAD", "config.json"] = [503] * 30
    with pytest.raises(CheckpointError, match=r"busy or in trouble \(it answered 503\): try again"):
        load("me/mine")


class TestPushIsRefused:
    def test_without_a_token(self, hub):
        with pytest.raises(InputError, match="There is no token for the hub: log in with"):
            a_model().push_to_hub("me/mine")
        assert not hub.asked

    @pytest.mark.parametrize(("token", "status"), [(READ, 403), ("hf_wrong", 401)])
    def test_with_a_token_that_may_not(self, hub, token, status):
        said = rf"does not let this token (make|read) me/mine \({status}\): log in"
        with pytest.raises(InputError, match=said):
            a_model().push_to_hub("me/mine", token=token)
        assert not hub.repos

    def test_where_one_may_not(self, hub):
        with pytest.raises(InputError, match=r"does not let this token make theirs/mine \(403\)"):
            a_model().push_to_hub("theirs/mine", token=WRITE)

    @pytest.mark.parametrize("name", ["mine", "me/", "/mine", "me/a b", "a/b/c", "me/x.git"])
    def test_by_a_name_that_will_not_do(self, hub, name):
        with pytest.raises(InputError, match="is no name on the hub"):
            a_model().push_to_hub(name, token=WRITE)
        assert not hub.repos

    def test_over_something_else(self, hub):
        hub.repos["me/bert"] = Repo()
        held = {"config.json": b'{"model_type": "bert"}', "README.md": b"mine"}
        sha = hub.repos["me/bert"].commit("main", held)
        with pytest.raises(InputError, match=r"holds something else \(config\.json\): choose"):
            a_model().push_to_hub("me/bert", token=WRITE)
        assert hub.repos["me/bert"].branches["main"] == sha

    def test_private_into_what_all_can_see(self, hub):
        a_model().push_to_hub("me/mine", token=WRITE)
        with pytest.raises(InputError, match="me/mine exists and is public: leave private out"):
            a_model(1).push_to_hub("me/mine", token=WRITE, private=True)

    @pytest.mark.parametrize(
        "fault", [("PUT", "/lfs/"), ("POST", "/preupload/"), ("POST", "/commit/")]
    )
    def test_halfway(self, hub, monkeypatch, fault):
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        first = a_model()
        first.push_to_hub("me/mine", token=WRITE)
        hub.faults[fault] = [500] * 40
        with pytest.raises(InputError, match=r"answered 500.*nothing was committed to me/mine\."):
            a_model(1).push_to_hub("me/mine", token=WRITE)
        assert same(load("me/mine"), first)
        hub.faults.clear()
        a_model(1).push_to_hub("me/mine", token=WRITE)
        assert same(load("me/mine"), a_model(1))


def test_in_a_process_of_its_own(hub, tmp_path):
    """HF_ENDPOINT and HF_TOKEN as a person sets them."""
    a_model().save_pretrained(tmp_path / "run")
    code = (
        "from glowflow import load_model\n"
        "load_model('run').push_to_hub('me/mine', private=True)\n"
        "print(load_model('me/mine').sample(1).shape)\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": WRITE,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([1, 3, 8, 8])\n"
