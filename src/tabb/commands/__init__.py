"""The commands of the command line, a module each with `run(arguments) -> exit code`."""

COMMANDS = {
    "train": "learn a policy for the target domain; without arguments, the demo on the bundled data",
    "evaluate": "roll a trained policy out in a task and print its score",
    "select": "rank policies without rolling them out, by what held-out target rows say of them",
    "report": "write what transferred in a finished run, and how good its policy is, as one HTML page",
    "watch": "film policies in their task, several side by side, as MP4 or GIF",
    "score": "write what a finished run says of each source row: how far to trust it, and by which numbers",
    "export": "write a policy as ONNX, StableHLO or plain arrays, to run without tabb",
    "audit": "find what is wrong in data files: where, how bad, and how to mend it",
    "data": "list the data sets at hand, or describe files: rows, episodes, returns, defects",
    "collect": "roll a policy out, with noise, into an HDF5 data set with its provenance",
    "track": "send the metrics of runs on disk to TensorBoard files, trackio or wandb",
    "benchmark": "compare methods over a suite of tasks, with honest statistics",
    "ablate": "change one thing of TABB at a time, and see what it costs or gives",
    "figure": "compute a figure of the paper anew, with its table",
    "tasks": "list the tasks: robot, shift, level, reference returns",
    "completion": "print a script with which a shell completes all of this: bash, zsh or fish",
}
