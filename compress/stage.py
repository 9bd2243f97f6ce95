"""Make the chosen network small without hurting a group: the public door of this folder."""

import logging
from pathlib import Path

from bigstep.config import CompressConfig
from bigstep.records.compact import Compact, CompactInfo
from bigstep.records.exported import Contract
from bigstep.records.images import Images
from bigstep.records.measured import note_instructions
from bigstep.records.sealed import WORK
from bigstep.records.trained import Trained
from bigstep.rules import Demands
from compress.search import Network, Shipped, Workshop, search
from train.finish import Finish
from train.networks.build import load_weights, save_weights
from train.networks.predict import one_thread

log = logging.getLogger("bigstep.compress.baselines")


def run(
    config: CompressConfig, images: Images, trained: Trained, *, demands: Demands, device: str, out: Path
) -> Compact:
    """Search for the smallest network, then send the baselines down the same road.

    A baseline is pruned through the same widths, fine-tuned as it was trained for the same number of steps, and stored
    in the same form. It is not searched for: the question is what the same compression does to it.

    Args:
        config: the section `compress` of the configuration.
        images: training images fine-tune and calibrate, `validation` judges; test is not read.
        trained: the chosen network and the baselines.
        demands: what the gate will ask of the file: nothing is kept that does not pass it on `validation`.
        device: `cpu` or `cuda`, for fine-tuning.
        out: an empty folder.

    Raises:
        TrainError: stored weights are not finite.
        CompressError: the dense file returns logits that are not finite.
    """
    note_instructions(out)
    folder = out / WORK
    folder.mkdir(exist_ok=True)
    contract = Contract(input=images.info.input, labels=images.info.labels)
    info = trained.info
    shop = Workshop(
        config, demands, images, contract, device, folder, info.batch_size, info.stop_loss, info.augmentation
    )
    with one_thread():
        best, frontier = search(shop, _network(trained, info.chosen))
        baselines = _baselines(shop, trained, [candidate.widths for candidate in frontier if candidate.kept], best)
    for shipped in (best, *baselines):
        save_weights(shipped.network.model, out / f"{shipped.model.name}.safetensors")
    models = [shipped.model for shipped in baselines]
    found = CompactInfo(source=info.chosen, model=best.model, frontier=frontier, baselines=models)
    return Compact.seal(out, found)


def _network(trained: Trained, name: str) -> Network:
    trial = trained.info.trial(name)
    model = load_weights(trained.info.architecture, trained.weights(name))
    finish = Finish(trial.finish, trial.finish_rate or 0.0)
    return Network(model, trained.info.architecture, trial.recipe, trial.seed, finish)


def _baselines(shop: Workshop, trained: Trained, kept: list[dict[str, int]], best: Shipped) -> list[Shipped]:
    """Compress every baseline that is another network than the chosen one, in the form of the shipped file."""
    others = [b for b in trained.info.baselines if b.trial not in (None, trained.info.chosen)]
    done: list[Shipped] = []
    for position, baseline in enumerate(others, start=1):
        assert baseline.trial is not None
        network: Network | None = _network(trained, baseline.trial)
        for widths in kept:
            if network is not None and widths != network.architecture.widths:
                network = shop.shrink(network, widths)
        if network is None:
            log.warning("%s cannot be compressed: its fine-tuning diverges", baseline.name)
            continue
        int8 = best.model.quantisation is not None
        done.append(Shipped(network, shop.write(network, "baseline", int8=int8, name=baseline.name)[1]))
        log.info("%s", baseline.name, extra={"done": position, "total": len(others)})
    return done
