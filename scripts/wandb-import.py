#!/usr/bin/env python3
"""Imports runs of `hrm train` into Weights & Biases: python3 scripts/wandb-import.py RUN...

Needs Python 3.11 and `pip install wandb`. What wandb reads from the environment counts: WANDB_PROJECT, WANDB_ENTITY,
WANDB_MODE=offline (upload later with `wandb sync`). Measurements have the names that TensorBoard and `hrm plot` show."""

import json
import pathlib
import sys
import tomllib

import wandb


def scalars(row, prefix="train"):
    """The numbers of a row by name; those of a nested object bear the object's name."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from scalars(value, name if prefix == "train" else f"{prefix}/{name}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name != "step":
            yield f"{prefix}/{name}", value


def steps(path):
    """What was measured at each step, in order. A line that a kill cut short is left out."""
    found = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.setdefault(row["step"], {}).update(scalars(row))
    return sorted(found.items())


def read(run):
    config = tomllib.loads((run / "config.toml").read_text())
    sessions = run / "environment.json"
    config["environment"] = json.loads(sessions.read_text())[-1] if sessions.exists() else {}
    return config, steps(run / "metrics.jsonl")


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for folder in sys.argv[1:]:
        run = pathlib.Path(folder)
        try:
            config, rows = read(run)
        except (OSError, tomllib.TOMLDecodeError) as error:
            sys.exit(f"error: {run}: no run of `hrm train` here: {error}")
        with wandb.init(name=run.resolve().name, config=config) as imported:
            for step, values in rows:
                imported.log(values, step=step)
        print(f"{run}: {len(rows)} steps imported")


main()
