"""Build a repository for the Hub from weights, a folder of hub_configs and the model's code; `--push` sends it there.

    python conversion/build_hub_repo.py OUTPUT hub_configs/esg-net-tiny-workshop build/esg-net-tiny-workshop
    python conversion/build_hub_repo.py OUTPUT hub_configs/NAME build/NAME --float16 --push OWNER/NAME --private

OUTPUT is a folder that `from_pretrained` loads, written by a training run or a conversion script. `--weights` takes the
last checkpoint of a training run instead of its best epoch.

The repository holds the weights as safetensors, the config, processor and model card of the hub_configs folder, and the
code that `auto_map` names, so that it loads with `trust_remote_code=True` where this package is not installed; with the
package none of that code is run. Two fresh processes, one without the package and one with it, load the repository and
predict; their results must agree bit for bit. `SHA256SUMS` is for `sha256sum --check`. A push makes one commit, or none
if nothing changed; files that only an earlier push holds are deleted in the same commit.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convert_esg_net_to_hf import convert, description_of, read_weights
from huggingface_hub.errors import StrictDataclassError
from model_folders import check_tensors, load_afresh
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, PreTrainedModel

import esg_transformers
from esg_transformers.files import new_folder, sha256_of
from esg_transformers.hub import push_files
from esg_transformers.models.esg_net.sharing_esg_net import code_of

SUMS = "SHA256SUMS"
CHOSEN_FIELDS = ("thresholds", "window_steps")  # chosen in training or after it; published as found with the weights
# Fields in which the weights and the hub_configs folder of one model may differ.
FREE_FIELDS = {
    "_name_or_path",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "auto_map",
    "custom_pipelines",
    "processor_class",
    *CHOSEN_FIELDS,
}
# Files of a repository that belong to a push, beside those that it sends.
OWNED = r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|[a-z]+_(esg_net|unav|i3d|vggish)\.py"
PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".tar"}


def build(weights: Path, hub_config: Path, output: Path, *, half: bool = False, max_shard_size: str = "5GB") -> None:
    """Build and check a repository.

    Args:
        weights: a folder that `from_pretrained` loads.
        hub_config: folder with config.json, processor_config.json, README.md and any other files of the repository.
        output: the new folder; it appears when it is complete and checked.
        half: save the weights in float16.
        max_shard_size: maximum size of a file of weights; larger ones are split.

    Raises:
        FileNotFoundError: if a folder lacks a file.
        FileExistsError: if `output` exists.
        ValueError: naming the differences between the two folders, or the parts that cannot be loaded or published.
    """
    check_folders(weights, hub_config)
    model = load_model(weights, "float16" if half else "auto")
    with new_folder(output) as partial:
        write_repository(model, weights, hub_config, partial, max_shard_size)
        check_repository(partial, model)


def check_folders(weights: Path, hub_config: Path) -> None:
    """Refuse folders that lack a file, or that are of two models; errors are those of `build`."""
    if not (weights / "config.json").is_file():
        raise FileNotFoundError(
            f"There is no config.json in {weights}. Give a folder that `from_pretrained` loads; the other scripts "
            "beside this one make such a folder from a checkpoint."
        )
    if not all((hub_config / name).is_file() for name in ("config.json", "README.md")):
        raise FileNotFoundError(f"{hub_config} lacks config.json or README.md. Give a folder of hub_configs.")
    check_same(weights, hub_config, "config.json")
    if (weights / "processor_config.json").is_file():
        check_same(weights, hub_config, "processor_config.json")


def load_model(weights: Path, dtype: str) -> PreTrainedModel:
    """Load a model from safetensors, without running code in its folder.

    Raises:
        ValueError: if the weights are broken or do not fit the config.
    """
    try:
        model, loading = AutoModel.from_pretrained(
            weights,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise ValueError(f"The weights in {weights} are broken: {error}. Copy or convert them again.") from error
    if problems := [f"{kind} {name}" for kind, names in loading.items() for name in names]:
        raise ValueError(f"The weights in {weights} do not fit its config.json: {', '.join(problems)}.")
    loaded: PreTrainedModel = model
    return loaded


def write_repository(
    model: PreTrainedModel, weights: Path, hub_config: Path, folder: Path, max_shard_size: str
) -> None:
    """Write the files of a repository; errors are those of `build`."""
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    written = read_json(folder / "config.json")
    shutil.copytree(hub_config, folder, dirs_exist_ok=True)
    config = read_json(hub_config / "config.json") | {name: written[name] for name in ("dtype", "transformers_version")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (weights / "processor_config.json").is_file():
        given = read_json(weights / "processor_config.json")
        chosen = {name: given[name] for name in CHOSEN_FIELDS if given.get(name) is not None}
        processor = read_json(folder / "processor_config.json") | chosen
        text = json.dumps(processor, indent=2, sort_keys=True) + "\n"
        (folder / "processor_config.json").write_text(text, encoding="utf-8")
    for name, code in travelling_code(hub_config).items():
        (folder / name).write_text(code, encoding="utf-8")
    if pickles := sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLES):
        raise ValueError(f"{hub_config} holds {', '.join(pickles)}; weights are published as safetensors only.")
    write_sums(folder)


def check_repository(folder: Path, model: PreTrainedModel) -> None:
    """Load a repository in two fresh processes, with the package and without, and compare tensors and predictions.

    Raises:
        ValueError: naming the tensors or predictions that differ.
    """
    with ThreadPoolExecutor() as executor:
        (alone, predicted), (installed, expected) = executor.map(
            lambda with_package: load_afresh(folder, with_package=with_package), (False, True)
        )
    for loaded in (alone, installed):
        check_tensors(loaded, model.state_dict())
    if differing := sorted(name for name in expected if predicted.get(name) != expected[name]):
        raise ValueError(f"With and without the package the predictions differ in {', '.join(differing)}.")


def check_same(weights: Path, hub_config: Path, name: str) -> None:
    """Compare a JSON file of two folders, ignoring `FREE_FIELDS`.

    Raises:
        ValueError: naming the fields that differ.
    """
    ours, theirs = fields_of(weights / name), fields_of(hub_config / name)
    differing = [field for field in sorted(ours.keys() | theirs.keys()) if ours.get(field) != theirs.get(field)]
    if differing:
        listed = "; ".join(f"{field} is {ours.get(field)!r:.200} and {theirs.get(field)!r:.200}" for field in differing)
        raise ValueError(f"{weights / name} and {hub_config / name} are not of one model: {listed}.")


def fields_of(path: Path) -> dict[str, Any]:
    """Fields of a JSON file of a model, without `FREE_FIELDS`; a configuration with the defaults of absent fields."""
    content = read_json(path)
    if path.name == "config.json":
        content = AutoConfig.from_pretrained(path.parent, trust_remote_code=False).to_dict() | {
            "architectures": content.get("architectures")
        }
    return {name: value for name, value in content.items() if name not in FREE_FIELDS}


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file that holds an object.

    Raises:
        ValueError: if it is not JSON or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object.")
    return content


def travelling_code(hub_config: Path) -> dict[str, str]:
    """Code of the modules named in `auto_map` and `custom_pipelines`, and of those they import, by file name.

    Raises:
        ValueError: if no module is named, or one that cannot be pushed to the Hub.
    """
    package = Path(esg_transformers.__file__).parent
    sources = {path.stem: path for kind in ("models", "encoders") for path in package.glob(f"{kind}/*/[a-z]*_*.py")}
    modules = [name.rpartition(".")[0] for name in classes_named(hub_config)]
    if not modules:
        raise ValueError(f"{hub_config / 'config.json'} has no `auto_map`, which names the model's code.")
    if unknown := [module for module in modules if module not in sources]:
        raise ValueError(f"{unknown[0]}.py cannot travel to the Hub: it is none of {', '.join(sorted(sources))}.")
    return code_of([sources[module] for module in modules])


def classes_named(hub_config: Path) -> list[str]:
    """Classes named in `auto_map` and `custom_pipelines` of a folder's JSON files, as `module.Class`."""

    def names(value: Any) -> Iterable[str]:
        return [value] if isinstance(value, str) else [name for name in value or () if name]

    named: list[str] = []
    for path in hub_config.glob("*config.json"):
        content = read_json(path)
        for value in content.get("auto_map", {}).values():
            named += names(value)
        named += [pipeline["impl"] for pipeline in (content.get("custom_pipelines") or {}).values()]
    return named


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS`: digests in the format of `sha256sum`, each after a comment with the size of the file."""
    lines = [
        f"# {path.stat().st_size} bytes\n{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def push(folder: Path, repo_id: str, **options: Any) -> str:
    """Push a folder made by `build` to the Hub; options and errors are those of `push_files`.

    Returns:
        The URL of the commit, or of the pull request.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return push_files(files, repo_id, repo_type="model", what="built model", marker=SUMS, owned=OWNED, **options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 on success and 1 after an error, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights_dir", type=Path, help="a folder that from_pretrained loads")
    parser.add_argument("hub_config_dir", type=Path, help="a folder of hub_configs")
    parser.add_argument("output", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--float16", action="store_true", help="weights in half precision")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="maximum file size (default: 5GB)")
    parser.add_argument(
        "--weights",
        choices=("average", "model"),
        help="weights of a training run's last checkpoint: averaged, or as trained",
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="send the folder to this repository on the Hub")
    parser.add_argument("--private", action="store_true", help="create the repository as private")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="branch to push to; created if missing")
    where.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")
    options = parser.parse_args(arguments)
    if not options.push and (options.private or options.revision or options.create_pr):
        parser.error("--private, --revision and --create-pr go with --push")
    if not re.fullmatch(r"[1-9]\d*([KMGT]I?)?B", options.max_shard_size.upper()):
        parser.error(f"--max-shard-size is {options.max_shard_size!r}; give a size such as 500MB")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            weights = options.weights_dir
            if options.weights:
                weights = Path(scratch) / "model"
                checkpoint = read_weights(options.weights_dir, averaged=options.weights == "average")
                convert(checkpoint, weights, *description_of(options.weights_dir))
            sizes = {"half": options.float16, "max_shard_size": options.max_shard_size}
            build(weights, options.hub_config_dir, options.output, **sizes)
        sys.stdout.write(f"Wrote {options.output}: it loads and predicts with and without the package.\n")
        if options.push:
            place = {"revision": options.revision, "create_pr": options.create_pr}
            url = push(options.output, options.push, private=options.private or None, **place)
            sys.stdout.write(f"{options.output} is at {url}\n")
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
