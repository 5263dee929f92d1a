#!/usr/bin/env bash
# Makes the bundled data sets from the source files in $TABB_DATA with tabb's own commands: train a behaviour
# policy offline, roll it out with noise. A few minutes on one core. The rows are the same on the same machine and
# versions (the files' attributes name them); elsewhere rounding differs and so do the episodes.
set -euo pipefail
source="$TABB_DATA/source"
out="$(mktemp -d)"

# The unshifted hopper at medium level.
tabb train target-only --task hopper --target "$source/hopper_medium.hdf5" \
    --updates 8000 --backbone.temperature 0.5 --seeds 0 --evaluations 4 --out "$out/ordinary"
tabb collect "$out/ordinary/seed0" --task hopper --rows 50000 --noise 0.1 --seed 0 \
    --out hopper_medium.hdf5

# The hopper at half gravity. No data of it are used: the policy comes from all levels of the ordinary robot.
tabb train target-only --task hopper-gravity-0.5 \
    --target "$source/hopper_medium_replay.hdf5+$source/hopper_medium.hdf5+$source/hopper_expert.hdf5" \
    --updates 4000 --backbone.temperature 0.5 --seeds 2 --evaluations 8 --out "$out/half"
tabb collect "$out/half/seed2" --task hopper-gravity-0.5 --rows 5000 --noise 0.1 --seed 0 \
    --out hopper_gravity_0.5_medium.hdf5
