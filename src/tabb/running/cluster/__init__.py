"""Plans on a Ray cluster: `tabb benchmark --ray ADDRESS`, `tabb train --ray ADDRESS`.

options.py    what the user says: where the cluster is, accelerators, retries
connection.py connects and disconnects; checks every node before anything trains
shipping.py   data files into Ray's object store
plan.py       the driver: hands cells out, writes what comes back
node.py       the node: one cell as a process, its files sent back at each checkpoint
versions.py   what must be the same on all machines
"""

from tabb.running.cluster.options import Cluster

__all__ = ["Cluster"]
