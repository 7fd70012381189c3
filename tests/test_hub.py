import pytest
from huggingface_hub.errors import HFValidationError

from esg_transformers.hub import downloaded_model, errors_of_hub, push_files


def test_a_folder_is_its_own_model_folder(tmp_path):
    assert downloaded_model(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("model", ["nowhere", "./models/nowhere", "a/b/c", "/absolute/nowhere", "owner/"])
def test_a_path_that_cannot_be_a_repository_is_not_looked_for_on_the_hub(model):
    with pytest.raises(FileNotFoundError, match=f"No folder at {model}, .*OWNER/NAME"):
        downloaded_model(model)


def test_a_download_that_fails_is_an_os_error_that_names_the_model():  # tests run offline
    with pytest.raises(OSError, match="owner/name could not be downloaded: .+"):
        downloaded_model("owner/name")


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
def test_an_error_of_the_hub_becomes_one_line_with_its_reason(error):
    with (
        pytest.raises(OSError, match="^It could not be pushed: two lines$"),
        errors_of_hub("It could not be pushed", "https://hub", "model"),
    ):
        raise error("two\nlines")


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), errors_of_hub("It could not be pushed", "https://hub", "model"):
        raise ZeroDivisionError


def test_a_name_that_no_repository_can_have_stays_an_error_of_its_own(tmp_path):
    (tmp_path / "corpus.json").write_text("{}")
    files = {"corpus.json": tmp_path / "corpus.json"}
    with pytest.raises(HFValidationError, match="a/b/c"):
        push_files(files, "a/b/c", repo_type="dataset", what="corpus", marker="corpus.json", owned="data/.*")


def test_a_pull_request_excludes_a_branch():
    with pytest.raises(ValueError, match="`create_pr` .*`revision` .'draft'"):
        push_files({}, "a/b", repo_type="model", what="model", marker="x", owned="x", create_pr=True, revision="draft")
