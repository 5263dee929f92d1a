"""Transfer rules: what a cross-domain method adds to a backbone. `RULES` lists them by name."""

from tabb.rules.baselines import Pooled, TargetOnly
from tabb.rules.predictor import PredictorConfig
from tabb.rules.rule import Rule
from tabb.rules.tabb import TABB

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (TABB, Pooled, TargetOnly)}

__all__ = ["RULES", "TABB", "Pooled", "PredictorConfig", "Rule", "TargetOnly"]
