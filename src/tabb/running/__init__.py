"""Many runs: plans, child processes, clusters."""
