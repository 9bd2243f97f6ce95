"""The nineteen corruptions of CIFAR-10-C, re-implemented on numpy, scipy and Pillow.

Source: Hendrycks and Dietterich 2019, arXiv:1903.12261; constants of their release for 32x32 images
(hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py, commit ca36008), which LfF uses as well. ImageNet-C has
others. Lengths are pixels and are not scaled to larger images, but for those of the elastic transform.

The release needs Wand, OpenCV, scikit-image and photographs, and draws from an unseeded generator, so that its images
cannot be had again: figures measured on ours are those of a re-implementation. What is ours, and not of the release:

| corruption        | ours                                                                                        |
| ----------------- | ------------------------------------------------------------------------------------------- |
| all               | rounding to the nearest byte (the release cuts off); float64 throughout, no bytes in between |
| frost             | a drawn texture (`FROST_*`) for crops of six photographs                                       |
| motion_blur, snow | ImageMagick's kernel, computed here                                                          |
| spatter, 1 to 3   | the rim of a drop is the border of its mask (the release: Canny edges); exact distances      |
| elastic_transform | the border mirrors about its pixels' centres in both of its steps                            |
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bigstep.errors import DataError
from data.bias.filters import Floats, blurred, correlated, disk, dragged, plasma, resampled, zoomed

CHUNK = 1000  # images at a time: part of the recipe, since each chunk draws its random numbers in turn
LEVELS = 5
SMALLEST_PX = 8
TIE = 1e-7  # lifts exact halves and whole numbers, so that the last bit of a float decides nothing on any platform
WATER, MUD = (175, 238, 238), (63, 42, 20)
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
EMBOSS = np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
BOX = np.full((3, 3), 1.0 / 9.0)
FROST_DECAY, FROST_SHARPNESS, FROST_COLOUR = 1.3, 3.0, (0.80, 0.92, 1.0)  # ours
CONSTANTS: dict[str, tuple[tuple[float, ...], ...]] = {  # by corruption, for levels 1 to 5; all of the release
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),  # standard deviation
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),  # photons at white
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),  # share of values
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),  # standard deviation at white
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),  # sigma
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),  # radius, softness
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),  # sigma, reach, rounds
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),  # radius, sigma
    "zoom_blur": ((7,), (12,), (16,), (21,), (26,)),  # number of factors 1, 1.01, ...: the lengths of its aranges
    "snow": (  # mean, deviation, zoom, threshold, radius and sigma of the fall, weight of the picture
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # weights of picture and frost
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),  # density, decay of the plasma
    "spatter": (  # mean, deviation, sigma, threshold, strength of water or sigma of mud, and 1 if it is mud
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),  # added to the value of HSV
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),  # factor
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),  # factor and offset of the saturation
    "elastic_transform": (  # displacement, its sigma, and jitter of the corners, as shares of the side
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),  # factor
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),  # quality
}


def corrupt(images_NHWC: NDArray[np.uint8], name: str, level: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Corrupt images as CIFAR-10-C does; the same generator state gives the same bytes.

    JPEG and pixelate are Pillow's: their bytes belong to its version, and those of JPEG to its libjpeg.

    Args:
        images_NHWC: uint8 RGB, shape (N, H, W, 3), each side at least 8 px.
        name: a key of `CONSTANTS`.
        level: 1 to 5, the severity of CIFAR-10-C.

    Returns:
        uint8, the same shape.

    Raises:
        DataError: another name, level or kind of images.
    """
    if name not in CONSTANTS:
        raise DataError("no such corruption", got=name, expected=", ".join(CONSTANTS))
    if level not in range(1, LEVELS + 1):
        raise DataError(f"{name} has no such level", got=level, expected=f"1 to {LEVELS}")
    if images_NHWC.dtype != np.uint8 or images_NHWC.ndim != 4 or images_NHWC.shape[3] != 3:
        raise DataError(
            "only RGB images can be corrupted",
            got=f"{images_NHWC.dtype} of shape {images_NHWC.shape}",
            expected="uint8 of shape (N, H, W, 3)",
        )
    if min(images_NHWC.shape[1:3]) < SMALLEST_PX:
        raise DataError(
            "these images are too small to be corrupted",
            got="x".join(str(side) for side in images_NHWC.shape[1:3]),
            expected=f"{SMALLEST_PX} px a side",
        )
    out = np.empty_like(images_NHWC)
    for start in range(0, len(images_NHWC), CHUNK):
        some = slice(start, start + CHUNK)
        out[some] = _bytes(FUNCTIONS[name](images_NHWC[some] / 255.0, CONSTANTS[name][level - 1], rng))
    return out


