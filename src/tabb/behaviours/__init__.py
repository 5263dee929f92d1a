"""Behaviour policies: where data sets come from that nobody has published. They learn and plan in the simulator."""
