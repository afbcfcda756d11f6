"""What is worked out of a chunk's images once."""

import pytest
import torch

from lift3d_model.views import COARSE, Views


@pytest.mark.parametrize("size", [(8, 12), (9, 14), (3, 5)])
def test_a_pixels_coarse_colour_is_the_mean_of_its_cell(size: tuple[int, int]) -> None:
    height, width = size
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    one = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    views = Views(images, one, torch.eye(4, dtype=torch.float64).expand(2, 4, 4), torch.tensor([size, size]))
    small, cells = views.coarse
    for y in range(height):
        for x in range(width):
            top, left = y // COARSE * COARSE, x // COARSE * COARSE
            expected = images[:, :, top : top + COARSE, left : left + COARSE].mean((2, 3))
            torch.testing.assert_close(small.flatten(2)[:, :, cells[y * width + x]], expected)
