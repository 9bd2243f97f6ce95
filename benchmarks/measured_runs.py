"""Training runs of a benchmark: each is made once, measured, and kept as a line of a file; a killed one goes on.

The search of the product is driven here with training seeds of one's own, and with several scores over the same runs.
"""

import json
import statistics
import sys
from dataclasses import replace

import numpy as np
import torch

from bigstep.errors import TrainError
from bigstep.records.images import Images
from bigstep.records.trained import Recipe, Trial
from data import stage as data_stage
from train import choose, prepare, stage, step
from train.measure.readout import answers
from train.networks.build import build
from train.outcome import EARLY_EPOCH, by_groups, label_free, stuck
from train.search import Search


def images(config, folder):
    """Build the images of a section `data`, or open what an earlier call built."""
    if not (folder / "manifest.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        data_stage.run(config, out=folder)
    return Images.open(folder)


def on_split(setup, model, name):
    """Measure accuracy by group, and prunability by unbiased accuracy, on one split."""
    return by_groups(model, setup.sample(name))[0]


class Runs:
    """Make runs of one setup and measure them on some splits; `journal` keeps one JSON object a line."""

    def __init__(self, setup, journal, splits):
        self.setup, self.journal, self.splits = setup, journal, splits
        self.rows = {}
        journal.parent.mkdir(parents=True, exist_ok=True)
        if journal.is_file():
            whole = [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
            journal.write_text("".join(whole))  # without the last one, if it was cut off
            for row in map(json.loads, whole):
                self.rows[row["name"], row["limit"]] = row

    def make(self, recipe, seed, max_steps, *, final=True):
        """Return a run of at most so many steps, as a row; one that fitted, or is final, is measured.

        A run that ended earlier than some larger budget serves for this one as well: it is the same run.
        """
        name = f"{recipe.name}-s{seed}"
        for row in self.rows.values():
            ended = row["status"] != "unfitted" and row["steps"] <= max_steps
            if row["name"] == name and (ended or (row["limit"] == max_steps and row["measured"] >= final)):
                return row
        return self._train(name, recipe, seed, max_steps, final)

    def _train(self, name, recipe, seed, max_steps, final):
        setup, early = self.setup, []
        model = build(setup.architecture, seed)
        x_NCHW, y_N = setup.tensors("train")
        plan = step.Plan(recipe, setup.batch_size, setup.stop_loss, max_steps, seed)

        def after_epoch(run):
            if run.epoch == EARLY_EPOCH:
                early.append(answers(run.model, setup.first_training_images()).logits_array)

        run = step.fit(step.start(model, recipe), x_NCHW, y_N, plan, after_epoch)
        row = {
            "name": name,
            "recipe": recipe.model_dump(),
            "seed": seed,
            "status": run.status,
            "steps": run.steps,
            "limit": max_steps,
            "train_loss": run.train_loss,
            "curve": [point for point in run.curve if np.isfinite(point[1])],
            "measured": run.status == "fitted" or (final and run.status == "unfitted"),
        }
        if row["measured"]:
            row |= {split: on_split(setup, model, split) for split in self.splits}
        if row["measured"] and "validation" in self.splits:
            biased = answers(model, setup.sample("validation_biased"))
            row["signals"] = label_free(model, setup.first_training_images(), early[0] if early else None)[0]
            row["biased_predicted"] = biased.logits.argmax(dim=1).tolist()
            row["biased_loss"] = biased.loss()
        self.rows[name, max_steps] = row
        with self.journal.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name}: {row['status']} after {row['steps']} steps", file=sys.stderr, flush=True)
        return row

    def trial(self, job, seed, rule):
        """Answer a job of the search, with another training seed, as the stage would under one of the two rules."""
        row = self.make(job.recipe, seed, job.max_steps, final=job.final)
        outcome = {"name": row["name"], "recipe": job.recipe, "seed": seed, "steps": row["steps"]}
        if row["status"] == "unfitted":
            losses = [loss for _, loss in row["curve"]]
            status = "unfitted" if job.final else ("stuck" if stuck(losses) else "stopped")
            return Trial(**outcome, status=status, train_loss=row["train_loss"])
        if row["status"] != "fitted":
            return Trial(**outcome, status=row["status"], train_loss=None)
        numbers = row["validation" if rule == "groups" else "signals"]
        return Trial(**outcome, status="fitted", train_loss=row["train_loss"], numbers=numbers)

    def one_hot(self, name):
        """Return logits that give the classes which a run gave on `validation_biased`: all that agreement needs."""
        classes = len(self.setup.images.info.labels)
        row = next(row for row in self.rows.values() if row["name"] == name and row["measured"])
        return np.eye(classes, dtype=np.float32)[row["biased_predicted"]]

    def score(self, rule, robust_weight):
        """Return the score of one of the two rules."""
        if rule == "groups":
            return choose.by_groups(robust_weight)
        return choose.label_free(robust_weight, self.one_hot)


def search(runs, axis, rule, weight, first_seed):
    """Search as the stage `train` does, with the seeds that follow the first; returns what was found and chosen."""
    score = runs.score(rule, weight)
    found = Search(axis, lambda groups: choose.comparable(groups, score))
    rounds = found.rounds()
    trials = None
    while True:
        try:
            jobs = next(rounds) if trials is None else rounds.send(trials)
        except StopIteration:
            break
        trials = [runs.trial(job, first_seed + job.seed, rule) for job in jobs]
    every = [trial for seeds in found.trials.values() for trial in seeds.values()]
    try:
        chosen = choose.choose(every, score, stage.RULES[False], axis.rates).trial
    except TrainError:
        return None, found
    return next(trial.recipe for trial in every if trial.name == chosen), found


def recipe(row):
    """Return the recipe of a row."""
    return Recipe(**row["recipe"])


def make_setup(config, built, folder):
    """Return the product's setup; the stage's folder is never written to."""
    torch.set_num_threads(1)
    return replace(prepare.make_setup(config, built, "cpu", folder), bias_labels=True)


def spread(values, digits=1, factor=100):
    """Write mean and standard deviation, by default in percent."""
    values = [factor * value for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}" if values else "-"
