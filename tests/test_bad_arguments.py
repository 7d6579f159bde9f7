"""Every argument of every public function with many values: a result, or a clear error."""

import inspect

import numpy as np
import pytest
import torch
from bad_values import problem_of, values
from views_inputs import plain_parameters

import sslkernels
from sslkernels import functional as F

N, D, K = 6, 8, 10


def x(seed=0, *shape):
    return torch.randn(*(shape or (N, D)), generator=torch.Generator().manual_seed(seed))


def mask():
    return torch.arange(N)[:, None] % 2 == torch.arange(2)


def row(a=0, b=1):
    return {"z_a": x(a), "z_b": x(b)}


VIEWS = {"teacher": [x(1), x(2)], "student": [x(3), x(4), x(5)]}
PROTOTYPES = {"prototypes": x(6, K, D), "teacher_prototypes": x(7, K, D)}
PATCHES = {"student": x(), "teacher": x(1), "mask": mask()}
MAPS = [(x(i), x(i, N, 2, 2, D)) for i in range(2)]
GRIDS = [x(i, N, 2, 2, 2) for i in range(2)]
IMAGES = torch.arange(2 * 9 * 9 * 3).reshape(2, 9, 9, 3).to(torch.uint8)
OWN = plain_parameters(IMAGES[0]).expand(1, 2, -1)
CLIPS = {"predicted": x(0, N, 2, D), "target": x(1, N, 2, D), "embeddings": x(2, N, 3, D)}
FUNCTIONS = {
    F.alignment: {"x": x(), "y": x(1)},
    F.uniformity: {"x": x()},
    F.barlow_twins: row(),
    F.byol: {"prediction": x(), "projection": x(1)},
    F.simsiam: {"prediction": x(), "projection": x(1)},
    F.negative_cosine_similarity: {"x0": x(), "x1": x(1)},
    F.bcs: dict(row(), directions=x(2, D, K)),
    F.capi: {"teacher": x(0, N, 2, D), "student": x(1, N, 2, D)},
    F.cca: dict(row(), ridge=0.1),
    F.clip: {"image_features": x(), "text_features": x(1), "logit_scale": 2.0},
    F.coding_rate: {"z": x()},
    F.dcl: {"out0": x(), "out1": x(1)},
    F.dclw: {"out0": x(), "out1": x(1)},
    F.dino: VIEWS,
    F.ibot: PATCHES,
    F.info_nce: {"query": x(), "positive_key": x(1), "negative_keys": x(2)},
    F.koleo: {"x": x()},
    F.lejepa: {"global_proj": x(0, 2, N, D), "local_proj": x(1, 3, N, D), "directions": x(2, D, K)},
    F.lewm: dict(CLIPS, directions=x(2, D, K)),
    F.mmcr: {"online": x(0, N, 2, D), "momentum": x(1, N, 2, D)},
    F.moco: {"query": x(), "key": x(1), "queue": x(2, 12, D)},
    F.moco_v3: {"query": x(), "key": x(1)},
    F.msn: {"anchors": x(0, 2 * N, D), "targets": x(1), "prototypes": x(2, K, D)},
    F.nnclr: {"neighbors": x(), "predictions": x(1)},
    F.nt_xent: {"out0": x(), "out1": x(1)},
    F.power_law: {"size": 4, "exponent": 0.3},
    F.siglip: {
        "image_features": x(),
        "text_features": x(1),
        "logit_scale": 2.0,
        "logit_bias": -1.0,
    },
    F.sigreg: {"z": x(0, 2, N, D), "directions": x(2, D, K)},
    F.simdino: {"student": x(0, 3, N, D), "teacher": x(1, 2, N, D)},
    F.spectral_contrastive: row(),
    F.supcon: {"features": x(0, N, 2, D), "labels": torch.arange(N) % 2},
    F.swav: {"high_resolution": [x(), x(1)], "low_resolution": [x(2)]},
    F.tico: dict(row(), covariance=x(2, D, D)),
    F.tico_covariance: {"z": x(), "covariance": x(2, D, D)},
    F.vibcreg: row(),
    F.vicreg: row(),
    F.vicregl: {"global_view_features": MAPS, "global_view_grids": GRIDS, "num_matches": (2, 1)},
    F.visreg: {"global_proj": x(0, 2, N, D), "local_proj": x(1, 3, N, D), "directions": x(2, D, K)},
    F.w_mse: dict(row(), eps=0.5),
    F.whiten: {"x": x(), "eps": 0.5},
    sslkernels.nearest_neighbor: {"q": x(), "k": x(1)},
    sslkernels.offdiagonal_norm: {"a": x(), "b": x(1)},
    sslkernels.pairwise_logsumexp: {"q": x(), "k": x(1)},
    sslkernels.pairwise_softplus: {"q": x(), "k": x(1)},
    sslkernels.prototype_cross_entropy: dict(student=x(), teacher=x(1), **PROTOTYPES),
    sslkernels.prototype_sinkhorn: {"features": x(), "prototypes": x(2, K, D)},
    sslkernels.random_directions: {"step": torch.tensor(3), "features": D, "slices": K},
    sslkernels.sinkhorn: {"logits": x()},
    sslkernels.sliced_epps_pulley: {"z": x(0, 2, N, D), "directions": x(2, D, K)},
    sslkernels.sliced_wasserstein: {"z": x(), "directions": x(2, D, K)},
    sslkernels.soft_cross_entropy: {"student": x(), "teacher": x(1)},
    sslkernels.augment_views: {"images": IMAGES, "parameters": OWN, "size": 4},
    sslkernels.source_coordinates: {"parameters": OWN, "grid": 2},
}
MODULES = {  # arguments of the constructor, of the call
    "BCSLoss": ({"num_slices": K}, row()),
    "BYOLLoss": ({}, {"p0": x(), "p1": x(1), "z0": x(2), "z1": x(3)}),
    "BarlowTwinsLoss": ({}, row()),
    "CAPILoss": ({}, {"teacher_logits": x(0, N, 2, D), "student_logits": x(1, N, 2, D)}),
    "CCALoss": ({"ridge": 0.1}, row()),
    "CLIPLoss": ({}, FUNCTIONS[F.clip]),
    "DCLLoss": ({}, {"out0": x(), "out1": x(1)}),
    "DCLWLoss": ({}, {"out0": x(), "out1": x(1)}),
    "DINOLoss": ({"output_dim": D}, {"teacher_out": [x(), x(1)], "student_out": [x(2), x(3)]}),
    "DirectCLRLoss": ({"loss_dim": 4}, {"out0": x(), "out1": x(1)}),
    "HypersphereLoss": ({}, row()),
    "IBOTPatchLoss": ({"output_dim": D}, {"teacher_out": x(), "student_out": x(1), "mask": mask()}),
    "InfoNCELoss": ({}, {"query": x(), "positive_key": x(1)}),
    "KoLeoLoss": ({}, {"x": x()}),
    "LeJEPALoss": ({"num_slices": K},
                   {"global_proj": x(0, 2, N, D), "local_proj": x(1, 3, N, D)}),
    "LeWMLoss": ({"num_slices": K}, CLIPS),
    "MMCRLoss": ({}, FUNCTIONS[F.mmcr]),
    "MSNLoss": ({}, FUNCTIONS[F.msn]),
    "MoCoLoss": ({"dim": D, "queue_size": 12}, {"query": x(), "key": x(1)}),
    "MoCoV3Loss": ({}, {"query0": x(), "query1": x(1), "key0": x(2), "key1": x(3)}),
    "NNCLRLoss": ({"dim": D, "queue_size": 12}, {"z0": x(), "z1": x(1), "p0": x(2), "p1": x(3)}),
    "NTXentLoss": ({}, {"out0": x(), "out1": x(1)}),
    "NegativeCosineSimilarity": ({}, {"x0": x(), "x1": x(1)}),
    "OfficialDINOLoss": (
        {"out_dim": D, "ncrops": 3, "warmup_teacher_temp": 0.04, "teacher_temp": 0.07,
             "warmup_teacher_temp_epochs": 3, "nepochs": 5},
        {"student_output": x(0, 3 * N, D), "teacher_output": x(1, 2 * N, D), "epoch": 1},
    ),
    "PMSNLoss": ({}, FUNCTIONS[F.msn]),
    "SIGRegLoss": ({"num_slices": K}, {"z": x(0, 2, N, D)}),
    "SigLIPLoss": ({}, FUNCTIONS[F.siglip]),
    "SimDINOLoss": ({"ncrops": 3},
                    {"student_feat": x(0, 3 * N, D), "teacher_feat": x(1, 2 * N, D)}),
    "SimDINOv2Loss": ({"out_dim": D}, {"student_feat_list": [x(), x(1)],
                                            "teacher_feat_list": [x(2), x(3)]}),
    "SimSiamLoss": ({}, {"p0": x(), "p1": x(1), "z0": x(2), "z1": x(3)}),
    "SpectralContrastiveLoss": ({}, row()),
    "SupConLoss": ({}, FUNCTIONS[F.supcon]),
    "SwaVLoss": ({}, {"high_resolution_outputs": [x(), x(1)]}),
    "TiCoLoss": ({}, row()),
    "VICRegLLoss": ({"num_matches": (2, 1)}, {"global_view_features": MAPS,
                                                   "global_view_grids": GRIDS}),
    "VICRegLoss": ({}, row()),
    "VISRegLoss": ({"num_slices": K},
                   {"global_proj": x(0, 2, N, D), "local_proj": x(1, 3, N, D)}),
    "VIbCRegLoss": ({}, row()),
    "WMSELoss": ({"embedding_dim": 2, "w_size": N, "eps": 0.5}, {"input": x(0, 2 * N, 2)}),
}  # fmt: skip
UNCHECKED = {"device"}


