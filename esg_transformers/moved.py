"""Import paths of 0.1. They work in 0.2, with a `DeprecationWarning` that names the new path.

This holds for `from esg_transformers.data.corpus import EventCorpus` and for `import esg_transformers.data.corpus`. The
new module of a name is imported when the name is first used. Left out are the functions that read `corpus.json`
as a dict (`read_manifest` and three beside it), which `corpora.manifest.Manifest` replaces.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "esg_transformers"

# New modules and the public names in each, by module of 0.1; module names are without the package. `old=new` is a name
# that changed as well. A module that still exists is listed with the names that left it.
MOVED: dict[str, dict[str, str]] = {
    "batch": {
        "localization.files": "files_to_localize localize_files",
    },
    "data": {},
    "data.annotations": {
        "annotations.events": "AnnotatedVideo Annotations Event",
        "annotations.parsing": "MAX_FILE_SIZE read_annotation_json read_annotation_text seconds_of=parse_number",
        "annotations.reading": "AnnotationReading MAX_EVENTS Problem",
        "annotations.unav": "read_unav_annotations scan_unav_annotations write_unav_annotations",
        "annotations.values": "DUPLICATE_TOLERANCE DURATION_TOLERANCE is_label is_safe_video_id",
        "corpora.example": "Example",
        "files": "replacing",
    },
    "data.collator": {
        "localization.collator": "EventLocalizationCollator",
    },
    "data.corpus": {
        "corpora.dataset": "EventCorpus",
        "corpora.example": "Examples=VideoDataset",
        "corpora.build": "ROW_GROUP_SIZE",
        "corpora.manifest": "FORMAT METADATA_KEY verify_corpus",
        "corpora.writing": "write_corpus",
        "files": "sha256_of",
        "workers": "ignoring_interrupts",
    },
    "data.cropping": {
        "training.augmentation": "random_crop random_stretch",
    },
    "data.description": {
        "corpora.description": "MOST_NAMES=MAX_NAMES QUANTILES SPLIT_COLORS describe plot_description pyramid_reach",
        "corpora.reading": "read_corpus_annotations",
    },
    "data.formats": {
        "annotations.formats": (
            "FORMATS Format format_for format_of read_annotations scan_annotations write_annotations"
        ),
    },
    "data.formats.activitynet": {
        "annotations.activitynet": (
            "scan_activitynet_results scan_unav_results write_activitynet_results write_unav_results"
        ),
    },
    "data.formats.audacity": {
        "annotations.audacity": "scan_audacity write_audacity",
    },
    "data.formats.elan": {
        "annotations.elan": "NOT_IN_XML SCHEMA SCHEMA_LOCATION scan_elan write_elan",
    },
    "data.formats.folders": {
        "annotations.folders": "files_to_read files_to_write",
    },
    "data.formats.label_studio": {
        "annotations.label_studio": "scan_label_studio write_label_studio",
    },
    "data.formats.subtitles": {
        "annotations.subtitles": "write_srt write_webvtt",
    },
    "data.formats.tables": {
        "annotations.rttm": "NO_EVENTS scan_rttm write_rttm",
        "annotations.tables": "CSV_COLUMNS DESED_COLUMNS scan_csv scan_desed write_csv write_desed",
    },
    "data.formats.via": {
        "annotations.via": "CHECKBOX IMAGE LOCAL SELECT TEMPORAL_SEGMENT VIDEO scan_via write_via",
    },
    "data.resampling": {
        "corpora.resampling": "resample_features",
    },
    "data.sharing": {
        "corpora.sharing": "push_corpus",
        "hub": "FILES_OF_A_NEW_REPOSITORY errors_of_hub push_files",
    },
    "data.simulation": {
        "simulation.features": (
            "ASYNCHRONY BACKGROUND CHANNEL_NOISE CLASS_SIZE CONFUSION DISTRACTORS DRIFT DRIFT_TIME "
            "GROUP_SIZE LATENT_SIZE NOISE NOISE_TIME PERSISTENCE SHORTEST_EVENT SHOT_LENGTH SPREAD "
            "SimulatedVideos VERSION simulate_splits"
        ),
        "simulation.scenario": "Occurrence Span=Interval",
    },
    "data.unav100": {
        "corpora.example": "are_finite check_features",
        "corpora.feature_folder": "FeatureFolder",
        "corpora.feature_sets": "FEATURE_SETS FeatureSet read_feature_set",
    },
    "data.validation": {
        "corpora.validation": (
            "FEW_EVENTS MEDIA_TOLERANCE validate_corpus validate_features validate_splits validate_videos"
        ),
        "media.container": "Media=MediaInfo",
    },
    "data.videos": {
        "corpora.video_folder": "VIDEO_SUFFIXES VideoFolder video_files",
    },
    "data.workshop": {
        "simulation.clips": "SUBSETS make_workshop_clips write_clip",
        "simulation.picture": "DARK FRAME_RATE GREY HEIGHT PANE WIDTH X Y render_picture",
        "simulation.scenario": "GAP Interval LABELS Occurrence REOPENING SWING Scenario draw_scenario labelled_events",
        "simulation.sound": "ALARM_BAND SAMPLING_RATE render_sound",
    },
    "encoders.hub": {
        "encoders.hub_encoder": (
            "AUDIO_METHODS CONFIGS GRID HubEncoder IMAGE_METHODS Item LONGEST_SOUND PICTURES_AT_ONCE "
            "PICTURE_BY_PICTURE PictureModel SHORTEST_SOUND SIZES SoundModel VALUES VIDEO_METHODS WEIGHTS "
            "WINDOWS_AT_ONCE model_folder model_identity"
        ),
    },
    "encoders.sound": {
        "encoders.sliding_sound": "SlidingSound",
    },
    "evidence": {
        "localization.trace": "STREAMS Evidence=Trace evidence_of=trace_of",
    },
    "media.video": {
        "media.container": "CLOCK_BREAK LONGEST_PAUSE MediaInfo probe",
    },
    "models.esg_net.modeling_esg_net": {
        "models.esg_net.layers_esg_net": "EsgNetDropPath=DropPath eager_attention_forward",
    },
    "models.esg_net.segments_esg_net": {
        "models.esg_net.grid_esg_net": "FeatureGrid",
    },
    "pipeline": {
        "localization.pipeline": "AudioVisualEventLocalizationPipeline PUBLISHED_VERSION TASK VideoInput encoder_for",
    },
    "training.inference": {
        "localization.dataset": "Events Localized evaluate_dataset localize_dataset",
    },
    "training.loop": {
        "training.steps": "learning_rate_factor",
    },
    "visualization": {
        "files": "save_figure",
        "media.audio": "waveform_peaks",
        "training.learning_curve": "plot_learning_curve",
        "visualization.page": "MAX_COLUMNS MAX_VIDEO_BYTES MEDIA_TYPES save_timeline_html",
        "visualization.timeline": "PALETTE plot_events save_timeline_png",
    },
}


def new_names(old: str) -> dict[str, tuple[str, str]]:
    """New module and name of every listed name of a module of 0.1.

    Args:
        old: a key of `MOVED`.

    >>> new_names("batch")["localize_files"]
    ('esg_transformers.localization.files', 'localize_files')
    """
    return {
        name.partition("=")[0]: (f"{PACKAGE}.{module}", name.rpartition("=")[2])
        for module, names in MOVED[old].items()
        for name in names.split()
    }


def keep_old_paths() -> None:
    """Make the modules of `MOVED` importable."""
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finder of removed modules. It also adds to existing modules the names that left them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of a module of `MOVED`, None for other modules."""
        package, _, old = fullname.partition(".")
        if package != PACKAGE or old not in MOVED:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    _add_names_after_loading(spec.loader, old)
                return spec
        return ModuleSpec(fullname, self, is_package=any(other.startswith(f"{old}.") for other in MOVED))

    def exec_module(self, module: ModuleType) -> None:
        """Fill a removed module with its names."""
        old = module.__name__.partition(".")[2]
        names = new_names(old)
        module.__doc__ = f"A module of 0.1; see `{PACKAGE}.moved`."
        module.__all__ = list(names)  # type: ignore[attr-defined]
        module.__getattr__ = _getter(old)  # type: ignore[method-assign]
        if names:
            homes = dict.fromkeys(new for new, _ in names.values())
            _warn(f"The module `{module.__name__}` is gone; its names are in {', '.join(f'`{new}`' for new in homes)}.")


