"""Values of the wrong kind are refused before anything starts."""

import os

import pytest
from hydra import compose, initialize_config_dir

from kdpose.cli import CONF
from kdpose.training.values import check_run, check_values


@pytest.fixture
def composed():
    """Composes a training's configuration."""

    def make(*words):
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", overrides=["+experiment=stage1", *words])

    return make


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("name=../x", "a folder below runs"),
        ("name=/x", "a folder below runs"),
        ("name=null", "name=null is refused"),
        ("seed=null", "seed=null is refused: expected a whole number"),
        ("seed=-1", "seed=-1 is refused: expected greater than or equal to 0"),
        ("trainer.max_epochs=null", "expected a whole number"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 is refused"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc is refused: expected a whole number"),
        ("trainer.precision=foo", "'bf16-mixed'"),
        ("trainer.gradient_clip_val=x", "a whole number or a number"),
        ("data.batch_size=-1", "data.batch_size=-1 is refused"),
        ("data.batch_size=x", "data.batch_size=x is refused: expected a whole number"),
        ("data.num_workers=1.5", "data.num_workers=1.5 is refused"),
        ("data.boxes=3", "data.boxes=3 is refused: expected text"),
        ("data.augmentation.scale=x", "data.augmentation.scale=x is refused: expected a number"),
        ("codec.input_size=[48]", "codec.input_size=[48] is refused: expected more values"),
        ("codec.sigma=abc", "codec.sigma=abc is refused: expected a number"),
        ("optimizer.lr=nan", "optimizer.lr=nan is refused"),
        ("optimizer.lr=inf", "optimizer.lr=inf is refused"),
        ("optimizer.lr=abc", "optimizer.lr=abc is refused: expected a number"),
        ("loss.pos.weight=abc", "weight=abc is refused: expected a number"),
        ("module.flip_test=7", "module.flip_test=7 is refused: expected true or false"),
        ("head.init=abc", "expected 'official' or 'projection'"),
        ("+head.width=3", "head.width is refused: kdpose.heads.simcc.SimCCHead takes in_channels,"),
        ("run_dir=null", "run_dir=null is refused: expected text"),
        ("resume=true", "resume=auto"),
        ("~callbacks", "callbacks is null"),
        ("~optimizer", "optimizer is null"),
        ("~callbacks.best", "callbacks.best is missing"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(composed, word, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_values(composed(word))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("teacher=onnx", "optimizer=adamw", "schedule=warmup_cosine"),
        ("dataset=coco", "trainer=a100_ddp", "logger=wandb"),
        ("codec=heatmap", "head=heatmap", "optimizer.lr=1"),
        ("~logger",),
    ],
)
def test_what_comes_with_kdpose_is_accepted(composed, words):
    check_values(composed(*words))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("codec=heatmap", "head=heatmap"), "head.init"),
        (("codec=regression", "head=regression"), "codec.sigma"),
    ],
)
def test_what_a_scale_sets_for_another_part_is_named_and_can_be_taken_away(composed, words, key):
    words = ("+scale=cpu", *words)
    with pytest.raises(ValueError, match=rf"{key} is refused: kdpose.*'~{key}' takes away what a"):
        check_values(composed(*words))
    check_values(composed(*words, "~head.init", *(f"~{key}",) * (key != "head.init")))


def test_a_number_as_a_name_is_text(composed):
    cfg = composed("name=12345")
    check_run(cfg)
    assert cfg.name == "12345"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("callbacks=null",), "callbacks is null: a training needs callbacks=OPTION"),
        (("name=../x",), "name=../x is refused"),
        (("--config-dir", "nothere"), "nothere"),
        (("--config-dir", "mine", "+experiment=my", "optimzer.lr=3"), "did you mean optimizer.lr"),
        (("-m", "seed=0,1", "run_dir=null"), "run_dir=null is refused"),
    ],
)
def test_the_command_says_it_in_one_line(kdpose_here, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    own = tmp_path / "mine" / "experiment" / "my.yaml"
    own.write_text("# @package _global_\ndefaults: [baseline]\n")
    done = kdpose_here("train", *words, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not any("ckpt" in name for name in os.listdir(tmp_path))
