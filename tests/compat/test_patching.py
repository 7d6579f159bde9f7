"""``patch`` and ``unpatch``, on a package created by the test."""

import importlib
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch

import sslkernels
from sslkernels.compat import lightly, patching
from sslkernels.compat.peer import Peer, release

FILES = {
    "toy/__init__.py": "",
    "toy/losses/__init__.py": """
        from toy.losses.near import NTXentLoss
        from toy.losses.far import DCLLoss as Renamed
        from toy.losses.far import norm_mse_loss
    """,
    "toy/losses/near.py": """
        from torch import nn
        class NTXentLoss(nn.Module):
            def __init__(self, temperature=0.5, memory_bank_size=0):
                super(NTXentLoss, self).__init__()
                self.temperature, self.colour = temperature, "red"
            def forward(self, out0, out1):
                return self._compute(out0, out1)
            def _compute(self, out0, out1):
                return (out0 - out1).sum() + self.temperature
    """,
    "toy/losses/far.py": """
        from torch import nn
        from toy.losses.near import NTXentLoss
        class DCLLoss(nn.Module):
            def __init__(self, temperature=0.1, weight_fn=None):
                super().__init__()
            def forward(self, out0, out1): return out0.sum()
        class Other(NTXentLoss): pass
        def norm_mse_loss(x0, x1): return "theirs"
    """,
    "toy/late.py": "from toy.losses import NTXentLoss, norm_mse_loss",
    "toy/models.py": """
        from toy import losses
        def make(): return losses.NTXentLoss()
    """,
    "toyish.py": "from toy.losses import NTXentLoss, norm_mse_loss",
}
CLASSES = [
    "toy.losses.NTXentLoss",
    "toy.losses.Renamed",
    "toy.losses.far.DCLLoss",
    "toy.losses.far.NTXentLoss",
    "toy.losses.near.NTXentLoss",
]
FUNCTIONS = ["toy.losses.far.norm_mse_loss", "toy.losses.norm_mse_loss"]
MODULES = {
    "NTXentLoss": "toy.losses.near",
    "DCLLoss": "toy.losses.far",
    "norm_mse_loss": "toy.losses.far",
}
RELEASES = ("1.5.0", "1.6.2")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package whose losses are replaced by the replacements of lightly's."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    metadata = tmp_path / "toy_losses-1.6.2.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: toy-losses\nVersion: 1.6.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lightly, "PEER", Peer("toy", MODULES, "toy-losses", RELEASES))
    yield importlib.import_module("toy.models").losses
    sslkernels.unpatch()
    for name in [x for x in sys.modules if x.split(".")[0] in ("toy", "toyish")]:
        del sys.modules[name]


def holdings():
    """The objects in the package's modules, by name, and their constructors."""
    return {
        f"{name}.{key}": (value, getattr(value, "__init__", None))
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "toy"
        for key, value in vars(module).items()
        if callable(value)
    }


def are_ours(*makers):
    return [isinstance(make(), (lightly.NTXentLoss, lightly.DCLLoss)) for make in makers]


def test_replaces_where_defined_and_re_exported(toy):
    import toyish

    before = holdings()
    patch = sslkernels.patch("lightly")
    assert patch.replaced == sorted(CLASSES + FUNCTIONS)
    assert patch.left == {}
    for place, (value, _) in holdings().items():
        assert (value is before[place][0]) == (place not in FUNCTIONS)
    loss = importlib.import_module("toy.models").make()
    assert isinstance(loss, lightly.NTXentLoss)
    assert isinstance(loss, toy.NTXentLoss)
    assert isinstance(toyish.NTXentLoss(), lightly.NTXentLoss)  # imported before
    x = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(toy.norm_mse_loss(*x), lightly.norm_mse_loss(*x))
    assert toyish.norm_mse_loss(*x) == "theirs"  # a function, and not of the package
    torch.testing.assert_close(loss(*x), lightly.NTXentLoss()(*x))
    assert sslkernels.unpatch("lightly") == patch.replaced
    assert holdings() == before
    assert type(toy.NTXentLoss()) is toy.NTXentLoss
    assert isinstance(loss, lightly.NTXentLoss)  # is not changed
    assert sslkernels.unpatch() == []


def test_the_package_s_own_stays_within_reach(toy):
    x = torch.ones(2, 3), torch.zeros(2, 3)
    with sslkernels.patch("lightly") as patch:
        own = patch.own["NTXentLoss"](temperature=2.0)
        assert isinstance(own, toy.NTXentLoss)
        assert own(*x) == 8
        assert patch.own["norm_mse_loss"](*x) == "theirs"
        with sslkernels.patch("lightly") as again:
            assert again.own["norm_mse_loss"](*x) == "theirs"


def test_context_manager_restores_what_was_imported_meanwhile(toy):
    original = toy.norm_mse_loss
    with pytest.raises(KeyError), sslkernels.patch("lightly"):
        assert importlib.import_module("toy.late").norm_mse_loss is not original
        assert are_ours(sys.modules["toy.late"].NTXentLoss) == [True]
        raise KeyError
    assert sys.modules["toy.late"].norm_mse_loss is original
    assert toy.norm_mse_loss is original
    assert are_ours(toy.NTXentLoss) == [False]


