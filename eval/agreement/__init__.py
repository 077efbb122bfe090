"""How far two judges, or two rankings of systems, agree: Cohen's κ, Krippendorff's α, Kendall's τ, τ_AP, RBO."""

from __future__ import annotations

from .alpha import krippendorff_alpha
from .kappa import Agreement, agreement, cohen_kappa
from .labels import PairedLabels, paired_labels
from .rankings import RankBiasedOverlap, kendall_tau, rank_biased_overlap, tau_ap
from .systems import SystemAgreement, system_agreement

__all__ = [
    "Agreement",
    "PairedLabels",
    "RankBiasedOverlap",
    "SystemAgreement",
    "agreement",
    "cohen_kappa",
    "kendall_tau",
    "krippendorff_alpha",
    "paired_labels",
    "rank_biased_overlap",
    "system_agreement",
    "tau_ap",
]
