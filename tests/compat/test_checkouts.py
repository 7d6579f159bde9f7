"""Packages used from a checkout: patched by their published names and signatures."""

import importlib
import sys

import pytest
from parity import assert_same_signature

import sslkernels
from sslkernels.compat import dino, dinov2, lejepa, solo_learn

CLASSES = {
    dino: {
        "DINOLoss": ("out_dim, ncrops, warmup_teacher_temp, teacher_temp, "
                     "warmup_teacher_temp_epochs, nepochs, student_temp=0.1, center_momentum=0.9",
                     "student_output, teacher_output, epoch"),
    },
    dinov2: {
        "DINOLoss": ("out_dim, student_temp=0.1, center_momentum=0.9",
                     "student_output_list, teacher_out_softmaxed_centered_list"),
        "KoLeoLoss": ("", "student_output, eps=1e-08"),
        "iBOTPatchLoss": ("patch_out_dim, student_temp=0.1, center_momentum=0.9",
                          "student_patch_tokens, teacher_patch_tokens, student_masks_flat"),
    },
    lejepa: {
        "EppsPulley": ("t_max=3, n_points=17, integration='trapezoid'", "x"),
        "SlicingUnivariateTest": (
            "univariate_test, num_slices, reduction='mean', sampler='gaussian', clip_value=None",
            "x",
        ),
    },
    solo_learn: {
        "DINOLoss": ("num_prototypes, warmup_teacher_temp, teacher_temp, "
                     "warmup_teacher_temp_epochs, num_epochs, student_temp=0.1, num_large_crops=2, "
                     "center_momentum=0.9", "student_output, teacher_output"),
        "barlow_loss_func": "z1, z2, lamb=0.005, scale_loss=0.025",
        "byol_loss_func": "p, z, simplified=True",
        "mocov2plus_loss_func": "query, key, queue, temperature=0.1",
        "mocov3_loss_func": "query, key, temperature=0.2",
        "nnclr_loss_func": "nn, p, temperature=0.1",
        "ressl_loss_func": "q, k, queue, temperature_q=0.1, temperature_k=0.04",
        "simclr_loss_func": "z, indexes, temperature=0.1",
        "simsiam_loss_func": "p, z, simplified=True",
        "swav_loss_func": "preds, assignments, temperature=0.1",
        "vibcreg_loss_func":
            "z1, z2, sim_loss_weight=25.0, var_loss_weight=25.0, cov_loss_weight=200.0",
        "vicreg_loss_func":
            "z1, z2, sim_loss_weight=25.0, var_loss_weight=25.0, cov_loss_weight=1.0",
        "wmse_loss_func": "z1, z2, simplified=True",
    },
}  # fmt: skip


def source(name, signature):
    if isinstance(signature, str):
        return f"def {name}({signature}): pass\n"
    return (
        f"class {name}:\n"
        f"    def __init__(self, {signature[0]}): pass\n"
        f"    def forward(self, {signature[1]}): pass\n"
    )


@pytest.mark.parametrize("ours", CLASSES, ids=lambda x: x.__name__.rsplit(".", 1)[1])
def test_patch(ours, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    modules = ours.PEER.defined_in
    assert set(modules) == set(CLASSES[ours]) == set(ours.__all__)
    for name, module in modules.items():
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(source(name, CLASSES[ours][name]))
    peer = ours.__name__.rsplit(".", 1)[1]
    try:
        originals = {
            name: getattr(importlib.import_module(module), name) for name, module in modules.items()
        }
        for name, original in originals.items():
            assert_same_signature(getattr(ours, name), original)
        with sslkernels.patch(peer) as patch:
            assert patch.replaced == sorted(f"{module}.{name}" for name, module in modules.items())
            assert patch.left == {}
            for name, module in modules.items():
                now = getattr(sys.modules[module], name)
                if isinstance(now, type):
                    assert now is originals[name]
                    assert now.__init__.replaces is now
                else:
                    assert now.__wrapped__ is getattr(ours, name)
        for name, module in modules.items():
            assert getattr(sys.modules[module], name) is originals[name]
            assert not hasattr(originals[name].__init__, "replaces")
    finally:
        for name in [x for x in sys.modules if x.split(".")[0] == ours.PEER.package]:
            del sys.modules[name]
    with pytest.raises(ImportError, match="not on sys.path"):
        monkeypatch.undo()
        importlib.invalidate_caches()
        sslkernels.patch(peer)
