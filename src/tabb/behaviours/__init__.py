"""Behaviour policies, which collect data sets for tasks without one. They learn and plan in the simulator."""
