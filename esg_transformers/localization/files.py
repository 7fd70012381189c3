"""Localize many files, in parallel and resumably: failures are recorded, finished results are kept."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.corpora.video_folder import VIDEO_SUFFIXES, video_files
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.files import sha256_of
from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline, open_localizer
from esg_transformers.localization.results import results_file
from esg_transformers.localization.trace import check_traceable
from esg_transformers.workers import end_with_parent, ignoring_interrupts, spawn_context

logger = logging.get_logger(__name__)

DETAILS = ("trace", "waveform")  # fields of `LocalizedVideo` that results do not keep


def localize_files(
    model: str | os.PathLike[str] | AudioVisualEventLocalizationPipeline,
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    encoder: AudioVisualEncoder | None = None,
    num_workers: int = 0,
    on_result: Callable[[dict[str, Any]], Any] | None = None,
    details: Collection[str] = (),
    **settings: Any,
) -> list[dict[str, Any]]:
    """Find the events of many files; a file that cannot be localized does not stop the others.

    With `output`, every result is written as soon as it is ready, one JSON object per line, in the order of
    completion. The first line is `{"run": ...}`: the version of this package, the SHA-256 of the model, and the
    settings. Interrupted, even by `kill -9`? Call it again with the same model and settings: finished files, known by
    their names, are skipped; failed ones are tried again.

    Args:
        model: folder of a trained model (`huggingface_hub.snapshot_download` gives that of one on the Hub), or an open
            pipeline. Workers load the folder of an open pipeline anew.
        paths: video and sound files, and folders of them (see `files_to_localize`).
        output: a JSON Lines file, to create or to complete; `.NAME.lock` beside it keeps a second run out.
        encoder: the encoder that the model was trained on; by default the one that the model names. An open pipeline
            has its own.
        num_workers: worker processes, each with the model and one thread; 0 localizes in this process. A script must
            call this under `if __name__ == "__main__":`, as everything that uses `multiprocessing`.
        on_result: called with every new result, before it is written.
        details: of "trace" and "waveform" (see `LocalizedVideo`), those that `on_result` gets with each result, under
            these names. They are neither written nor returned.
        settings: settings of the pipeline: `threshold`, `top_k`, `merge_gap`, `min_duration`.

    Returns:
        A result for each file in the order of `paths`: `{"video": file name, "duration": seconds, "streams": those of
        "visual" and "audio" that the file has, "events": [{"start", "end", "label", "score"}, ...]}`, or
        `{"video": file name, "error": one line}`.

    Raises:
        FileNotFoundError: if a path, the model or the folder of `output` does not exist.
        ValueError: if `output` is of another run, two files differ in folder or suffix alone, or the model, a setting
            or a detail cannot be used.
        TypeError: if there is no such setting.
        OSError: if `output` cannot be written or another process is writing it, or the processes cannot be started.
    """
    if num_workers < 0:
        raise ValueError(f"`num_workers` must be at least 0; got {num_workers}.")
    videos = {video.name: video for video in files_to_localize(paths)}
    job = _Job.of(model, encoder, details, settings)
    localizer = job.open() if not isinstance(model, AudioVisualEventLocalizationPipeline) else model
    job.check(localizer)  # even with workers, so that errors surface before any work
    run = {
        "version": version("esg-transformers"),
        "model": _fingerprint(job.model),
        "encoder": str(localizer.chosen_encoder().feature_spec.encoder),
        **job.settings,
    }
    with results_file(output, run, videos) as (results, write):
        missing = [video for name, video in videos.items() if name not in results]
        if num_workers:
            new = _localize_in_processes(job, missing, num_workers)
        else:
            new = (job.result_of(localizer, video) for video in missing)
        total, done = len(videos), len(results)
        bar = tqdm(total=total, initial=done, desc="Localizing", unit=" videos", disable=total == 1)
        with closing(new), bar as progress:
            for result in new:
                if on_result is not None:
                    on_result(result)
                result = {name: value for name, value in result.items() if name not in DETAILS}
                write(result)
                results[result["video"]] = result
                progress.update()
        return [results[name] for name in videos]


def files_to_localize(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files among `paths`, and the video and sound files in the folders among them.

    Folders inside folders are ignored; of files in one folder that differ in suffix alone, `video_files` takes one.

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
                    f"Results are named after their files, without suffix; {file.stem!r} is given more than once: "
                    f"{files[file.stem]} and {file}."
                )
            files[file.stem] = file
    return list(files.values())


@dataclass(frozen=True)
class _Job:
    """Everything that a process needs to localize files; picklable.

    Args:
        model: folder of the model.
        device: device of the model; by default that of `transformers.pipeline`.
        encoder: as given to `localize_files`.
        details: as given to `localize_files`.
        settings: settings of the pipeline that are not None.
    """

    model: Path
    device: torch.device | None
    encoder: AudioVisualEncoder | None
    details: tuple[str, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: str | os.PathLike[str] | AudioVisualEventLocalizationPipeline,
        encoder: AudioVisualEncoder | None,
        details: Collection[str],
        settings: Mapping[str, Any],
    ) -> "_Job":
        if unknown := [name for name in details if name not in DETAILS]:
            raise ValueError(f"`details` names {unknown[0]!r}; expected some of {', '.join(DETAILS)}.")
        given = {name: value for name, value in settings.items() if value is not None}
        device = None
        if isinstance(model, AudioVisualEventLocalizationPipeline):
            if encoder is not None:
                raise ValueError("An open pipeline has its own encoder. Give `encoder` to the pipeline.")
            folder, encoder, device = Path(model.model.name_or_path), model.encoder, model.device
            given = model.settings | given
        else:
            folder = Path(model)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no model folder {folder}. For a model on the Hub, give what "
                "`huggingface_hub.snapshot_download` returns."
            )
        return cls(folder, device, encoder, tuple(details), given)

    def open(self) -> AudioVisualEventLocalizationPipeline:
        """Load the model."""
        return open_localizer(self.model, encoder=self.encoder, device=self.device)

    def check(self, localizer: AudioVisualEventLocalizationPipeline) -> None:
        """Refuse settings, an encoder or details that do not fit the model."""
        localizer._sanitize_parameters(**self.settings)
        localizer.chosen_encoder()
        if "trace" in self.details:
            check_traceable(localizer.model)

    def result_of(self, localizer: AudioVisualEventLocalizationPipeline, video: Path) -> dict[str, Any]:
        """Result of one file, with the details; or its failure."""
        wanted = {f"with_{name}": name in self.details for name in DETAILS}
        try:
            found = localizer.localize(video, **wanted, **self.settings)
        except Exception as error:  # a file that fails must not stop the others, whatever the reason
            logger.debug("The error was raised here:", exc_info=True)
            is_ours = isinstance(error, (ValueError, OSError))
            return _failure(video, str(error) if is_ours else f"{type(error).__name__}: {error}")
        result = {
            "video": video.name,
            "duration": found.duration,
            "streams": list(found.streams),
            "events": found.events,
        }
        return result | {name: getattr(found, name) for name in self.details}


def _fingerprint(model: Path) -> str:
    """SHA-256 of a model folder: of its weights and its JSON files."""
    files = sorted([*model.glob("*.json"), *model.glob("*.safetensors")])
    return hashlib.sha256("".join(f"{sha256_of(file)}  {file.name}\n" for file in files).encode()).hexdigest()


def _failure(video: Path, error: str) -> dict[str, Any]:
    return {"video": video.name, "error": " ".join(error.split())}


def _localize_in_processes(
    job: _Job, videos: Sequence[Path], num_workers: int
) -> Generator[dict[str, Any], None, None]:
    """Results as they come; if a worker dies, the file it was localizing fails and another worker takes its place."""
    waiting = deque(videos)
    workers: dict[Connection, tuple[BaseProcess, Path | None]] = {}  # None while a worker loads the model
    try:
        for _ in range(min(num_workers, len(videos))):
            ours, process = _start_worker(job)
            workers[ours] = process, None
        while workers:
            ready = connection.wait(list(workers))
            for worker in [worker for worker in workers if worker in ready]:
                process, video = workers.pop(worker)
                try:
                    result = worker.recv()  # None when it has loaded the model
                except (EOFError, OSError):
                    process.join()
                    cause = f"ended abruptly with exit code {process.exitcode} (-9 most often means: out of memory)"
                    if video is None:
                        raise ChildProcessError(
                            f"A worker process {cause} while it loaded the model. Give a smaller `num_workers`; "
                            "finished results are kept."
                        ) from None
                    result = _failure(video, f"The worker process that localized it {cause}.")
                    if waiting:
                        ours, process = _start_worker(job)
                        workers[ours] = process, None
                else:
                    if waiting:
                        workers[worker] = process, waiting.popleft()
                        with suppress(OSError):  # if it has died since, `wait` reports it
                            worker.send(workers[worker][1])
                    else:
                        worker.close()  # which ends it
                        process.join()
                if result is not None:
                    yield result
    finally:
        for process, _ in workers.values():
            process.terminate()
            process.join()


def _start_worker(job: _Job) -> tuple[Connection, BaseProcess]:
    """A worker process and the connection to it."""
    context = spawn_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    with ignoring_interrupts():
        process.start()
    theirs.close()
    return ours, process


def _work(parent: Connection, job: _Job) -> None:
    """Localize files as they come, until the parent closes the connection."""
    end_with_parent()
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # the parent has one for all
    localizer = job.open()
    with suppress(EOFError, OSError):
        parent.send(None)
        while True:
            parent.send(job.result_of(localizer, parent.recv()))
