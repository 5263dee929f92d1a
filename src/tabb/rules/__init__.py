"""Transfer rules: what a cross-domain method adds to a backbone. `RULES` lists them by name."""

from tabb.models.cvae import CVAEConfig
from tabb.models.ensemble import EnsembleConfig
from tabb.models.predictor import PredictorConfig
from tabb.rules.baselines import Pooled, SourceOnly, TargetOnly
from tabb.rules.bosa import BOSA
from tabb.rules.dara import DARA
from tabb.rules.droco import DROCO
from tabb.rules.dvdf import DVDF, SparseQConfig
from tabb.rules.igdf import IGDF
from tabb.rules.otdf import OTDF
from tabb.rules.rule import Rule
from tabb.rules.srpo import SRPO
from tabb.rules.tabb import TABB

RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (TABB, Pooled, TargetOnly, SourceOnly, BOSA, DARA, DROCO, DVDF, IGDF, OTDF, SRPO)
}

__all__ = [
    "BOSA",
    "DARA",
    "DROCO",
    "DVDF",
    "IGDF",
    "OTDF",
    "RULES",
    "SRPO",
    "TABB",
    "CVAEConfig",
    "EnsembleConfig",
    "Pooled",
    "PredictorConfig",
    "Rule",
    "SourceOnly",
    "SparseQConfig",
    "TargetOnly",
]
