"""One reader of the machine's memory, which data and training use, sees a container's limit."""

import jax
import numpy as np
import pytest
import tiny

from jaxae import memory
from jaxae.data import DataError, Options
from jaxae.data.source import check_memory as check_images
from jaxae.training.memory import check_memory as check_plan
from jaxae.training.parallel import DeviceError

DATA = tiny.images()


@pytest.fixture
def limit(tmp_path, monkeypatch):
    """Writes the limit of a container."""
    path = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(tmp_path / "absent"), str(path)))
    return path.write_text


class Images:
    """4 GiB of images that are not in memory."""

    shape, dtype = (2**20, 64, 64, 1), np.dtype(np.uint8)


def test_the_memory_of_this_machine(limit):
    whole = memory.host_memory()
    assert 2**28 < whole < 2**50
    limit("max\n")  # version 2 of cgroups: no limit
    assert memory.host_memory() == whole
    limit(f"{2**63 - 4096}\n")  # version 1: no limit
    assert memory.host_memory() == whole
    limit("4096\n")
    assert memory.host_memory() == 4096


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="limits of the host count on a CPU")
def test_data_and_training_refuse_what_a_container_cannot_hold(limit):
    model, options = tiny.toy(DATA), Options(resident_mib=2**13)
    limit(str(2**40))
    check_plan(model, DATA.train, tiny.plan())
    limit(str(2**20))
    with pytest.raises(DataError, match=r"need 4\.0 GiB of memory, there are 0\.0 GiB: lower"):
        check_images(Images(), options)
    limit(str(2**10))
    with pytest.raises(DeviceError, match="need more memory than"):
        check_plan(model, DATA.train, tiny.plan())
