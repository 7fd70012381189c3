"""Many video files, in one process or several: what cannot be localized is noted, and what is done is kept."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm
from transformers import pipeline
from transformers.utils import logging

from esg_transformers.corpora.video_folder import VIDEO_SUFFIXES, video_files
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.files import replacing, sha256_of
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.media.container import probe
from esg_transformers.workers import end_with_parent, ignoring_interrupts, spawn_context

logger = logging.get_logger(__name__)


def localize_files(
    model: str | os.PathLike,
    paths: Iterable[str | os.PathLike],
    output: str | os.PathLike | None = None,
    *,
    encoder: AudioVisualEncoder | None = None,
    num_workers: int = 0,
    on_result: Callable[[dict[str, Any]], Any] | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Find the events of many files; one that cannot be localized does not stop the others.

    With `output` every result is written as soon as it is there, one JSON object a line, in the order in which they
    come. The first line is `{"run": ...}`: the version of this package, the sha256 of the model and the settings. When
    a run ends early, even by `kill -9`, the next one with the same model and settings goes on with the files that
    are not in it, known by their names, and with those that failed.

    Args:
        model: folder of a trained model; `huggingface_hub.snapshot_download` gives that of one on the Hub.
        paths: video and sound files, and folders of them (`files_to_localize`).
        output: a JSON Lines file, to be made or to go on with; `.NAME.lock` beside it keeps a second run off.
        encoder: what the model was trained on, where it needs weights; by default what the model names.
        num_workers: processes, each with the model and one thread of its own; 0 localizes in this one. A script has
            to call this under `if __name__ == "__main__":`, as all of `multiprocessing`.
        on_result: called with every new result, before it is written.
        settings: of the pipeline: `threshold`, `top_k`, `merge_gap`, `min_duration`.

    Returns:
        A result for each file in the order of `paths`: `{"video": file name, "duration": seconds, "streams": those of
        "visual" and "audio" that the file has, "events": [{"start", "end", "label", "score"}, ...]}`, or
        `{"video": file name, "error": one line}`.

    Raises:
        FileNotFoundError: if a path, the model or the folder of `output` does not exist.
        ValueError: if `output` is of another run, two files differ in folder or suffix alone, or the model or a
            setting cannot be used.
        TypeError: if there is no such setting.
        OSError: if `output` cannot be written or another process is writing it, or the processes cannot be started.
    """
    if num_workers < 0:
        raise ValueError(f"`num_workers` must be at least 0; got {num_workers}.")
    videos = {video.name: video for video in files_to_localize(paths)}
    settings = {name: value for name, value in settings.items() if value is not None}
    localizer = _open_localizer(Path(model), settings, encoder)  # in any case: what is wrong is told before the work
    run = {
        "version": version("esg-transformers"),
        "model": _fingerprint(Path(model)),
        "encoder": str(localizer.chosen_encoder().feature_spec.encoder),
        **settings,
    }
    with _results_file(output, run, videos) as (results, write):
        missing = [video for name, video in videos.items() if name not in results]
        if num_workers:
            new = _localize_in_processes((Path(model), settings, encoder), missing, num_workers)
        else:
            new = (_result_of(localizer, video) for video in missing)
        with (
            closing(new),
            tqdm(
                total=len(videos),
                initial=len(results),
                desc="Localizing",
                unit=" videos",
                disable=len(videos) == 1,
            ) as progress,
        ):
            for result in new:
                if on_result is not None:
                    on_result(result)
                write(result)
                results[result["video"]] = result
                progress.update()
        return [results[name] for name in videos]


def files_to_localize(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The files among `paths`, and the video and sound files in the folders among them.

    Folders in folders are left; of files in one folder that differ in suffix alone, `video_files` takes one.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if two files have the same name but for the suffix, or a folder has no video or sound file.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}.")
        found = sorted(video_files(path).values()) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"{path} has no video or sound file in it ({', '.join(VIDEO_SUFFIXES)}).")
        for file in found:
            if file.stem in files:
                raise ValueError(
                    f"Events are told apart by the name of their file; {file.stem!r} is given more than once: "
                    f"{files[file.stem]} and {file}."
                )
            files[file.stem] = file
    return list(files.values())


def _open_localizer(
    model: Path, settings: Mapping[str, Any], encoder: AudioVisualEncoder | None
) -> AudioVisualEventLocalizationPipeline:
    if not model.is_dir():
        raise FileNotFoundError(
            f"No model folder at {model}. For one on the Hub, give what `huggingface_hub.snapshot_download` returns."
        )
    localizer = pipeline(TASK, model=str(model), encoder=encoder, **settings)
    localizer.chosen_encoder()  # refuses a model for features of another
    return localizer


def _fingerprint(model: Path) -> str:
    """One sha256 for a model folder: of its weights, and of the JSON files that say what it is."""
    files = sorted([*model.glob("*.json"), *model.glob("*.safetensors")])
    return hashlib.sha256("".join(f"{sha256_of(file)}  {file.name}\n" for file in files).encode()).hexdigest()


