"""No test touches the network, or the caches of whoever runs it: set before the libraries that read it are imported."""

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="esg-transformers-tests-")  # removed when the interpreter ends
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    HF_HOME=_home.name,
    HF_HUB_CACHE=f"{_home.name}/hub",
    HF_DATASETS_CACHE=f"{_home.name}/datasets",
    HF_EVALUATE_CACHE=f"{_home.name}/evaluate",
    HF_MODULES_CACHE=f"{_home.name}/modules",
    MPLBACKEND="agg",
    # The tensors of tests are small: threads that wait for each other cost far more than they save on a busy machine.
    OMP_NUM_THREADS="1",
)
