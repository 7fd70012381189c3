"""The room README's example of `transformers.Trainer`, run unchanged except for one epoch."""

import re
from pathlib import Path

import pytest
from transformers import AutoModel

import esg_transformers
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus

README = Path(esg_transformers.__file__).parent / "training" / "README.md"


@pytest.mark.slow
def test_the_example_of_the_readme_fine_tunes_a_model(tmp_path, monkeypatch, capsys, simulated, small_model):
    [code] = re.findall(r"```python\n(# fine-tuning with transformers\.Trainer\n.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 40
    monkeypatch.chdir(tmp_path)
    videos = simulated(12)
    write_corpus(
        "my_corpus",
        {
            split: ExampleList([videos[i] for i in indices], videos.labels, videos.feature_spec)
            for split, indices in (("train", range(9)), ("validation", range(9, 12)))
        },
    )
    model, processor = small_model()
    model.save_pretrained("model")
    processor.save_pretrained("model")
    assert "num_train_epochs=30" in code
    exec(compile(code.replace("num_train_epochs=30", "num_train_epochs=1"), "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
    tuned = AutoModel.from_pretrained("my_model")
    frozen = {name for name, value in model.state_dict().items() if value.equal(tuned.state_dict()[name])}
    assert {name for name in frozen if name.startswith("model.embeddings.")} == {
        name for name in model.state_dict() if name.startswith("model.embeddings.")
    }
    assert "classification_head.output.weight" not in frozen
