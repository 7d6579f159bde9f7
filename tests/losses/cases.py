"""Every loss with its formula, in one form: ``ours(embeddings, scalars, gather)``."""

from __future__ import annotations

from functools import partial

import distillation_cases
import formulas
import gaussian_cases
import torch
import torch.nn.functional as F
from case import Case, numbers

from sslkernels import functional


def queue(like):
    """Keys of other batches; as many as eager torch also multiplies in TF32."""
    return F.normalize(numbers(like, 76, like.shape[1], seed=3), dim=1)


def covariance(like):
    keys = queue(like)
    return (keys[:, :, None] * keys[:, None, :]).mean(0)  # no product, which autocast would lower


def pair_loss(function, *options, **keywords):
    """A loss of embeddings alone, without scalars or gathering."""

    def compute(*embeddings, gather=None):
        return function(*embeddings, *options, **keywords)

    return compute


def supcon(x0, x1, temperature, labels, gather=None, **options):
    features = torch.stack([x0, x1], 1)
    return functional.supcon(features, labels, temperature=temperature, gather=gather, **options)


def supcon_formula(function, by_mask=True):
    def compute(x0, x1, temperature, labels):
        return function(
            torch.stack([x0, x1], 1), formulas.same(labels) if by_mask else labels, temperature
        )

    return compute


def supcon_unlabelled(x0, x1, temperature, gather=None):
    features = torch.stack([x0, x1], 1)
    return functional.supcon(features, temperature=temperature, gather=gather)


def supcon_unlabelled_formula(x0, x1, temperature):
    return formulas.supcon(torch.stack([x0, x1], 1), torch.eye(len(x0)), temperature)


def mask_of(labels):
    """1.5 for an image itself, 0.5 for another of its label."""
    own = torch.eye(len(labels), dtype=torch.float64, device=labels.device)
    return own + 0.5 * formulas.same(labels).double()


def supcon_masked(x0, x1, temperature, labels, gather=None):
    features = torch.stack([x0, x1], 1)
    return functional.supcon(features, mask=mask_of(labels), temperature=temperature)


def supcon_masked_formula(x0, x1, temperature, labels):
    return formulas.supcon(torch.stack([x0, x1], 1), mask_of(labels), temperature)


def paired(query, key, n0, n1, temperature, gather=None):
    return functional.info_nce(
        query, key, torch.stack([n0, n1], 1), temperature, negative_mode="paired", gather=gather
    )


def mmcr(o0, o1, m0, m1, gather=None):
    online, momentum = torch.stack([o0, o1], 1), torch.stack([m0, m1], 1)
    return functional.mmcr(online, momentum, 0.05, gather=gather)


def simdino(s0, s1, s2, t0, t1, gather=None, **options):
    student, teacher = torch.stack([s0, s1, s2]), torch.stack([t0, t1])
    return functional.simdino(student=student, teacher=teacher, gather=gather, **options)


def narrow(x):
    """Some features with less than unit variance, some with more: both sides of the hinge."""
    return x * torch.linspace(0.2, 1.2, x.shape[1], dtype=x.dtype)


def maps(x):
    return x.unflatten(1, (2, -1))


def crops(*embeddings):
    """Views of (N, D): pooled features, maps of 2 x 2 cells, and grids that depend on images.

    The grids are float32, so that half precision does not make different positions equal.
    """
    cells = [x.view(len(x), 2, 2, -1) for x in embeddings]
    grids = [c[..., 1:3].detach().float() ** 2 for c in cells]
    return list(zip(embeddings, cells, grids, strict=True))


def vicregl(*embeddings, gather=None):
    features = [(pooled, cells) for pooled, cells, _ in crops(*embeddings)]
    grids = [grid for _, _, grid in crops(*embeddings)]
    return functional.vicregl(features, grids, num_matches=(2, 1), gather=gather)


def tico(z_a, z_b, gather=None):
    updated = functional.tico_covariance(z_a, covariance(z_a), 0.4, gather=gather)
    return functional.tico(z_a, z_b, updated, 3.0, gather=gather)


