"""What all tests share: their own cache of counts, one thread per worker, the golden option."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers that each start a thread per core spend their time waiting for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--refresh-golden", action="store_true", help="rewrite tests/golden from the code as it is"
    )


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps tests out of the user's cache; the workers of one run share theirs."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield
