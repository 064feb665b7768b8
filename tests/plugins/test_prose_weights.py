"""Published weights: imported from a file, fetched from a stand-in for the hub, missed without a network."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bgbench_prose
from bgbench import BgbenchError
from bgbench.cli.main import app, guarded
from bgbench.data import fetch
from bgbench.references.hub import verify_download
from bgbench_prose.weights import load

DATA = Path(__file__).parent.parent / "data"
COMMIT = "c0ffee" + "0" * 34
ADDRESS = "hf:transferable-samplers/model-weights/transferable/prose_up_to_8aa.pth"


@pytest.fixture
def state_dict(tmp_path):
    """A state dict under the published names, 64 to a head as published."""
    from bgbench_prose.network import Config, Prose
    from bgbench_prose.weights import BLOCK_NAMES, LAYER_NAMES, TOP_NAMES

    flow = Prose(Config(channels=64, n_blocks=2, n_layers=1, head_dim=64))
    layer = {own: theirs for theirs, own in LAYER_NAMES.items()}
    rest = {own: theirs for theirs, own in (TOP_NAMES | BLOCK_NAMES).items()}

    def published(name):
        parts = name.split(".")
        if parts[0] == "conditioning":
            return f"{rest['.'.join(parts[:2])]}.{parts[2]}"
        if parts[2] == "layers":
            return f"blocks.{parts[1]}.attn_blocks.{parts[3]}.{layer['.'.join(parts[4:-1])]}.{parts[-1]}"
        if parts[2] == "position_scale":
            return f"blocks.{parts[1]}.pos_embed_scale"
        return f"blocks.{parts[1]}.{rest[parts[2]]}.{parts[3]}"

    path = tmp_path / "published.pth"
    torch.save({published(name): value for name, value in flow.state_dict().items()}, path)
    return path, flow


def command(*words):
    return guarded(lambda **options: app([str(word) for word in words], **options))


def test_import_writes_weights_that_run(state_dict, tmp_path, capsys):
    path, flow = state_dict
    assert command("weights", "import", "prose", path, "--out", tmp_path / "ours.safetensors") == 0
    imported = load(tmp_path / "ours.safetensors")
    assert imported.card["notes"] == "imported from published.pth"
    for name, value in flow.state_dict().items():
        assert torch.equal(imported.network.state_dict()[name], value)


def test_import_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / "pickle.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    for words, complaint in (
        (("prose", tmp_path / "nosuch.pth"), "does not exist"),
        (("prose", tmp_path / "pickle.pth"), "no state dict"),
        (("md", tmp_path / "pickle.pth"), "sampler 'md' cannot import weights"),
    ):
        assert command("weights", "import", *words) == 2
        err = capsys.readouterr().err
        assert complaint in err
        assert len(err.strip().splitlines()) == 1


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers like the hub for one file."""

    content = b""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        if not self.path.endswith("transferable/prose_up_to_8aa.pth"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if body:
            self.wfile.write(self.content)

    def log_message(self, *unused):
        pass


@pytest.fixture
def hub(state_dict, tmp_path, monkeypatch):
    Hub.content = state_dict[0].read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_weights_are_fetched_pinned_and_hashed(hub, state_dict):
    weights = fetch(f"{ADDRESS}@{COMMIT}")
    assert weights.commit == COMMIT
    assert weights.sha256 == hashlib.sha256(Hub.content).hexdigest()
    sampler = bgbench_prose.build({"weights": f"{ADDRESS}@{COMMIT}"})
    assert sampler.card.weights_sha256 == weights.sha256
    assert COMMIT in sampler.card.notes
    for name, value in state_dict[1].state_dict().items():
        assert torch.equal(sampler.flow.state_dict()[name], value)


def test_a_file_that_is_not_what_the_hub_promised_is_deleted(hub):
    path = fetch(f"{ADDRESS}@{COMMIT}").path
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.resolve().write_bytes(damaged)
    with pytest.raises(BgbenchError, match=r"hash .* instead of .*fetch it again"):
        fetch(f"{ADDRESS}@{COMMIT}")
    assert not path.exists()
    assert fetch(f"{ADDRESS}@{COMMIT}").sha256 == hashlib.sha256(Hub.content).hexdigest()


def test_small_files_are_checked_by_gits_hash(tmp_path):
    name = "ce013625030ba8dba906f756967f9e9ca394464a"
    (tmp_path / name).write_bytes(b"hello\n")
    assert verify_download(tmp_path / name, "hf:a/b/c") == hashlib.sha256(b"hello\n").hexdigest()
    (tmp_path / name).write_bytes(b"hullo\n")
    with pytest.raises(BgbenchError, match=f"instead of {name[:12]}"):
        verify_download(tmp_path / name, "hf:a/b/c")
    assert not (tmp_path / name).exists()


def test_without_a_network_one_sentence_says_what_to_do(no_network):
    with pytest.raises(BgbenchError, match=r"cannot be reached.*weights import"):
        fetch(ADDRESS)


def test_a_file_the_hub_does_not_have(hub):
    with pytest.raises(BgbenchError, match="no such file"):
        fetch("hf:transferable-samplers/model-weights/nosuch.pth")
    with pytest.raises(BgbenchError, match="not a hub address"):
        fetch("hf:nosuch")


def test_the_fixture_is_what_the_converter_reads():
    meta = json.loads((DATA / "prose_small.json").read_text())
    state = load_file(DATA / "prose_small.weights.safetensors")
    from bgbench_prose.weights import renamed

    assert not any(name.startswith("cond_embed") for name in map(renamed, state))
    assert meta["num_blocks"] == 8
