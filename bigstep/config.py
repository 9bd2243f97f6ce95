"""The configuration as values: a section for each stage, every setting with its range, default and help."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
GroupName = Annotated[str, Field(pattern=r"^(all|aligned|conflicting|[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*)$")]


FAMILIES = ("resnet18", "resnet50", "wide_resnet101_2", "swin_t", "mobilenet_v3_small", "mobilenet_v3_large")
NETWORK = rf"^(mlp|cnn|{'|'.join(FAMILIES)}|.+\.py:[A-Za-z_][A-Za-z0-9_]*)$"


STORAGE: Any = {"storage": True}  # marks a setting that says where or how much is stored, and decides no result


class Section(BaseModel):
    """A part of the configuration, which never changes and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlantConfig(Section):
    """A known bias that is planted into images, to rehearse."""

    kind: Literal["tint", "frame", "patch", "background", "corruption"] = Field(
        "tint", description="what gives the label away in training"
    )
    conflicting: Annotated[float, Field(ge=0.0, le=0.8)] = Field(
        0.05, description="share of training images whose planted attribute contradicts the label"
    )


class DataConfig(Section):
    """The images."""

    kind: Literal[
        "digits",
        "parity",
        "moon-star",
        "colored-mnist",
        "corrupted-cifar10",
        "mnist-cifar",
        "double-mnist",
        "folder",
        "waterbirds",
        "celeba",
        "cifar10",
        "cifar100",
        "imagenet",
        "lff",
        "dfa",
    ] = Field("digits", description="data set: digits is embedded, folder takes your own images; see docs/data.md")
    path: str | None = Field(
        None,
        description="folder or CSV file of the source images; default: the environment variable BIGSTEP_DATA",
        json_schema_extra=STORAGE,  # the files in it are what decides
    )
    seed: int = Field(0, ge=0, description="seed of splits, and of biases that bigstep makes")
    conflicting: Annotated[float, Field(ge=0.0, le=0.8)] = Field(
        0.05, description="share of training images whose bias contradicts the label, where bigstep makes the bias"
    )
    variant: str | None = Field(None, description="which form of a data set that has several; see docs/data.md")
    severity: Annotated[int, Field(ge=1, le=5)] = Field(
        4, description="colored-mnist, corrupted-cifar10: how strong the bias is, as their authors count it"
    )
    bias: tuple[str, ...] = Field((), description="columns of a CSV file that hold bias attributes")
    size_px: Count | None = Field(
        None, description="side of the square that images are scaled to; default: by data set"
    )
    fit: Literal["stretch", "crop"] = Field(
        "stretch", description="how an image becomes a square: stretch the whole, or crop its middle"
    )
    rebalance: bool = Field(
        False, description="make the test split unbiased: as many images in every label x bias cell"
    )
    plant: PlantConfig | None = Field(None, description="plant a bias: kind tint, frame, patch, background, corruption")


class TrainConfig(Section):
    """The network, and the learning rates to try."""

    network: Annotated[str, Field(pattern=NETWORK)] = Field(
        "mlp",
        description="mlp, cnn, resnet18, swin_t, ..., or your own path/to/net.py:function; see docs/networks.md",
    )
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        None, description="mlp, cnn: units or channels of every hidden layer; default: 256, 256, 256 and 32, 64, 128"
    )
    weights: str | None = Field(
        None,
        description="file of pretrained weights to start from, .safetensors, .pt or .pth; default: none",
        json_schema_extra=STORAGE,  # its content is what decides
    )
    batch_size: Count = Field(16, description="images per step")
    augmentation: Literal["none", "flip", "flip-shift"] = Field(
        "none", description="mirror training images at random; flip-shift also moves them by up to an eighth"
    )
    min_rate: Positive = Field(0.01, description="smallest learning rate of the logarithmic grid")
    max_rate: Positive = Field(1.0, description="largest learning rate of the grid; it should diverge")
    num_rates: Count = Field(9, description="number of rates in the grid")
    num_seeds: Count = Field(
        5, description="runs of a rate of the map, or of a promising one; the best gets up to three times as many"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.0, description="momentum of SGD; 0 is the reference")
    weight_decay: NotNegative = Field(0.0, description="L2: adds weight_decay * w to the gradient")
    l1: NotNegative = Field(0.0, description="L1: adds l1 * sign(w) to the gradient")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises linearly from 0")
    finish: Literal["none", "fine-tune", "average"] = Field(
        "none",
        description="how a run that has not fitted at the large rate spends the last quarter of its steps",
    )
    finish_rate: Positive | None = Field(None, description="rate of finish = fine-tune; default: min_rate")
    stop_loss: Positive = Field(0.005, description="stop a run when its mean cross entropy on train is at most this")
    max_steps: Count = Field(6000, description="step budget of one training; the search takes at most four times that")
    baseline_max_steps: Count = Field(20000, description="step budget of one run of a baseline")
    priority: Literal["robust", "small", "balanced"] = Field(
        "balanced", description="what the rate is chosen for: robust weighs robustness 0.8, small 0.2, balanced 0.5"
    )
    bias_labels: bool = Field(
        True,
        description="choose by the bias labels of validation, if there are any; false: by other signals",
    )
    baselines: bool = Field(True, description="train conventional recipes as well, to compare with")
    store_mb: Count = Field(256, description="how many megabytes of trial weights to keep", json_schema_extra=STORAGE)
    observe_steps: int = Field(
        0, ge=0, description="observe every run: losses and norms each epoch, sharpness every so many steps; 0: do not"
    )

    @model_validator(mode="after")
    def _widths_are_chosen(self) -> Self:
        if self.widths is not None and self.network not in ("mlp", "cnn"):
            raise ValueError(f"widths are for mlp and cnn; {self.network} has its own: leave them out")
        return self

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.num_rates > 1 and not self.min_rate < self.max_rate:
            raise ValueError(f"min_rate must be below max_rate, got {self.min_rate} and {self.max_rate}")
        if len(set(self.rates)) < self.num_rates:
            raise ValueError("num_rates is too many for this range: rates would be equal to four digits")
        if self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps must be below max_steps, got {self.warmup_steps} and {self.max_steps}")
        if self.finish_rate is not None and self.finish != "fine-tune":
            raise ValueError(f"finish_rate is for finish = fine-tune, got finish = {self.finish}: leave it out")
        if self.finish_rate is not None and self.finish_rate > max(self.rates):
            raise ValueError(f"finish_rate must be at most {max(self.rates)}, the largest rate, got {self.finish_rate}")
        if self.baseline_max_steps < self.max_steps:
            raise ValueError("baseline_max_steps must be at least max_steps: baselines get no smaller budget")
        return self

    @property
    def robust_weight(self) -> float:
        """Return the weight of robustness in the score; being small has the rest."""
        return {"robust": 0.8, "small": 0.2, "balanced": 0.5}[self.priority]

    @property
    def rates(self) -> list[float]:
        """Return the logarithmic grid of rates, rounded to four digits, smallest first."""
        steps = max(self.num_rates - 1, 1)
        ratio = self.max_rate / self.min_rate
        return [float(f"{self.min_rate * ratio ** (k / steps):.4g}") for k in range(self.num_rates)]