def _result_of(localizer: AudioVisualEventLocalizationPipeline, video: Path) -> dict[str, Any]:
    try:
        info = probe(video)
        events = localizer(video)
    except Exception as error:  # whatever is wrong with one file, the others go on
        logger.debug("The error was raised here:", exc_info=True)
        is_ours = isinstance(error, (ValueError, OSError))
        return _failure(video, str(error) if is_ours else f"{type(error).__name__}: {error}")
    streams = [name for name, there in (("visual", info.has_video), ("audio", info.has_audio)) if there]
    return {"video": video.name, "duration": info.duration, "streams": streams, "events": events}


def _failure(video: Path, error: str) -> dict[str, Any]:
    return {"video": video.name, "error": " ".join(error.split())}


def _localize_in_processes(
    of_localizer: tuple[Any, ...], videos: Sequence[Path], num_workers: int
) -> Generator[dict[str, Any], None, None]:
    """Results as they come; a worker that dies takes the file it was at with it, and another one takes its place."""
    context = spawn_context()
    waiting = deque(videos)
    workers: dict[Connection, tuple[BaseProcess, Path | None]] = {}  # None while a worker loads the model

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *of_localizer), daemon=True)
        with ignoring_interrupts():
            process.start()
        theirs.close()
        workers[ours] = process, None

    try:
        for _ in range(min(num_workers, len(videos))):
            start()
        while workers:
            ready = connection.wait(list(workers))
            for worker in [worker for worker in workers if worker in ready]:
                process, video = workers.pop(worker)
                try:
                    result = worker.recv()  # None when it is ready
                except (EOFError, OSError):
                    process.join()
                    cause = f"ended abruptly with exit code {process.exitcode} (-9 is most often want of memory)"
                    if video is None:
                        raise ChildProcessError(
                            f"A process that was to localize {cause}, before it began. Give a smaller `num_workers`; "
                            "what is done is kept."
                        ) from None
                    result = _failure(video, f"The process that localized it {cause}.")
                    if waiting:
                        start()
                else:
                    if waiting:
                        workers[worker] = process, waiting.popleft()
                        with suppress(OSError):  # if it has died since, `wait` tells
                            worker.send(workers[worker][1])
                    else:
                        worker.close()  # which ends it
                        process.join()
                if result is not None:
                    yield result
    finally:
        for process, _ in workers.values():
            process.terminate()  # whatever it is at
            process.join()


def _work(parent: Connection, model: Path, settings: Mapping[str, Any], encoder: AudioVisualEncoder | None) -> None:
    """Localize the files that come, one after another, until the parent closes the connection."""
    end_with_parent()
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # there is one bar, the parent's
    localizer = _open_localizer(model, settings, encoder)
    with suppress(EOFError, OSError):
        parent.send(None)
        while True:
            parent.send(_result_of(localizer, parent.recv()))


@contextmanager
def _results_file(
    output: str | os.PathLike | None, run: Mapping[str, Any], names: Collection[str]
) -> Iterator[tuple[dict[str, dict], Callable[[dict], Any]]]:
    """The results of `names` that a file has already, and what writes one more to it; nothing without a file."""
    if output is None:
        yield {}, lambda result: None
        return
    path = Path(output)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.")
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0).acquire()
    except Timeout as error:
        raise OSError(f"Another process is writing {path} at this moment. Wait until it is done.") from error
    with lock:
        header = json.dumps({"run": run}) + "\n"
        kept = _lines_to_keep(path, json.loads(header)["run"], names)
        with replacing(path) as file:  # the failures that are tried again and a torn last line go
            file.writelines([header, *kept.values()])
        with path.open("a", encoding="utf-8") as file:

            def write(result: dict[str, Any]) -> None:
                file.write(json.dumps(result, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield {name: json.loads(line) for name, line in kept.items() if name in names}, write


def _lines_to_keep(path: Path, run: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """The lines of an earlier run by file name, but those of files among `names` that failed.

    Raises:
        ValueError: if it is not a file of results, or its run had another model or other settings.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    refusal = f"{path} is not a result file to go on with: line {{}} is not what was written there. Give another file."
    *lines, _ = path.read_bytes().split(b"\n")  # what follows the last newline was torn off, or is nothing
    kept: dict[str, str] = {}
    for number, line in enumerate(lines or [b""], start=1):
        try:
            content = json.loads(line)
            if number == 1:
                earlier = dict(content["run"])
            elif "error" not in content or content["video"] not in names:
                kept[content["video"]] = line.decode() + "\n"
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(refusal.format(number)) from error
    differing = [
        f"{name} is {run.get(name, 'not given')} and was {earlier.get(name, 'not given')}"
        for name in sorted({*run, *earlier})
        if run.get(name) != earlier.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path} is of a run with another model or other settings: {'; '.join(differing)}. Go on with the same, or "
            "give another file."
        )
    return kept