CASES = (
    {
        "nt_xent": Case(functional.nt_xent, formulas.nt_xent),
        "nt_xent negative temperature": Case(functional.nt_xent, formulas.nt_xent, scalars=(-1.0,)),
        "nt_xent google": Case(
            partial(functional.nt_xent, convention="google"), formulas.nt_xent_google
        ),
        "dcl": Case(functional.dcl, formulas.dcl),
        "dclw": Case(functional.dclw, formulas.dclw),
        "moco": Case(
            lambda q, k, t, gather=None: functional.moco(q, k, queue(q).to(q), t, gather=gather),
            lambda q, k, t: formulas.moco(q, k, queue(q), t),
        ),
        "moco_v3": Case(functional.moco_v3, formulas.moco_v3, constant=1),
        "nnclr": Case(
            lambda p, n, t, gather=None: functional.nnclr(n, p, t, gather=gather),
            lambda p, n, t: formulas.nnclr(n, p, t),
            constant=1,
        ),
        "nnclr lightly": Case(
            lambda p, n, t, gather=None: functional.nnclr(
                n, p, t, convention="lightly", gather=gather
            ),
            lambda p, n, t: formulas.nt_xent(n.detach(), p, t),
            constant=1,
        ),
        "info_nce": Case(
            lambda q, k, t, gather=None: functional.info_nce(q, k, None, t, gather=gather),
            formulas.info_nce,
        ),
        "info_nce unpaired": Case(
            lambda q, k, n, t, gather=None: functional.info_nce(q, k, n, t, gather=gather),
            lambda q, k, n, t: formulas.info_nce(q, k, t, n),
            embeddings=3,
        ),
        "info_nce paired": Case(
            paired,
            lambda q, k, n0, n1, t: formulas.info_nce(q, k, t, torch.stack([n0, n1], 1)),
            embeddings=4,
        ),
        "supcon": Case(supcon, supcon_formula(formulas.supcon), labels=True),
        "supcon one": Case(
            partial(supcon, contrast_mode="one"), supcon_formula(formulas.supcon_one), labels=True
        ),
        "supcon pytorch_metric_learning": Case(
            partial(supcon, convention="pytorch_metric_learning"),
            supcon_formula(formulas.supcon_pml),
            labels=True,
        ),
        "supcon solo_learn": Case(
            partial(supcon, convention="solo_learn"),
            supcon_formula(formulas.supcon_solo, by_mask=False),
            labels=True,
        ),
        "supcon unlabelled": Case(supcon_unlabelled, supcon_unlabelled_formula),
        "supcon masked": Case(supcon_masked, supcon_masked_formula, labels=True, gathers=False),
        "clip": Case(functional.clip, formulas.clip, scalars=(9.0,), prepare=formulas.unit),
        "siglip": Case(
            functional.siglip, formulas.siglip, scalars=(9.0, -4.0), prepare=formulas.unit
        ),
        "simsiam": Case(
            pair_loss(functional.simsiam), formulas.simsiam, constant=1, scalars=(), gathers=False
        ),
        "byol": Case(
            pair_loss(functional.byol), formulas.byol, constant=1, scalars=(), gathers=False
        ),
        "alignment": Case(
            functional.alignment, lambda x, y: formulas.alignment(x, y, 2), scalars=()
        ),
        "alignment cubed": Case(
            partial(functional.alignment, alpha=3),
            lambda x, y: formulas.alignment(x, y, 3),
            scalars=(),
        ),
        "uniformity": Case(
            functional.uniformity,
            lambda x: formulas.uniformity(x, 2),
            embeddings=1,
            scalars=(),
        ),
        "mmcr": Case(mmcr, lambda *x: formulas.mmcr(*x, 0.05), embeddings=4, scalars=()),
        # cca depends on a linear map of the embeddings only through the ridge, which is large here
        "cca": Case(
            partial(functional.cca, ridge=0.3), lambda x, y: formulas.cca(x, y, 0.3), scalars=()
        ),
        "cca of some dimensions": Case(
            partial(functional.cca, ridge=0.1, dimensions=5),
            lambda x, y: formulas.cca(x, y, 0.1, 5),
            scalars=(),
        ),
        "coding_rate": Case(
            functional.coding_rate, lambda x: formulas.coding_rate(x, 0.5), embeddings=1, scalars=()
        ),
        "simdino": Case(
            simdino, lambda *x: formulas.simdino(x[:3], x[3:], 0.5, 1, 0), 5, constant=2, scalars=()
        ),
        "simdino of means": Case(
            partial(simdino, eps=0.05, coeff=3, expa_type=1),
            lambda *x: formulas.simdino(x[:3], x[3:], 0.05, 3, 1),
            embeddings=5,
            scalars=(),
            prepare=formulas.unit,
        ),
        "barlow_twins": Case(
            functional.barlow_twins, lambda x, y: formulas.barlow_twins(x, y, 5e-3), scalars=()
        ),
        "barlow_twins solo_learn": Case(
            partial(functional.barlow_twins, lambda_param=0.05, convention="solo_learn"),
            lambda x, y: 0.025 * formulas.barlow_twins(x, y, 0.05),
            scalars=(),
        ),
        "barlow_twins stable_pretraining": Case(
            partial(functional.barlow_twins, convention="stable_pretraining"),
            lambda x, y: formulas.barlow_twins(x, y, 5e-3, 1, 0.0, 1e-5),
            scalars=(),
        ),
        "vicreg": Case(functional.vicreg, formulas.vicreg, scalars=(), prepare=narrow),
        "vicreg solo_learn": Case(
            partial(functional.vicreg, convention="solo_learn"),
            partial(formulas.vicreg, halves=1),
            scalars=(),
            prepare=narrow,
        ),
        "vicreg of maps": Case(
            lambda x, y, gather=None: functional.vicreg(maps(x), maps(y), gather=gather),
            lambda x, y: formulas.vicreg_maps(maps(x), maps(y)),
            scalars=(),
            prepare=narrow,
        ),
        "vibcreg": Case(functional.vibcreg, formulas.vibcreg, scalars=(), prepare=narrow),
        "vicregl": Case(
            vicregl,
            lambda x, y: formulas.vicregl(crops(x, y), [], (2, 1)),
            scalars=(),
            prepare=narrow,
        ),
        "spectral_contrastive": Case(
            partial(functional.spectral_contrastive, mu=12.0),
            lambda x, y: formulas.spectral_contrastive(x, y, 12.0),
            scalars=(),
        ),
        "w_mse": Case(
            partial(functional.w_mse, eps=0.2), lambda x, y: formulas.w_mse(x, y, 0.2), scalars=()
        ),
        "tico": Case(tico, lambda x, y: formulas.tico(x, y, covariance(x), 0.4, 3.0), scalars=()),
    }
    | distillation_cases.CASES
    | gaussian_cases.CASES
)
