"""Transfer rules: what a cross-domain method adds to a backbone. `RULES` lists them by name."""

from tabb.models.agreed_shift import AgreedShift
from tabb.models.bodies import BodiesConfig
from tabb.models.cvae import CVAEConfig
from tabb.models.diffusion import DiffusionConfig
from tabb.models.direct_predictor import DirectPredictor
from tabb.models.ensemble import EnsembleConfig
from tabb.models.inverse import InverseConfig
from tabb.models.latent_predictor import LatentDirectPredictor, LatentPredictor
from tabb.models.mixture import MixtureConfig
from tabb.models.predictors import PredictorConfig
from tabb.models.residual_predictor import ResidualPredictor
from tabb.models.target_model import TargetModelConfig
from tabb.rules.baselines import Pooled, SourceOnly, TargetOnly
from tabb.rules.bc_sac import BCSAC
from tabb.rules.bosa import BOSA
from tabb.rules.combo import COMBO
from tabb.rules.correct import Correct
from tabb.rules.cpq import CPQ
from tabb.rules.dara import DARA
from tabb.rules.darc import DARC
from tabb.rules.dmc import DmC
from tabb.rules.droco import DROCO
from tabb.rules.dvdf import DVDF, SparseQConfig
from tabb.rules.finetune import PTR, FineTune
from tabb.rules.h2o import H2O
from tabb.rules.igdf import IGDF
from tabb.rules.mobile import MOBILE
from tabb.rules.mobody import MOBODY
from tabb.rules.mopo import MOPO
from tabb.rules.morel import MOReL
from tabb.rules.otdf import OTDF
from tabb.rules.pa_rl import PARL
from tabb.rules.par import PAR
from tabb.rules.pu import PU
from tabb.rules.reag import REAG, REAGDara
from tabb.rules.rlpd import RLPD
from tabb.rules.rule import Rule
from tabb.rules.sac_tune import SACTune
from tabb.rules.similarity import Similarity
from tabb.rules.srpo import SRPO
from tabb.rules.tabb import TABB
from tabb.rules.taf_dt import TAFDT
from tabb.rules.v2a import V2A
from tabb.rules.value_noise import ValueNoise
from tabb.rules.vgdf import VGDF
from tabb.rules.vgdf_online import VGDFOnline

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        *(TABB, Pooled, TargetOnly, SourceOnly, BOSA, DARA, DROCO, DVDF, IGDF, OTDF, SRPO),
        *(FineTune, PTR, VGDF, Correct, PU, DmC, CPQ, V2A),
        *(MOPO, COMBO, MOBILE, MOBODY, MOReL),
        *(REAG, REAGDara, TAFDT),
        *(SACTune, RLPD, BCSAC, DARC, H2O, PAR, VGDFOnline, PARL),
        *(Similarity, ValueNoise),
    )
}

__all__ = [
    "BCSAC",
    "BOSA",
    "COMBO",
    "CPQ",
    "DARA",
    "DARC",
    "DROCO",
    "DVDF",
    "H2O",
    "IGDF",
    "MOBILE",
    "MOBODY",
    "MOPO",
    "OTDF",
    "PAR",
    "PARL",
    "PTR",
    "PU",
    "REAG",
    "RLPD",
    "RULES",
    "SRPO",
    "TABB",
    "TAFDT",
    "V2A",
    "VGDF",
    "AgreedShift",
    "BodiesConfig",
    "CVAEConfig",
    "Correct",
    "DiffusionConfig",
    "DirectPredictor",
    "DmC",
    "EnsembleConfig",
    "FineTune",
    "InverseConfig",
    "LatentDirectPredictor",
    "LatentPredictor",
    "MOReL",
    "MixtureConfig",
    "Pooled",
    "PredictorConfig",
    "REAGDara",
    "ResidualPredictor",
    "Rule",
    "SACTune",
    "Similarity",
    "SourceOnly",
    "SparseQConfig",
    "TargetModelConfig",
    "TargetOnly",
    "VGDFOnline",
    "ValueNoise",
]
