"""tabb: cross-domain offline reinforcement learning.

>>> source, target = tabb.load("simulator.hdf5"), tabb.load("robot.hdf5")
>>> learner = tabb.Learner(tabb.TABB(), updates=50_000).fit(source, target, folder="runs/mine")
>>> learner.save("policy.npz")
PosixPath('policy.npz')
>>> policy = tabb.Policy.load("policy.npz")  # acts with NumPy alone
>>> policy.act(target.observation[0]).shape
(3,)
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from tabb import _moved
from tabb._version import __version__

if TYPE_CHECKING:
    from tabb.backbones import BCQ as BCQ
    from tabb.backbones import BEAR as BEAR
    from tabb.backbones import CQL as CQL
    from tabb.backbones import DT as DT
    from tabb.backbones import IQL as IQL
    from tabb.backbones import SAC as SAC
    from tabb.backbones import TD3BC as TD3BC
    from tabb.backbones import Backbone as Backbone
    from tabb.backbones import Clone as Clone
    from tabb.behaviours.collect import collect as collect
    from tabb.data import from_arrays as from_arrays
    from tabb.data import from_table as from_table
    from tabb.data import load as load
    from tabb.data.audit import Audit as Audit
    from tabb.data.audit import audit as audit
    from tabb.deploy import export as export
    from tabb.environments import TASKS as TASKS
    from tabb.environments import get_task as get_task
    from tabb.environments import make as make
    from tabb.evaluation.scores import Evaluation as Evaluation
    from tabb.evaluation.scores import evaluate as evaluate
    from tabb.learner import Learner as Learner
    from tabb.models.imitation import Imitation as Imitation
    from tabb.policy import Policy as Policy
    from tabb.rendering import watch as watch
    from tabb.results.answer import answer_of as answer_of
    from tabb.results.comparison import write_comparison as write_comparison
    from tabb.results.report import write_report as write_report
    from tabb.results.row_scores import RowScores as RowScores
    from tabb.results.row_scores import score_rows as score_rows
    from tabb.results.run_results import RunResult as RunResult
    from tabb.results.run_results import results as results
    from tabb.results.selection import select as select
    from tabb.rules import BCSAC as BCSAC
    from tabb.rules import BOSA as BOSA
    from tabb.rules import COMBO as COMBO
    from tabb.rules import CPQ as CPQ
    from tabb.rules import DARA as DARA
    from tabb.rules import DARC as DARC
    from tabb.rules import DROCO as DROCO
    from tabb.rules import DVDF as DVDF
    from tabb.rules import H2O as H2O
    from tabb.rules import IGDF as IGDF
    from tabb.rules import MOBILE as MOBILE
    from tabb.rules import MOBODY as MOBODY
    from tabb.rules import MOPO as MOPO
    from tabb.rules import OTDF as OTDF
    from tabb.rules import PAR as PAR
    from tabb.rules import PARL as PARL
    from tabb.rules import PTR as PTR
    from tabb.rules import PU as PU
    from tabb.rules import REAG as REAG
    from tabb.rules import RLPD as RLPD
    from tabb.rules import SRPO as SRPO
    from tabb.rules import TABB as TABB
    from tabb.rules import TAFDT as TAFDT
    from tabb.rules import V2A as V2A
    from tabb.rules import VGDF as VGDF
    from tabb.rules import AgreedShift as AgreedShift
    from tabb.rules import BodiesConfig as BodiesConfig
    from tabb.rules import Correct as Correct
    from tabb.rules import CVAEConfig as CVAEConfig
    from tabb.rules import DiffusionConfig as DiffusionConfig
    from tabb.rules import DirectPredictor as DirectPredictor
    from tabb.rules import DmC as DmC
    from tabb.rules import EnsembleConfig as EnsembleConfig
    from tabb.rules import FineTune as FineTune
    from tabb.rules import InverseConfig as InverseConfig
    from tabb.rules import LatentDirectPredictor as LatentDirectPredictor
    from tabb.rules import LatentPredictor as LatentPredictor
    from tabb.rules import MixtureConfig as MixtureConfig
    from tabb.rules import MOReL as MOReL
    from tabb.rules import Pooled as Pooled
    from tabb.rules import PredictorConfig as PredictorConfig
    from tabb.rules import REAGDara as REAGDara
    from tabb.rules import ResidualPredictor as ResidualPredictor
    from tabb.rules import Rule as Rule
    from tabb.rules import SACTune as SACTune
    from tabb.rules import Similarity as Similarity
    from tabb.rules import SourceOnly as SourceOnly
    from tabb.rules import SparseQConfig as SparseQConfig
    from tabb.rules import TargetModelConfig as TargetModelConfig
    from tabb.rules import TargetOnly as TargetOnly
    from tabb.rules import ValueNoise as ValueNoise
    from tabb.rules import VGDFOnline as VGDFOnline
    from tabb.training import Online as Online
    from tabb.training import Run as Run
    from tabb.training import Settings as Settings
    from tabb.training import train as train
    from tabb.transitions import Transitions as Transitions

# Names are imported when they are first used: `tabb tasks` need not wait for JAX.
_WHERE = {
    **dict.fromkeys(("BCQ", "BEAR", "CQL", "DT", "IQL", "SAC", "TD3BC", "Backbone", "Clone"), "tabb.backbones"),
    "BOSA": "tabb.rules",
    "DVDF": "tabb.rules",
    "SparseQConfig": "tabb.rules",
    "CVAEConfig": "tabb.rules",
    "OTDF": "tabb.rules",
    "EnsembleConfig": "tabb.rules",
    "SRPO": "tabb.rules",
    "IGDF": "tabb.rules",
    **dict.fromkeys(("COMBO", "CPQ", "Correct", "DmC", "FineTune", "MOBILE", "MOBODY", "MOPO"), "tabb.rules"),
    **dict.fromkeys(("BodiesConfig", "MOReL", "PTR", "PU", "REAG", "REAGDara", "TAFDT", "V2A", "VGDF"), "tabb.rules"),
    **dict.fromkeys(("DiffusionConfig", "InverseConfig", "MixtureConfig", "TargetModelConfig"), "tabb.rules"),
    **dict.fromkeys(("BCSAC", "DARC", "H2O", "PAR", "PARL", "RLPD", "SACTune", "VGDFOnline"), "tabb.rules"),
    "DROCO": "tabb.rules",
    "DARA": "tabb.rules",
    "Audit": "tabb.data.audit",
    "Evaluation": "tabb.evaluation.scores",
    "Imitation": "tabb.models.imitation",
    "Learner": "tabb.learner",
    "Online": "tabb.training",
    "Policy": "tabb.policy",
    "Pooled": "tabb.rules",
    **dict.fromkeys(("AgreedShift", "DirectPredictor", "LatentDirectPredictor", "LatentPredictor"), "tabb.rules"),
    **dict.fromkeys(("PredictorConfig", "ResidualPredictor", "Similarity", "ValueNoise"), "tabb.rules"),
    "Rule": "tabb.rules",
    "RowScores": "tabb.results.row_scores",
    "Run": "tabb.training",
    "RunResult": "tabb.results.run_results",
    "Settings": "tabb.training",
    "SourceOnly": "tabb.rules",
    "TABB": "tabb.rules",
    "TASKS": "tabb.environments",
    "TargetOnly": "tabb.rules",
    "Transitions": "tabb.transitions",
    "answer_of": "tabb.results.answer",
    "audit": "tabb.data.audit",
    "collect": "tabb.behaviours.collect",
    "evaluate": "tabb.evaluation.scores",
    "export": "tabb.deploy",
    "from_arrays": "tabb.data",
    "from_table": "tabb.data",
    "get_task": "tabb.environments",
    "load": "tabb.data",
    "make": "tabb.environments",
    "score_rows": "tabb.results.row_scores",
    "select": "tabb.results.selection",
    "train": "tabb.training",
    "watch": "tabb.rendering",
    "write_comparison": "tabb.results.comparison",
    "write_report": "tabb.results.report",
}

_MODULES = (
    *("backbones", "behaviours", "data", "deploy", "environments", "errors", "evaluation", "models", "policy"),
    *("rendering", "results", "rules", "tracking", "training", "transitions"),
)
"""what may be written as `tabb.data.read` after `import tabb` alone"""

__all__ = ["__version__", *sorted({*_WHERE, "results"})]

_moved.install()

if "gymnasium" in sys.modules:
    # `gymnasium.make("tabb:tabb/hopper-v0")` imports this module and expects the ids to be there. Where
    # tabb was imported first, Gymnasium finds no ids (its 1.x reads no entry points): `tabb.make` registers them.
    importlib.import_module("tabb.environments").register()


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"tabb.{name}")
    raise AttributeError(f"module 'tabb' has no attribute {name!r}")


def __dir__() -> list[str]:
    special = {name for name in globals() if name.startswith("__")}
    return sorted({*special - {"__getattr__", "__dir__"}, *__all__, *_MODULES})
