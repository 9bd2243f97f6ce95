"""Ten evenly spaced hues and their names: what bigstep gives labels away with where a bias is a colour."""

import colorsys

import numpy as np

HUES = ("red", "orange", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "magenta")
COLOURS = np.array([colorsys.hsv_to_rgb(position / len(HUES), 1.0, 1.0) for position in range(len(HUES))])
