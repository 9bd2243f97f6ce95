"""Training with what is said to rival a large rate: other optimisers, losses, penalties and perturbations.

Every rival has the same stopping rule: the mean of its own loss over the training set, penalties and dropout left out,
is at most `stop_loss` above the least that this loss can be. For the cross entropy that is the product's rule.

Sources: Lin et al. 2017, arXiv:1708.02002 (focal loss); Kwon et al. 2021, arXiv:2102.11600 (adaptive SAM); Szegedy et
al. 2016, arXiv:1512.00567 (label smoothing); Srivastava et al. 2014 (dropout); Loshchilov and Hutter 2019,
arXiv:1711.05101 (AdamW).
"""

import json
import math
import sys
from collections import OrderedDict

import measured_runs as runs
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bigstep.records.trained import Recipe
from train import step
from train.measure import attribution
from train.networks.build import build
from train.networks.predict import predict

ASAM_ETA = 0.01  # what is added to |w|, as its authors have it
CORE_IMAGES = 500
COLLAPSE_EPOCHS = 5  # epochs after which a loss that stays at chance is given up


def name(setting):
    """Return a short name of a setting: a dictionary of `rate`, and what is not its default."""
    return "-".join(f"{key}_{value:g}" if not isinstance(value, str) else value for key, value in setting.items())


def loss_of(setting, classes):
    """Return the loss of a setting and the least value that its mean can have."""
    if gamma := setting.get("focal"):
        return lambda logits_NK, y_N: focal_loss(logits_NK, y_N, gamma), 0.0
    smoothing = setting.get("smoothing", 0.0)
    right, other = 1 - smoothing + smoothing / classes, smoothing / classes
    least = -right * math.log(right) - (classes - 1) * other * math.log(other) if smoothing else 0.0
    return lambda logits_NK, y_N: cross_entropy(logits_NK, y_N, label_smoothing=smoothing), least


def focal_loss(logits_NK, y_N, gamma):
    """Return the mean of -(1 - p)**gamma * log p, p being the probability of the right class."""
    log_p_N = logits_NK.log_softmax(dim=1).gather(1, y_N[:, None])[:, 0]
    return -((1 - log_p_N.exp()) ** gamma * log_p_N).mean()


def network(setup, setting, seed):
    """Build the network of a setup, with dropout after every hidden layer where the setting has it."""
    model = build(setup.architecture, seed)
    if not setting.get("dropout"):
        return model
    layers = OrderedDict()
    for key, layer in model.named_children():
        layers[key] = layer
        if key.endswith("_relu"):
            layers[f"{key}_dropout"] = nn.Dropout(setting["dropout"])
    return nn.Sequential(layers)


def optimiser(model, setting):
    """Return the optimiser of a setting; weight decay is on weights only, as in the product."""
    decay = setting.get("l2", 0.0)
    if setting.get("optimizer") == "adamw":
        others = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": step.weights(model), "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=setting["rate"])
    kind = setting.get("optimizer", "sgd")
    made = Recipe(optimizer=kind, rate=setting["rate"], momentum=setting.get("momentum", 0.0), weight_decay=decay)
    return step.start(model, made).optimizer


