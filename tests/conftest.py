"""What all unit tests share: reproducible draws, and no CUDA test without a device."""

import pytest
from hypothesis import settings

# The same examples in every run, so that a failure belongs to the change that met it; no
# deadline, since another process on the machine must not fail a test; and fewer examples than
# usual, since each property is tried for each rule. To dig deeper: --hypothesis-profile=default.
settings.register_profile("course", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("course")


# torch is imported where it is used: the process that shares out the tests needs none.


@pytest.fixture(autouse=True)
def seeded() -> None:
    import torch

    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none here")
