"""The commands of the command line, a module each with `run(arguments) -> exit code`."""

COMMANDS = {
    "train": "learn a policy for the target domain; without arguments, run the demo on bundled data",
    "evaluate": "roll a trained policy out in a task and print its score",
    "select": "rank policies by held-out target rows, without rolling them out",
    "report": "write one HTML page: which source rows can be trusted, and how good the policy is",
    "watch": "film policies in their task, several side by side, as MP4 or GIF",
    "score": "write how far a finished run trusts each source row, with its numbers",
    "export": "write a policy as ONNX, StableHLO or plain arrays, to run without tabb",
    "audit": "find what is wrong in data files: where, how bad, and how to mend it",
    "data": "list, fetch, describe or convert data sets",
    "collect": "roll a policy out, with noise, into an HDF5 data set with its provenance",
    "track": "send the metrics of runs on disk to TensorBoard files, trackio or wandb",
    "benchmark": "compare methods over a suite of tasks, with statistics",
    "ablate": "change one thing of TABB at a time, and compare",
    "figure": "compute a figure of the paper anew, with its table",
    "tasks": "list the tasks: robot, shift, level, reference returns",
    "completion": "print a script that completes tabb's words in bash, zsh or fish",
}