def _bytes(x: Floats) -> NDArray[np.uint8]:
    return np.floor(np.clip(x, 0.0, 1.0) * 255.0 + (0.5 + TIE)).astype(np.uint8)


def _glass_blur(x: Floats, c: tuple[float, ...], rng: np.random.Generator) -> Floats:
    sigma, reach, rounds = c[0], int(c[1]), int(c[2])
    count, height, width, _ = x.shape
    pixels = np.ascontiguousarray(blurred(x, sigma).transpose(1, 2, 0, 3))
    image = np.arange(count)
    for _ in range(rounds):
        moves = rng.integers(-reach, reach, (2, height, width, count))
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, right = moves[:, row, column]
                # A copy of the neighbour: the release means to swap the two, but overwrites the one it reads last.
                pixels[row, column] = pixels[row + down, column + right, image]
    return blurred(pixels.transpose(2, 0, 1, 3), sigma)


def _zoom_blur(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    total = x.copy()
    for step in range(int(c[0])):
        total += zoomed(x, 1.0 + step / 100.0)
    return total / (c[0] + 1.0)


def _snow(x: Floats, c: tuple[float, ...], rng: np.random.Generator) -> Floats:
    flakes = zoomed(rng.normal(c[0], c[1], (*x.shape[:3], 1)), c[2])
    flakes = np.where(flakes < c[3], 0.0, np.minimum(flakes, 1.0))
    flakes = dragged(flakes, int(c[4]), c[5], np.deg2rad(rng.uniform(-135.0, -45.0, len(x))))
    whiter = np.maximum(x, (x @ np.array(GREY))[..., None] * 1.5 + 0.5)
    snowy: Floats = c[6] * x + (1.0 - c[6]) * whiter + flakes + flakes[:, ::-1, ::-1]
    return snowy


def _fog(x: Floats, c: tuple[float, ...], rng: np.random.Generator) -> Floats:
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    hazy: Floats = (x + c[0] * plasma(x.shape[:3], c[1], rng)[..., None]) * brightest / (brightest + c[0])
    return hazy


def _spatter(x: Floats, c: tuple[float, ...], rng: np.random.Generator) -> Floats:
    liquid = blurred(rng.normal(c[0], c[1], (*x.shape[:3], 1)), c[2])
    wet = liquid > c[3]
    if c[5]:
        mud = blurred(wet.astype(np.float64), c[4])
        mud = np.where(mud < 0.8, 0.0, mud)
        return x * (1.0 - mud) + mud * (np.array(MUD) / 255.0)
    water = np.where(wet, liquid, 0.0) * _relief(wet[..., 0])
    deepest = water.max(axis=(1, 2), keepdims=True)
    return x + c[4] * water / np.where(deepest > 0.0, deepest, 1.0) * (np.array(WATER) / 255.0)


def _brightness(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    value = x.max(axis=3, keepdims=True)
    brighter = np.minimum(value + c[0], 1.0)
    light: Floats = np.where(value > 0.0, x / np.where(value > 0.0, value, 1.0) * brighter, brighter)
    return light


def _contrast(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    mean = x.mean(axis=(1, 2), keepdims=True)
    flat: Floats = (x - mean) * c[0] + mean
    return flat


def _saturate(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    value = x.max(axis=3, keepdims=True)
    chroma = value - x.min(axis=3, keepdims=True)
    saturation = chroma / np.where(value > 0.0, value, 1.0)
    # Grey has hue 0 in HSV, which is red: an offset turns it reddish, as in the release.
    towards = np.where(chroma > 0.0, (value - x) / np.where(chroma > 0.0, chroma, 1.0), np.array([0.0, 1.0, 1.0]))
    vivid: Floats = value * (1.0 - np.clip(saturation * c[0] + c[1], 0.0, 1.0) * towards)
    return vivid


def _elastic_transform(x: Floats, c: tuple[float, ...], rng: np.random.Generator) -> Floats:
    count, height, width, _ = x.shape
    side = min(height, width)
    middle, arm = np.array([height // 2, width // 2]), side // 3
    before = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    after = before + rng.uniform(-c[2] * side, c[2] * side, (count, 3, 2))
    back = np.linalg.solve(np.concatenate([after, np.ones((count, 3, 1))], axis=2), before[None].astype(np.float64))
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1).astype(np.float64)
    places = grid @ back[:, None, :2] + back[:, None, 2:]
    bent = resampled(x, places[..., 0], places[..., 1])
    moves = rng.uniform(-1.0, 1.0, (2, count, height, width))
    moves = c[0] * side * ndimage.gaussian_filter(moves, c[1] * side, mode="reflect", truncate=3.0, axes=(2, 3))
    return resampled(bent, grid[..., 0] + moves[0], grid[..., 1] + moves[1])


def _pixelate(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    height, width = x.shape[1:3]
    small = (int(width * c[0]), int(height * c[0]))
    box = Image.Resampling.BOX
    return _each(x, lambda picture: picture.resize(small, box).resize((width, height), box))


def _jpeg_compression(x: Floats, c: tuple[float, ...], _: np.random.Generator) -> Floats:
    def squeezed(picture: Image.Image) -> Image.Image:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=int(c[0]))
        return Image.open(buffer)

    return _each(x, squeezed)


def _each(x: Floats, change: Callable[[Image.Image], Image.Image]) -> Floats:
    """Change every image with Pillow, which works on bytes."""
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in _bytes(x)]) / 255.0


def _ice(shape_NHW: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """Draw frost, a texture of ours: bright ridges where a rough plasma crosses its middle height.

    Returns:
        Shape (N, H, W, 3), in [0, 1].
    """
    rough = plasma(shape_NHW, FROST_DECAY, rng)
    ridges = (1.0 - np.abs(2.0 * rough - 1.0)) ** FROST_SHARPNESS
    ice: Floats = ridges[..., None] * np.array(FROST_COLOUR)
    return ice


def _relief(wet_NHW: NDArray[np.bool_]) -> Floats:
    """Return how brightly each pixel of a drop of water shines, by its distance from the rim: shape (N, H, W, 1)."""
    height, width = wet_NHW.shape[1:]
    rim = wet_NHW & ~ndimage.binary_erosion(wet_NHW, np.ones((1, 3, 3), dtype=np.bool_), border_value=1)
    distance = np.stack([ndimage.distance_transform_edt(~drop) for drop in rim])
    depth = np.floor(correlated(np.minimum(distance, 20.0)[..., None], BOX)[..., 0] + TIE).astype(np.int64)
    image = np.arange(len(depth))[:, None, None]
    counts = np.bincount((image * 21 + depth).ravel(), minlength=21 * len(depth)).reshape(-1, 21)
    below = counts.cumsum(axis=1)
    lowest = np.take_along_axis(counts, (counts > 0).argmax(axis=1)[:, None], axis=1)
    equalised = np.rint((below - lowest) / np.maximum(height * width - lowest, 1) * 255.0)
    shine = np.clip(correlated(equalised[image, depth][..., None], EMBOSS), 0.0, 255.0)
    return correlated(shine, BOX)


FUNCTIONS: dict[str, Callable[[Floats, tuple[float, ...], np.random.Generator], Floats]] = {
    "gaussian_noise": lambda x, c, rng: x + rng.normal(0.0, c[0], x.shape),
    "shot_noise": lambda x, c, rng: rng.poisson(x * c[0]) / c[0],
    "impulse_noise": lambda x, c, rng: np.where(rng.random(x.shape) < c[0], rng.integers(0, 2, x.shape), x),
    "speckle_noise": lambda x, c, rng: x + x * rng.normal(0.0, c[0], x.shape),
    "gaussian_blur": lambda x, c, _: blurred(x, c[0]),
    "defocus_blur": lambda x, c, _: correlated(x, disk(c[0], c[1])),
    "glass_blur": _glass_blur,
    "motion_blur": lambda x, c, rng: dragged(x, int(c[0]), c[1], np.deg2rad(rng.uniform(-45.0, 45.0, len(x)))),
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": lambda x, c, rng: c[0] * x + c[1] * _ice(x.shape[:3], rng),
    "fog": _fog,
    "spatter": _spatter,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
