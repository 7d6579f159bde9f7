"""``patch`` and ``unpatch``, on a package that the test makes."""

import importlib
import subprocess
import sys
import textwrap

import pytest

import sslkernels
from sslkernels.compat import lightly, patching
from sslkernels.compat.peer import Peer

FILES = {
    "toy/__init__.py": "",
    "toy/losses/__init__.py": """
        from toy.losses.near import NTXentLoss
        from toy.losses.far import DCLLoss as Renamed
    """,
    "toy/losses/near.py": """
        class NTXentLoss:
            def __init__(self, temperature=0.5, memory_bank_size=0): pass
            def forward(self, out0, out1): pass
    """,
    "toy/losses/far.py": """
        from toy.losses.near import NTXentLoss
        class DCLLoss:
            def __init__(self, temperature=0.1, weight_fn=None): pass
            def forward(self, out0, out1): pass
        class Other(NTXentLoss): pass
    """,
    "toy/late.py": "from toy.losses import NTXentLoss",
    "toy/models.py": """
        from toy import losses
        def make(): return losses.NTXentLoss()
    """,
    "toyish.py": "from toy.losses import NTXentLoss",
}
PLACES = [
    "toy.losses.NTXentLoss",
    "toy.losses.Renamed",
    "toy.losses.far.DCLLoss",
    "toy.losses.far.NTXentLoss",
    "toy.losses.near.NTXentLoss",
]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package whose losses lightly's replacements replace."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    metadata = tmp_path / "toy_losses-1.6.2.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: toy-losses\nVersion: 1.6.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    modules = {"NTXentLoss": "toy.losses.near", "DCLLoss": "toy.losses.far"}
    monkeypatch.setattr(lightly, "PEER", Peer("toy", modules, "toy-losses", ((1, 6),)))
    yield importlib.import_module("toy.models").losses
    sslkernels.unpatch()
    for name in [x for x in sys.modules if x.split(".")[0] in ("toy", "toyish")]:
        del sys.modules[name]


def holdings():
    """What the package's modules hold, by place."""
    return {
        f"{name}.{key}": value
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "toy"
        for key, value in vars(module).items()
        if isinstance(value, type)
    }


def test_replaces_where_defined_and_re_exported(toy):
    import toyish

    importlib.import_module("toy.losses.far")
    before = holdings()
    patch = sslkernels.patch("lightly")
    assert patch.replaced == PLACES
    after = holdings()
    for place, value in after.items():
        if place in PLACES:
            expected = lightly.DCLLoss if place in PLACES[1:3] else lightly.NTXentLoss
            assert value is expected
        else:
            assert value is before[place]
    assert isinstance(importlib.import_module("toy.models").make(), lightly.NTXentLoss)
    assert toyish.NTXentLoss is before["toy.losses.near.NTXentLoss"]  # not of the package
    assert sslkernels.unpatch("lightly") == PLACES
    assert all(holdings()[place] is value for place, value in before.items())
    assert sslkernels.unpatch() == []


def test_context_manager_restores_what_was_imported_meanwhile(toy):
    original = toy.NTXentLoss
    with pytest.raises(KeyError), sslkernels.patch("lightly") as patch:
        assert patch.replaced == PLACES
        assert importlib.import_module("toy.late").NTXentLoss is lightly.NTXentLoss
        raise KeyError
    assert sys.modules["toy.late"].NTXentLoss is original
    assert toy.NTXentLoss is original


def test_only(toy):
    original = toy.Renamed
    with sslkernels.patch("lightly", only=["NTXentLoss"]) as patch:
        assert patch.replaced == [x for x in PLACES if x.endswith("NTXentLoss")]
        assert toy.Renamed is original
    for only in (["NTXent"], "NTXentLoss", ["DINOLoss"]):
        with pytest.raises(ValueError, match="only must be a list of names among DCLLoss, NTXent"):
            sslkernels.patch("lightly", only=only)
    assert sslkernels.patch("lightly", only=[]).replaced == []


@pytest.mark.parametrize("first_out", ["inner", "outer"])
def test_nested(toy, first_out):
    originals = toy.NTXentLoss, toy.Renamed
    outer = sslkernels.patch("lightly", only=["NTXentLoss"])
    inner = sslkernels.patch("lightly")
    assert inner.replaced == [x for x in PLACES if x not in outer.replaced]
    first, second = (inner, outer) if first_out == "inner" else (outer, inner)
    first.undo()
    kept = {"inner": (lightly.NTXentLoss, originals[1]), "outer": (originals[0], lightly.DCLLoss)}
    assert (toy.NTXentLoss, toy.Renamed) == kept[first_out]
    second.undo()
    second.undo()
    assert (toy.NTXentLoss, toy.Renamed) == originals
    assert (toy.NTXentLoss is originals[0]) and (toy.Renamed is originals[1])


def test_patching_twice_replaces_nothing_again(toy):
    original = toy.NTXentLoss
    with sslkernels.patch("lightly"):
        with sslkernels.patch("lightly") as again:
            assert again.replaced == []
        assert toy.NTXentLoss is lightly.NTXentLoss
    assert toy.NTXentLoss is original


def test_errors(toy, monkeypatch):
    with pytest.raises(ValueError, match="peer must be one of .*lightly.*; got 'lightning'"):
        sslkernels.patch("lightning")
    with pytest.raises(ValueError, match="peer must be one of"):
        sslkernels.unpatch("lightning")
    modules = lightly.PEER.defined_in
    for peer, error, message in (
        (Peer("toy", modules, "toy-nothing"), ImportError, "toy-nothing is not installed"),
        (Peer("toy", modules, "toy-losses", ((1, 4), (1, 5))), ValueError,
         r"toy-losses 1.6.2 is not known to work; these versions are: 1.4, 1.5"),
        (Peer("toy_nowhere", modules), ImportError, "toy_nowhere cannot be imported"),
        (Peer("toy", {"DINOLoss": "toy.losses.far"}), ValueError, "toy.losses.far defines no DINO"),
    ):  # fmt: skip
        monkeypatch.setattr(lightly, "PEER", peer)
        with pytest.raises(error, match=message):
            sslkernels.patch("lightly")
    assert patching._active == []


def test_a_signature_that_is_not_known(toy, monkeypatch):
    far = importlib.import_module("toy.losses.far")
    for signature in ("self, temperature=0.1, sigma=0.5", "self, weight_fn=None"):
        namespace = {}
        exec(f"def __init__({signature}): pass", namespace)
        monkeypatch.setattr(far.DCLLoss, "__init__", namespace["__init__"])
        with pytest.raises(ValueError, match=r"toy.losses.far.DCLLoss takes (sigma|weight_fn)"):
            sslkernels.patch("lightly")
    assert toy.NTXentLoss is not lightly.NTXentLoss


def test_nothing_is_patched_at_import():
    code = (
        "import sslkernels, sys, importlib;"
        "from sslkernels.compat.patching import PEERS, _active;"
        "[importlib.import_module(f'sslkernels.compat.{x}') for x in PEERS];"
        "known = {'lightly', 'open_clip', 'pytorch_metric_learning', 'dinov2', 'solo'};"
        "assert not known & set(sys.modules), known & set(sys.modules);"
        "assert _active == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
