"""Push the metric to the Hub as a Space, which `evaluate.load` loads without this package."""

import tempfile
from pathlib import Path

from esg_transformers.evaluation import METRIC_PATH
from esg_transformers.hub import push_files

CARD = """\
---
title: {title}
sdk: static
license: apache-2.0
tags:
- evaluate
- metric
---

# {title}

Mean average precision of dense event localization at temporal overlaps of 0.1 to 0.9, by the rules of the UnAV and
ActivityNet evaluators.

```python
import evaluate

metric = evaluate.load("{repo_id}")
metric.compute(
    predictions=[[{{"start": 0.0, "end": 3.0, "label": "dog barking", "score": 0.9}}]],
    references=[[{{"start": 0.0, "end": 4.0, "label": "dog barking"}}]],
)["mAP@0.7"]  # 1.0
```

`predictions` and `references` hold one list of events per video, with times in seconds. The rules and all returned
values are described in `average_precision.py`.
"""


def push_metric(
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Push the metric to the Hub as a Space, in one commit; without a commit if the Space is up to date.

    Args:
        repo_id: `owner/name` of the Space; created if missing.
        private: create the Space as a private one; by default the owner's settings decide.
        revision: branch to push to, created from `main` if missing; `main` by default.
        create_pr: propose the push as a pull request to `main`.
        token: access token; by default that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        ValueError: if the Space holds something else than this metric.
        OSError: if the Hub cannot be reached or refuses; names the reason and what to do.
    """
    name = repo_id.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "README.md"
        card.write_text(CARD.format(title=name.replace("_", " ").capitalize(), repo_id=repo_id), encoding="utf-8")
        metric = Path(METRIC_PATH)
        files = {"README.md": card, "average_precision.py": metric / "average_precision.py"}
        files[f"{name}.py"] = metric / "event_localization_map.py"  # `evaluate` runs the file named as the Space
        return push_files(
            files,
            repo_id,
            repo_type="space",
            what="metric",
            marker="average_precision.py",
            owned="",
            private=private,
            revision=revision,
            create_pr=create_pr,
            token=token,
        )
