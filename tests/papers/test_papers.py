"""Every paper's file: known keys, known choices, shapes that its own settings give, a source."""

import tomllib

import pytest

from mmclip import config, papers, plugins
from mmclip.clip.settings import TrainConfig, sizes_shape
from mmclip.datasets.build import PreprocessConfig
from mmclip.errors import NotFound, UsageError
from mmclip.modalities.settings import configured
from mmclip.tasks.generate.decoder import DecodeConfig
from mmclip.tasks.neighbours import Options

EVERY = papers.names()


def stage(name, stage):
    """A paper's settings of a stage; the test is skipped where it has none."""
    if stage not in papers.read(name).stages:
        pytest.skip(f"{name} says nothing of {stage}")
    return papers.settings(name, stage)


@pytest.mark.parametrize("name", EVERY)
def test_a_paper_says_where_it_was_published(name):
    about = papers.read(name)
    assert about.title
    assert about.source
    if about.split is not None:
        assert about.split.where
        assert sum(about.split.fractions) == pytest.approx(1)
    every = [about.published, *about.benchmarks.values()]
    for published in filter(None, every):
        assert published.protocol
        for figure in (*published.regressions, *published.accuracies):
            assert figure.where, figure


@pytest.mark.parametrize("name", EVERY)
def test_preprocess_knows_every_setting_and_gives_the_shapes_stated(name):
    given = stage(name, "preprocess")
    views = given.pop("views", {})
    settings = config.resolve(PreprocessConfig, "preprocess", None, given)
    assert set(views) <= set(settings.modalities)
    for view in settings.modalities:
        modality = configured(plugins.load("modalities", view, "MODALITY"), views.get(view, {}))
        assert modality.size == papers.read(name).shapes[view]


@pytest.mark.parametrize("name", EVERY)
def test_train_knows_every_setting_of_the_stage_and_of_its_encoders(name):
    settings = config.resolve(TrainConfig, "train", None, {}, stage(name, "train"))
    about = papers.read(name)
    shape = sizes_shape(dict(about.shapes), settings)  # refuses an option that is not the encoder's
    assert set(shape.sizes) == set(settings.modalities) == set(about.shapes)
    assert settings.precision == "float32"


@pytest.mark.parametrize("name", EVERY)
def test_train_decoder_knows_every_setting(name):
    settings = config.resolve(DecodeConfig, "train-decoder", None, {}, stage(name, "decode"))
    plugins.load("decoders", settings.decoder, "DECODER")


@pytest.mark.parametrize("published", papers.figures().values(), ids=lambda p: p.preset)
def test_the_protocol_is_one_that_knn_knows(published):
    Options(published.k, published.weights, published.metric, published.scale)


def test_a_name_that_is_not_there_is_told_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'astrom3'"):
        papers.read("astrom4")
    with pytest.raises(NotFound, match="there is no preset 'astrom3'") as caught:
        papers.settings("astrom3", "decode")
    assert "schwarz2024" in str(caught.value.hint)
    assert papers.read("astroclip-cambridge").name == "vrakkis"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[trian]\nepochs = 1", "'trian' is not known; did you mean"),
        ("[split]\nrul = 'random'", "split: 'rul' is not known; did you mean 'rule'"),
        ("[split]\nseed = 1", "rule"),
        ("[published]\nprotocol = ''\nmetrik = 'cosine'", "did you mean 'metric'"),
        (
            "[targets]\nmass = ['m']\n[views]\nimage = ['image']\n[published]\nprotocol = ''\n"
            "regressions = [{ quantity = 'z', target = 'mas', view = 'image', value = 1.0 }]",
            "regression 1: no name 'mas'; did you mean 'mass'",
        ),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_name(text, says):
    with pytest.raises(UsageError, match=says.replace("[", r"\[")):
        papers.parse("mine", f"title = 'T'\nsource = 'S'\n{text}")


def test_every_file_is_read_whole():
    """No table of a file is dropped on the way: what is not known is refused, and nothing is."""
    for name in EVERY:
        body = tomllib.loads((papers.FOLDER / f"{name}.toml").read_text())
        about = papers.read(name)
        assert set(about.stages) == {*body} & {*papers.STAGES}
        assert set(about.benchmarks) == set(body.get("benchmark", {}))
        assert (about.published is None) == ("published" not in body)
