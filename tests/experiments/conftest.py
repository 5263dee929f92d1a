from benchmark_runs import levels, qualities

__all__ = ["levels", "qualities"]
