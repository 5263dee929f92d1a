"""Files and arrays in, audited `Transitions` out; where named data sets are; checks between two domains."""

from tabb.data.arrays import from_arrays, inspect_arrays
from tabb.data.audit.domains import check_domains, check_side
from tabb.data.catalogue import Entry, available, find, resolve
from tabb.data.files import load, read
from tabb.data.hdf5 import load_hdf5, write_hdf5
from tabb.data.npz import load_npz, save_npz
from tabb.data.reading import Reading
from tabb.data.report import Loaded, Report, describe

__all__ = [
    "Entry",
    "Loaded",
    "Reading",
    "Report",
    "available",
    "check_domains",
    "check_side",
    "describe",
    "find",
    "from_arrays",
    "inspect_arrays",
    "load",
    "load_hdf5",
    "load_npz",
    "read",
    "resolve",
    "save_npz",
    "write_hdf5",
]
