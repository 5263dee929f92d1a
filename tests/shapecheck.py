"""The run-time check of annotations in tests: beartype, with an int where a float is asked for, as mypy has it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