class CompressConfig(Section):
    """How far to prune, and what the search may cost any group."""

    keep_fractions: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (0.5, 0.25, 0.125, 0.08, 0.05),
        description="shares of the hidden units to keep, from large to small, tried in this order; none: INT8 alone",
    )
    margin: Fraction = Field(
        0.02,
        description="largest drop of a gated group that a step may cost (upper bound, validation); at most verify's",
    )
    fine_tune_steps: int = Field(6000, ge=0, description="step budget of the fine-tuning after each pruning step")
    calibration_images: Count = Field(256, description="training images that set the INT8 ranges")
    target_cpu: Literal["generic", "vnni"] = Field(
        "generic", description="vnni uses 8-bit weights; generic 7-bit ones, which older CPUs add without saturation"
    )

    @model_validator(mode="after")
    def _shares_shrink(self) -> Self:
        if list(self.keep_fractions) != sorted(set(self.keep_fractions), reverse=True):
            raise ValueError(f"keep_fractions must go from large to small, got {list(self.keep_fractions)}")
        return self


class ExportConfig(Section):
    """How the ONNX files are written and compared."""

    max_batch: Count = Field(64, description="largest batch of the comparison between forms")
    fp32_tolerance: Positive = Field(1e-4, description="largest difference of logits, PyTorch against ONNX float32")
    int8_agreement: Fraction = Field(0.97, description="smallest share of equal predictions, float32 against INT8")


class VerifyConfig(Section):
    """What the gate demands."""

    groups: Annotated[tuple[GroupName, ...], Field(min_length=1)] = Field(
        ("aligned", "conflicting"), description="gated groups: aligned, conflicting, or like label=3,colour=gold"
    )
    margin: Fraction = Field(0.03, description="largest drop of a group's accuracy against the dense float32 file")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="confidence of each one-sided bound")
    min_group: Count = Field(30, description="fewest independent images a gated group needs")
    floor: Fraction | None = Field(
        None, description="the lower bound of conflicting accuracy must exceed this; default: chance"
    )
    max_p99_ms: Positive | None = Field(
        None, description="budget, ms: 99th percentile of one image, on the machine that verifies; default: none"
    )
    min_images_per_s: Positive | None = Field(
        None, description="budget: images per second at the best batch, on the machine that verifies; default: none"
    )


class Config(Section):
    """The whole configuration of a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run folder")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to train; auto takes a GPU if there is one"
    )
    numerics: Literal["native", "portable"] = Field(
        "native",
        description="portable: the same bits of training on every x86-64 CPU with AVX2, at a price; see docs/faults.md",
    )
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    compress: CompressConfig = CompressConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()

    @model_validator(mode="after")
    def _network_takes_the_pixels(self) -> Self:
        if self.data.kind == "parity" and self.train.network in ("cnn", *FAMILIES):
            raise ValueError(
                "data.kind = parity has 34 unrelated pixels in a row, and no neighbours for convolutions or patches; "
                "set train.network = mlp"
            )
        return self


def storage_only(section: type[BaseModel]) -> frozenset[str]:
    """Return the names of the settings that only say where or how much is stored."""
    return frozenset(name for name, f in section.model_fields.items() if f.json_schema_extra == STORAGE)


def num_fields(section: type[BaseModel] = Config) -> int:
    """Count the leaves of the configuration."""
    kinds = [next(iter(get_args(f.annotation)), f.annotation) for f in section.model_fields.values()]
    nested = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
    return len(kinds) - len(nested) + sum(num_fields(k) for k in nested)