def perturb(model, rho):
    """Move the weights to where adaptive SAM takes its gradient; returns how they were.

    eps = rho * T**2 g / ||T g||,   T = |w| + ASAM_ETA
    """
    parameters = [p for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        scales = [p.abs() + ASAM_ETA for p in parameters]
        norm = torch.sqrt(sum(((t * p.grad) ** 2).sum() for t, p in zip(scales, parameters, strict=True)))
        before = [p.clone() for p in parameters]
        for scale, p in zip(scales, parameters, strict=True):
            p.add_(scale**2 * p.grad, alpha=float(rho / (norm + 1e-12)))
    return list(zip(parameters, before, strict=True))


def make_step(model, optimizer, setting, loss, x_nCHW, y_n):
    """Make one step and return the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    value = loss(model(x_nCHW), y_n)
    value.backward()
    if rho := setting.get("asam"):
        moved = perturb(model, rho)
        optimizer.zero_grad(set_to_none=True)
        loss(model(x_nCHW), y_n).backward()
        with torch.no_grad():
            for parameter, before in moved:
                parameter.copy_(before)
    if l1 := setting.get("l1"):
        for weight in step.weights(model):
            weight.grad.add_(weight.detach().sign(), alpha=l1)
    optimizer.step()
    return float(value.detach())


def fit(setup, setting, seed, max_steps):
    """Train to the stopping rule or the step budget; returns network, status and steps.

    A step of adaptive SAM counts as two: it takes two gradients.
    """
    torch.manual_seed(seed)  # of dropout
    model = network(setup, setting, seed)
    optimizer = optimiser(model, setting)
    x_NCHW, y_N = setup.tensors("train")
    classes = len(setup.images.info.labels)
    loss, least = loss_of(setting, classes)
    chance = float(loss(torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64)))
    plan = step.Plan(Recipe(optimizer="sgd", rate=setting["rate"]), setting.get("batch", 0), 0.0, max_steps, seed)
    cost = 2 if setting.get("asam") else 1
    steps, high = 0, 0
    for epoch in range(max_steps):
        total, seen = 0.0, 0
        for batch in step.batch_order(plan, epoch, len(y_N)).split(setting.get("batch", setup.batch_size)):
            if steps >= max_steps:
                break
            total += len(batch) * make_step(model, optimizer, setting, loss, x_NCHW[batch], y_N[batch])
            steps, seen = steps + cost, seen + len(batch)
        mean = total / seen
        if not math.isfinite(mean) or (epoch >= 2 and mean > step.DIVERGED_LOSS * chance):
            return model, "diverged", steps
        if mean - least <= 4 * setup.stop_loss or setting.get("dropout") or steps >= max_steps:
            value = float(loss(predict(model, x_NCHW), y_N)) - least
            if not math.isfinite(value):
                return model, "diverged", steps
            if value <= setup.stop_loss:
                return model, "fitted", steps
        high = high + 1 if mean >= step.COLLAPSE_LOSS * chance else 0
        if steps >= max_steps or high >= COLLAPSE_EPOCHS:
            return model, "collapsed" if high >= COLLAPSE_EPOCHS else "unfitted", steps
    raise AssertionError("an epoch has a step at least")


def core_share(setup, model):
    """Return the share of the attribution that lies on the core, on the first test images; None without masks."""
    paths = {region: setup.images.folder / f"test.{region}.npy" for region in ("core", "spurious")}
    if not all(path.is_file() for path in paths.values()):
        return None
    x_NCHW, y_N = (part[:CORE_IMAGES] for part in setup.tensors("test"))
    core, spurious = (torch.from_numpy(setup.images.array(p.name)[:CORE_IMAGES] * 1) > 0 for p in paths.values())
    return attribution.core_share(model, x_NCHW, y_N, core, spurious).core


class Book:
    """Make runs of settings and keep each as a line of a file; an unfitted one is measured too, but marked."""

    def __init__(self, setup, journal):
        self.setup, self.journal, self.rows = setup, journal, {}
        journal.parent.mkdir(parents=True, exist_ok=True)
        for line in journal.read_text().splitlines(keepends=True) if journal.is_file() else []:
            if line.endswith("\n"):
                row = json.loads(line)
                self.rows[row["name"]] = row

    def make(self, setting, seed, max_steps, splits):
        """Return the row of a run, measured on some splits."""
        key = f"{name(setting)}-s{seed}-{max_steps}-{'-'.join(splits)}"
        if key not in self.rows:
            model, status, steps = fit(self.setup, setting, seed, max_steps)
            row = {"name": key, "setting": setting, "seed": seed, "status": status, "steps": steps}
            if status in ("fitted", "unfitted"):
                row |= {split: runs.on_split(self.setup, model, split) for split in splits}
                row["core_share"] = core_share(self.setup, model) if "test" in splits else None
            self.rows[key] = row
            with self.journal.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{key}: {status} after {steps} steps", file=sys.stderr, flush=True)
        return self.rows[key]
