"""What a training run can be told; also the options of `esg-transformers train`."""

from dataclasses import dataclass, field, fields


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class LocalizationTrainingArguments:
    """Settings of `train`. The defaults are the published UnAV recipe (configs/avel_unav100.yaml, commit 1609deb).

    Raises:
        ValueError: if a value is out of range.
    """

    warmup_epochs: int = _option(5, "epochs in which the learning rate rises from 0")
    epochs: int = _option(45, "epochs in all, warm-up included; after it the learning rate falls to 0 as a cosine")
    learning_rate: float = _option(1e-4, "highest learning rate of AdamW")
    weight_decay: float = _option(1e-4, "weight decay, on the weights of linear and convolution layers only")
    batch_size: int = _option(16, "videos of one step, in each process")
    gradient_accumulation_steps: int = _option(1, "batches whose gradients make one step")
    max_grad_norm: float = _option(1.0, "norm that gradients are clipped to")
    ema_decay: float = _option(0.999, "decay of the averaged weights, which are evaluated and saved")
    max_steps: int = _option(224, "feature steps of a training crop; longer videos are cut at random")
    eval_batch_size: int = _option(16, "videos of one batch in evaluation, in each process")
    num_workers: int = _option(0, "processes that read the corpus, for each training process")
    mixed_precision: str = _option("no", "no, fp16 or bf16")
    keep_checkpoints: int = _option(2, "checkpoints to keep")
    seed: int = _option(0, "seed of everything that is drawn")

    def __post_init__(self):
        lowest: dict[str, float] = {"warmup_epochs": 0, "weight_decay": 0, "ema_decay": 0, "num_workers": 0, "seed": 0}
        lowest |= {"learning_rate": 1e-12, "max_grad_norm": 1e-12}
        for name in (f.name for f in fields(self) if f.name != "mixed_precision"):
            if getattr(self, name) < lowest.get(name, 1):
                raise ValueError(f"`{name}` must be at least {lowest.get(name, 1)}; got {getattr(self, name)}.")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs}) must be fewer than `epochs` ({self.epochs}), which count them."
            )
        if self.ema_decay >= 1:
            raise ValueError(f"`ema_decay` must be below 1; got {self.ema_decay}.")
        if self.mixed_precision not in ("no", "fp16", "bf16"):
            raise ValueError(f"`mixed_precision` must be no, fp16 or bf16; got {self.mixed_precision!r}.")
