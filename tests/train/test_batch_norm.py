"""Running statistics of BatchNorm, measured anew."""

import torch
from torch import nn

from train import batch_norm


def test_renewed_statistics_are_those_of_all_images(monkeypatch):
    x_NCHW = torch.randn(21, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    model[1].eval()  # on purpose
    batch_norm.renew(model, x_NCHW)
    torch.testing.assert_close(model[0].running_mean, x_NCHW.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(model[0].running_var, x_NCHW.var(dim=(0, 2, 3)))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert model[0].momentum == 0.1
    monkeypatch.setattr(batch_norm, "BATCH", 10)  # 21 = 7 + 7 + 7, not 10 + 10 + 1
    batch_norm.renew(model, x_NCHW)
    torch.testing.assert_close(model[0].running_mean, x_NCHW.mean(dim=(0, 2, 3)))
    plain = nn.Linear(1, 1)
    assert batch_norm.renew(plain, torch.ones(4, 1)) is plain
