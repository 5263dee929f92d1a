"""Files and arrays in, audited `Transitions` out; where named data sets are; checks between two domains."""

from tabb.data.arrays import from_arrays, inspect_arrays
from tabb.data.audit.domains import check_domains, check_side
from tabb.data.catalogue import Entry, available, find, resolve
from tabb.data.convert import convert
from tabb.data.files import load, read
from tabb.data.hdf5 import load_hdf5, write_hdf5
from tabb.data.lerobot import load_lerobot
from tabb.data.npz import load_npz, save_npz
from tabb.data.reading import ColumnNames, Reading
from tabb.data.report import Loaded, Report, describe
from tabb.data.tables import from_table, inspect_table, load_table

__all__ = [
    "ColumnNames",
    "Entry",
    "Loaded",
    "Reading",
    "Report",
    "available",
    "check_domains",
    "check_side",
    "convert",
    "describe",
    "find",
    "from_arrays",
    "from_table",
    "inspect_arrays",
    "inspect_table",
    "load",
    "load_hdf5",
    "load_lerobot",
    "load_npz",
    "load_table",
    "read",
    "resolve",
    "save_npz",
    "write_hdf5",
]