def _add_names_after_loading(loader: Loader, old: str) -> None:
    exec_module = loader.exec_module

    def exec_and_add(module: ModuleType) -> None:
        exec_module(module)
        module.__getattr__ = _getter(old)  # type: ignore[method-assign]

    loader.exec_module = exec_and_add  # type: ignore[method-assign]


def _getter(old: str) -> Callable[[str], Any]:
    """`__getattr__` of a module of 0.1, which Python calls for names that the module lacks."""
    names = new_names(old)

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{PACKAGE}.{old}' has no attribute {name!r}")
        module, new_name = names[name]
        _warn(f"`{PACKAGE}.{old}.{name}` has moved: `from {module} import {new_name}`.")
        value = getattr(import_module(module), new_name)
        return AS_IN_0_1[f"{old}.{name}"](value) if f"{old}.{name}" in AS_IN_0_1 else value

    return get


def _with_loose_arguments(write_corpus: Callable[..., None]) -> Callable[..., None]:
    """`write_corpus` with the arguments of 0.1: examples of any kind, and labels and features as loose values."""

    @wraps(write_corpus)
    def write(
        out_dir: Any,
        splits: Mapping[str, Any],
        *,
        labels: Sequence[str] | None = None,
        grid: Any = None,
        encoder: Mapping[str, str] | None = None,
        visual_size: int = 0,
        audio_size: int = 0,
        **options: Any,
    ) -> None:
        from esg_transformers.corpora.example import ExampleList
        from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureSpec

        if labels is not None and encoder is not None:
            spec = FeatureSpec(grid, visual_size, audio_size, EncoderId(**encoder))
            splits = {
                split: examples if hasattr(examples, "feature_spec") else ExampleList(examples, tuple(labels), spec)
                for split, examples in splits.items()
            }
        write_corpus(out_dir, splits, **options)

    return write


@cache  # one class, however often it is imported
def _with_loose_attributes(corpus: type) -> type:
    """`EventCorpus` with `grid`, `encoder`, `visual_size` and `audio_size`, as in 0.1."""
    return type(
        corpus.__name__,
        (corpus,),
        {
            "__doc__": corpus.__doc__,
            "__module__": f"{PACKAGE}.data.corpus",  # where pickle finds it
            "grid": property(lambda self: self.feature_spec.grid),
            "encoder": property(lambda self: self.feature_spec.encoder.to_dict()),
            "visual_size": property(lambda self: self.feature_spec.visual_size),
            "audio_size": property(lambda self: self.feature_spec.audio_size),
        },
    )


# Names whose use has changed: each function turns the object of 0.2 into the one that a program of 0.1 expects.
AS_IN_0_1: dict[str, Callable[[Any], Any]] = {
    "data.corpus.EventCorpus": _with_loose_attributes,
    "data.corpus.write_corpus": _with_loose_arguments,
}


def _warn(message: str) -> None:
    # Level 3 is the importing line; levels 1 and 2 are this function and its caller.
    warnings.warn(f"{message} The old path works until {PACKAGE} 0.3.", DeprecationWarning, stacklevel=3)
