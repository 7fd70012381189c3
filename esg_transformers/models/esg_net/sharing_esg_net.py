"""Code on the Hub: a push also uploads the modules that define a class.

`save_pretrained` writes weights and JSON only. A pushed repository also holds the code, which `auto_map` and
`custom_pipelines` name, so that transformers loads it with `trust_remote_code=True` where this package is not
installed.
"""

import json
import os
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedConfig
from transformers.utils.hub import PushToHubMixin

TASK = "audio-visual-event-localization"
PIPELINE = "pipeline_esg_net.EsgNetPipeline"
# Imports from a sibling, and from another module of the package that is pushed as well.
TRAVELLING_IMPORT = re.compile(r"^from (\.|esg_transformers\.(?:\w+\.)*)(\w+) import ", flags=re.MULTILINE)


class CodeOnPush(PushToHubMixin):
    """Mixin for configurations, models and processors: a push also uploads their code.

    `auto_class` is the Auto class that loads the class, `task` the pipeline task of a model that has one. The mixin
    comes after transformers' own base class, which transformers' common tests expect first. Its upload method still
    comes before that of `PushToHubMixin`, from which both derive.
    """

    auto_class: ClassVar[str]
    task: ClassVar[str | None] = None

    # transformers uploads every push through this method, `save_pretrained(push_to_hub=True)` included.
    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        add_code(self, working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


class ConfigWithCodeOnPush(CodeOnPush, PreTrainedConfig):
    """A configuration whose push also uploads its code."""

    auto_class = "AutoConfig"

    def __post_init__(self, **kwargs: Any) -> None:
        # The package loads its own classes, so it saves no code. Code that came from the Hub is saved by transformers.
        if not __name__.startswith("transformers_modules."):
            kwargs.pop("auto_map", None)
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)


def add_code(part: CodeOnPush, folder: str | os.PathLike[str]) -> None:
    """Add the code of a configuration, model or processor to the folder that it was saved to.

    Args:
        part: the object; for a model, the code of its configuration and pipeline is added too.
        folder: the folder; its JSON file gets `auto_map` and, for a model with a task, `custom_pipelines`. A folder
            without this file, such as that of an adapter, stays as it is.
    """
    path = Path(folder) / ("processor_config.json" if part.auto_class == "AutoProcessor" else "config.json")
    if not path.is_file():
        return
    classes = {part.auto_class: type(part)}
    if isinstance(config := getattr(part, "config", None), CodeOnPush):
        classes[config.auto_class] = type(config)
    names = {auto_class: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for auto_class, cls in classes.items()}
    content = json.loads(path.read_text(encoding="utf-8"))
    content["auto_map"] = content.get("auto_map", {}) | names
    modules = [Path(str(sys.modules[cls.__module__].__file__)) for cls in classes.values()]
    pipeline = Path(__file__).with_name(f"{PIPELINE.partition('.')[0]}.py")
    if part.task is not None and pipeline.is_file():  # code from the Hub may have been loaded without its pipeline
        content["custom_pipelines"] = {part.task: {"impl": PIPELINE, "pt": ["AutoModel"], "type": "multimodal"}}
        modules.append(pipeline)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name, code in code_of(modules).items():
        (Path(folder) / name).write_text(code, encoding="utf-8")


def code_of(modules: Iterable[Path]) -> dict[str, str]:
    """The code of modules, and of those of this package that they import, by file name.

    The files of a repository lie side by side: `from esg_transformers.models.esg_net.x import` becomes
    `from .x import`.
    """
    files: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        path = waiting.pop()
        if path.name in files:
            continue
        code = path.read_text(encoding="utf-8")
        files[path.name] = TRAVELLING_IMPORT.sub(r"from .\2 import ", code)
        for package, name in TRAVELLING_IMPORT.findall(code):
            spec = None if package == "." else find_spec(f"{package}{name}")
            waiting.append(path.with_name(f"{name}.py") if spec is None else Path(str(spec.origin)))
    return files
