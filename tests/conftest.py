"""Strict settings for the whole suite, made before jax starts: eight CPU devices, no silent
broadcasting between ranks, no key used twice."""

import os
import pathlib
import sys

import jaxlib

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for `import tiny`
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# Compilation dominates the suite. Without most optimisations it takes half the time; without the
# emitters that set up MLIR anew for each kernel, and with one LLVM module for each program, about a
# third of that. XLA aborts at a flag that it does not know; jaxlib 0.7.2 and 0.10.2 know these.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] += (
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if jaxlib.version.__version_info__ < (0, 11)
    else ""
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_code():
    """Compiled code piles up in a process; each module starts with none."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory):
    """What was compiled is found again by later modules and by the processes that tests start."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by the workers
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module")
def optimised():
    """Compiles with XLA's optimisations: for tests of bits or memory that one could change."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The directory that holds `mnist/`, from JAXAE_DATA_DIR; skips where there is none."""
    folder = os.environ.get("JAXAE_DATA_DIR")
    if not folder or not (pathlib.Path(folder) / "mnist").is_dir():
        pytest.skip("JAXAE_DATA_DIR does not name a directory with mnist/ in it")
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def compilations():
    """A call -> how many programs were compiled, or looked up among compiled ones, in it."""
    counted = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            counted.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
        )
    )

    def count(call) -> int:
        counted.clear()
        call()
        return len(counted)

    assert count(lambda: jax.jit(lambda x: x + 1)(1.0)) > 0
    return count