def parameters_of(function):
    """Names and defaults of keyword parameters."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return {x.name: x.default for x in found if x.kind in kinds and x.name not in UNCHECKED}


def outcome(call, name, value, others):
    """The problem of a call; an error may name a part of a name, or the other argument."""
    names = [name, *(part for part in name.split("_") if len(part) > 2)]
    if isinstance(value, int | torch.Tensor | np.integer):
        names += [*others, "the other tensors"]
    is_meta = isinstance(value, torch.Tensor) and value.is_meta
    return problem_of(call, value, names, NotImplementedError if is_meta else ())


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_functions(function):
    good = FUNCTIONS[function]
    function(**good)
    problems = []
    for name, default in parameters_of(function).items():
        for value in values(good.get(name, default)):
            if callable(value) and name.endswith("_fn"):
                continue  # a user's function may raise anything
            call = lambda: function(**{**good, name: value})  # noqa: B023, E731
            problems.append(outcome(call, name, value, good))
    problems = [x for x in problems if x]
    assert not problems, "\n".join(map(str, problems))


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    made, called = MODULES[name]
    loss = getattr(sslkernels, name)
    loss(**made)(**called)
    problems = []
    for argument, default in parameters_of(loss).items():
        for value in values(made.get(argument, default)):
            if callable(value) and argument.endswith("_fn"):
                continue
            call = lambda: loss(**{**made, argument: value})(**called)  # noqa: B023, E731
            problems.append(outcome(call, argument, value, made | called))
    for argument, default in parameters_of(loss.forward).items():
        if argument == "self":
            continue
        for value in values(called.get(argument, default)):
            call = lambda: loss(**made)(**{**called, argument: value})  # noqa: B023, E731
            problems.append(outcome(call, argument, value, made | called))
    problems = [x for x in problems if x]
    assert not problems, "\n".join(map(str, problems))
