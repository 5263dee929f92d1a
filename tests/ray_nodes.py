"""A Ray cluster of several nodes on this machine, in a process of its own: no warning of Ray's reaches other tests.

Says the address; then one answer per line of input: `add CPUS` starts a node, `kill N` ends the N-th added one as a
power cut would, `from FOLDER` lets nodes added later import from there first. It ends with its input.
"""

import os
import sys

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR="/tmp")  # not in TMPDIR: names of sockets must be short

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster()
    cluster.add_node(num_cpus=0, include_dashboard=False, object_store_memory=100_000_000)
    print(cluster.address, flush=True)
    nodes = []
    for line in sys.stdin:
        what, number = line.rstrip().split(maxsplit=1)
        if what == "add":
            nodes.append(cluster.add_node(num_cpus=int(number), object_store_memory=100_000_000))
        elif what == "from":
            os.environ["PYTHONPATH"] = number
        else:
            cluster.remove_node(nodes[int(number)], allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()