def test_only(toy):
    with sslkernels.patch("lightly", only=["NTXentLoss"]) as patch:
        assert patch.replaced == [x for x in CLASSES if x.endswith("NTXentLoss")]
        assert are_ours(toy.NTXentLoss, toy.Renamed) == [True, False]
    for only in (["NTXent"], "NTXentLoss", ["DINOLoss"]):
        with pytest.raises(ValueError, match="only must be a list of names among DCLLoss, NTXent"):
            sslkernels.patch("lightly", only=only)
    assert sslkernels.patch("lightly", only=[]).replaced == []


@pytest.mark.parametrize("first_out", ["inner", "outer"])
def test_nested(toy, first_out):
    before = holdings()
    outer = sslkernels.patch("lightly", only=["NTXentLoss"])
    inner = sslkernels.patch("lightly")
    assert inner.replaced == sorted(x for x in CLASSES + FUNCTIONS if x not in outer.replaced)
    first, second = (inner, outer) if first_out == "inner" else (outer, inner)
    first.undo()
    assert are_ours(toy.NTXentLoss, toy.Renamed) == [first is inner, first is outer]
    assert hasattr(toy.norm_mse_loss, "replaces") == (first is outer)
    second.undo()
    second.undo()
    assert holdings() == before


def test_patching_twice_replaces_nothing_again(toy):
    before = holdings()
    with sslkernels.patch("lightly"):
        with sslkernels.patch("lightly") as again:
            assert again.replaced == []
        assert are_ours(toy.NTXentLoss, toy.Renamed) == [True, True]
    assert holdings() == before


def test_errors(toy, monkeypatch):
    with pytest.raises(ValueError, match="peer must be one of .*lightly.*; got 'lightning'"):
        sslkernels.patch("lightning")
    with pytest.raises(ValueError, match="peer must be one of"):
        sslkernels.unpatch("lightning")
    monkeypatch.setattr(lightly, "PEER", Peer("toy_nowhere", MODULES, "toy-nowhere", RELEASES))
    with pytest.raises(ImportError, match="toy-nowhere is not installed"):
        sslkernels.patch("lightly")
    assert patching._active == []


def test_what_is_not_known_is_left(toy, monkeypatch):
    """A missing class, another signature, another release: each left separately, with a warning."""
    modules = {**MODULES, "DINOLoss": "toy.losses.far", "CAPILoss": "toy.losses.capi"}
    since = {"norm_mse_loss": "1.6.3"}
    monkeypatch.setattr(lightly, "PEER", Peer("toy", modules, "toy-losses", RELEASES, since))
    far = importlib.import_module("toy.losses.far")
    for signature, name in (
        ("self, temperature=0.1, sigma=0.5", "sigma"),
        ("self, weight_fn=None", "weight_fn"),
    ):
        namespace = {}
        exec(f"def __init__({signature}): pass", namespace)
        monkeypatch.setattr(far.DCLLoss, "__init__", namespace["__init__"])
        reasons = {
            "DCLLoss": f"it takes {name}, which is not known here",
            "DINOLoss": "toy.losses.far defines no DINOLoss",
            "CAPILoss": "there is no toy.losses.capi",
            "norm_mse_loss": "its values are known of toy-losses 1.6.3 to 1.6.2, not of 1.6.2",
        }
        with pytest.warns(UserWarning, match=r"own code is kept for DCLLoss \(it takes") as said:
            patch = sslkernels.patch("lightly")
        assert len(said) == 1
        assert patch.left == reasons
        assert patch.replaced == [x for x in CLASSES if x.endswith("NTXentLoss")]
        patch.undo()


def test_a_module_that_cannot_be_imported_is_left(toy, monkeypatch, tmp_path):
    """Whatever prevents its import, the others are replaced."""
    path = tmp_path / "toy/losses/broken.py"
    modules = {**MODULES, "CAPILoss": "toy.losses.broken"}
    monkeypatch.setattr(lightly, "PEER", Peer("toy", modules, "toy-losses", RELEASES))
    for code, reason in (
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise RuntimeError('too old')", "too old"),
    ):
        path.write_text(code)
        importlib.invalidate_caches()
        with pytest.warns(UserWarning, match="own code is kept for CAPILoss"):
            patch = sslkernels.patch("lightly")
        assert patch.left == {"CAPILoss": f"importing toy.losses.broken fails: {reason}"}
        assert patch.replaced == sorted(CLASSES + FUNCTIONS)
        patch.undo()


@pytest.mark.parametrize("version, is_known", [
    ("1.4.9", False), ("1.5.0", True), ("1.5.7.dev3", True), ("1.6.2", True), ("1.6.3", False),
    ("2", False), ("unheard-of", False), (None, True),
])  # fmt: skip
def test_releases(toy, monkeypatch, version, is_known):
    """The version is that of the imported package, or else of the installed one."""
    if version is not None:
        monkeypatch.setattr(sys.modules["toy"], "__version__", version, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if not is_known else "error")
        with sslkernels.patch("lightly") as patch:
            assert set(patch.left) == (set() if is_known else set(MODULES))
            assert are_ours(toy.NTXentLoss) == [is_known]


def test_versions_are_read():
    assert release("1.5.26") == (1, 5, 26)
    assert release("2") < release("2.0.1rc1") < release("2.10")
    assert release("main") is None


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
