import functools
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from transformers import AutoTokenizer

from app.core.errors import ModelError
from app.engine.model_folder import inspect_model_folder
from app.engine.prompt_tokens import DEV_SYSTEM_MESSAGE, PromptTokenizer
from scripts.demo_model.networks import build_tokenizer
from tests.fakes.model_folder import change_json, make_folder
from tests.tiny_models import make_tiny_model

PROMPTS = [
    "",
    " ",
    "a big red circle at the top on a blue background",
    "  spaces before and after \n\n",
    "caf\u00e9 cafe\u0301 naïve ﬁ Ⅷ",
    "赤い円, красный круг, دائرة 🔴👩‍👩‍👧",
    "<|im_start|>user <think>x</think> [INST]no[/INST] <s>[IMG]</s> <|endoftext|>",
    "{{ messages }} {% for x in y %}",
    "word " * 700,
    "円" * 300,
    "\0 zero and tab\t",
    "1234567890 it's I'LL don't",
]
CORPUS = ["a big red circle at the top on a blue background", "user assistant don't spaces"] * 20

Reference = Callable[[str], list[int]]


@functools.cache
def klein_reference(folder: Path) -> Reference:
    """The tokens as Flux2KleinPipeline makes them, before padding and truncation."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "tokenizer"))

    def tokens(prompt: str) -> list[int]:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return tokenizer(text)["input_ids"]

    return tokens


@functools.cache
def dev_reference(folder: Path) -> Reference:
    """The tokens as Flux2Pipeline makes them; its processor passes text on to this tokenizer."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "tokenizer"))

    def tokens(prompt: str) -> list[int]:
        messages = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_MESSAGE}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": prompt.replace("[IMG]", "")}],
            },
        ]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=False)["input_ids"]

    return tokens


@pytest.fixture(autouse=True)
def long_prompts_are_meant() -> Iterator[None]:
    """The reference tokenizer warns of prompts longer than it reads, which are the point here."""
    logger = logging.getLogger("transformers.tokenization_utils_base")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def tiny_klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein", tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module")
def tiny_dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("dev", tmp_path_factory.mktemp("dev"))


@pytest.fixture(scope="module")
def demo_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's kind of tokenizer, which has learned words."""
    folder = make_folder(tmp_path_factory.mktemp("demo"))
    build_tokenizer(CORPUS, folder / "tokenizer").save_pretrained(str(folder / "tokenizer"))
    return folder


def opened(folder: Path) -> PromptTokenizer:
    return PromptTokenizer.open(inspect_model_folder(folder))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_count_is_the_pipelines_for_klein(tiny_klein: Path, demo_like: Path, prompt: str):
    for folder in (tiny_klein, demo_like):
        assert opened(folder).count(prompt).tokens == len(klein_reference(folder)(prompt))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_count_is_the_pipelines_for_dev(tiny_dev: Path, prompt: str):
    assert opened(tiny_dev).count(prompt).tokens == len(dev_reference(tiny_dev)(prompt))


def test_system_message_is_that_of_diffusers():
    assert DEV_SYSTEM_MESSAGE == SYSTEM_MESSAGE


@pytest.mark.parametrize("kind", ["klein", "dev", "demo"])
def test_cut_is_what_the_model_does_not_see(
    tiny_klein: Path, tiny_dev: Path, demo_like: Path, kind: str
):
    folder = {"klein": tiny_klein, "dev": tiny_dev, "demo": demo_like}[kind]
    reference = dev_reference(folder) if kind == "dev" else klein_reference(folder)
    tokenizer = opened(folder)
    prompt = "a red circle and a blue square " * 100
    count = tokenizer.count(prompt)
    assert count.limit == 512
    assert count.cut
    assert prompt.endswith(count.cut)
    kept = prompt.removesuffix(count.cut)
    seen = reference(prompt)[:512]
    # Whatever comes behind the kept part, the model sees the kept part whole.
    without = reference(kept)
    common = next(
        (place for place, (a, b) in enumerate(zip(seen, without, strict=False)) if a != b),
        len(seen),
    )
    assert common >= len(seen) - 1
    # And one character more of the prompt would not be seen whole.
    assert tokenizer.count(kept).cut == ""


def test_prompt_that_just_fits_is_not_cut(tiny_klein: Path):
    tokenizer = opened(tiny_klein)
    around = tokenizer.count("").tokens
    fits = tokenizer.count("x" * (512 - around))
    assert (fits.tokens, fits.cut) == (512, "")
    # From here on the end of the chat template is cut, and only then the prompt.
    assert tokenizer.count("x" * (513 - around)).cut == ""
    ending = 512 - around + len("<|im_end|>\n") + 100
    assert set(tokenizer.count("x" * ending).cut) == {"x"}


def test_cut_of_a_template_that_trims_the_prompt(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    template = folder / "tokenizer" / "chat_template.jinja"
    template.write_text("{{- 'red ' + (messages[0].content | trim) + '!' }}", "utf-8")
    prompt = "   " + "xyz" * 400 + "\n"
    count = opened(folder).count(prompt)
    kept = prompt.removesuffix(count.cut)
    assert count.tokens > 512
    assert opened(folder).count(kept).tokens == 512 + 1  # The template's "!" is cut, too.


def test_half_characters_are_counted_as_question_marks(tiny_klein: Path):
    tokenizer = opened(tiny_klein)
    assert tokenizer.count("a\ud800").tokens == tokenizer.count("a?").tokens


def test_padding_and_truncation_of_the_file_do_not_count(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    expected = opened(folder).count("a red circle").tokens
    file = folder / "tokenizer" / "tokenizer.json"
    change_json(
        file,
        truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 100},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        },
    )
    assert opened(folder).count("a red circle").tokens == expected


def begin_with(token: str, folder: Path) -> None:
    """Make the tokenizer put a token before each text."""
    file = folder / "tokenizer" / "tokenizer.json"
    known = json.loads(file.read_text("utf-8"))["added_tokens"]
    number = next(entry["id"] for entry in known if entry["content"] == token)
    single = [
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    change_json(
        file,
        post_processor={
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
        },
    )


def test_token_that_the_tokenizer_puts_before_the_text_counts(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    begin_with("<|im_start|>", folder)
    count = opened(folder).count("a red circle")
    assert count.tokens == opened(demo_like).count("a red circle").tokens + 1
    assert count.tokens == len(klein_reference(folder)("a red circle"))
    prompt = "blue " * 600
    kept = prompt.removesuffix(opened(folder).count(prompt).cut)
    assert opened(folder).count(kept).cut == ""
    assert len(kept) < len(prompt.removesuffix(opened(demo_like).count(prompt).cut)) + 1


def test_switches_that_transformers_ignores_do_not_count(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    config = folder / "tokenizer" / "tokenizer_config.json"
    change_json(config, add_bos_token=True, add_eos_token=True, bos_token="<|im_start|>")
    tokens = opened(folder).count("a red circle").tokens
    assert tokens == len(klein_reference(folder)("a red circle"))


def test_processor_puts_no_second_token_before_the_text(tiny_dev: Path, tmp_path: Path):
    folder = copied(tiny_dev, tmp_path)
    begin_with("<s>", folder)
    assert opened(folder).count("x") == opened(tiny_dev).count("x")
    template = folder / "tokenizer" / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("{{- '<s>' }}", ""), "utf-8")
    assert opened(folder).count("x") == opened(tiny_dev).count("x")


@pytest.mark.parametrize(
    "config",
    [
        {"extra_special_tokens": ["<|big|>"]},
        {"extra_special_tokens": {"size_token": "<|big|>"}},
        {
            "additional_special_tokens": [{"content": "<|big|>", "__type": "AddedToken"}],
            "extra_special_tokens": None,
        },
        {"bos_token": "<|big|>"},
        {"bos_token": {"content": "<|big|>", "__type": "AddedToken"}},
    ],
)
def test_special_tokens_of_the_config_are_whole(
    demo_like: Path, tmp_path: Path, config: dict[str, Any]
):
    folder = copied(demo_like, tmp_path)
    change_json(folder / "tokenizer" / "tokenizer_config.json", **config)
    tokens = opened(folder).count("a <|big|> circle").tokens
    assert tokens == len(klein_reference(folder)("a <|big|> circle"))
    assert tokens < opened(demo_like).count("a <|big|> circle").tokens


def test_older_name_of_special_tokens_is_ignored_beside_the_newer(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    config = folder / "tokenizer" / "tokenizer_config.json"
    change_json(config, additional_special_tokens=["<|big|>"])
    tokens = opened(folder).count("a <|big|> circle").tokens
    assert tokens == len(klein_reference(folder)("a <|big|> circle"))


def test_special_tokens_of_older_folders_are_read(demo_like: Path, tmp_path: Path):
    folder = copied(demo_like, tmp_path)
    (folder / "tokenizer" / "special_tokens_map.json").write_text('{"cls_token": "<|big|>"}')
    tokens = opened(folder).count("a <|big|> circle").tokens
    assert tokens == len(klein_reference(folder)("a <|big|> circle"))


class TestTemplates:
    """Where a template may stand, and what one may do."""

    @pytest.mark.parametrize(
        "template", ["one {{ messages[0].content }}", [{"name": "default", "template": "one"}]]
    )
    def test_in_the_tokenizers_config(self, demo_like: Path, tmp_path: Path, template: Any):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "chat_template.jinja").unlink()
        change_json(folder / "tokenizer" / "tokenizer_config.json", chat_template=template)
        assert opened(folder).count("x").tokens == len(klein_reference(folder)("x"))

    def test_file_goes_before_the_config(self, demo_like: Path, tmp_path: Path):
        folder = copied(demo_like, tmp_path)
        change_json(folder / "tokenizer" / "tokenizer_config.json", chat_template="not this")
        assert opened(folder).count("x") == opened(demo_like).count("x")

    def test_of_a_processor_in_its_old_file(self, tiny_dev: Path, tmp_path: Path):
        folder = copied(tiny_dev, tmp_path)
        template = folder / "tokenizer" / "chat_template.jinja"
        (folder / "tokenizer" / "chat_template.json").write_text(
            json.dumps({"chat_template": template.read_text("utf-8")}), "utf-8"
        )
        template.unlink()
        assert opened(folder).count("x") == opened(tiny_dev).count("x")

    def test_old_file_without_a_template_is_passed_over(self, tiny_dev: Path, tmp_path: Path):
        folder = copied(tiny_dev, tmp_path)
        (folder / "tokenizer" / "chat_template.json").write_text("{}")
        assert opened(folder).count("x") == opened(tiny_dev).count("x")

    def test_what_transformers_offers_templates(self, demo_like: Path, tmp_path: Path):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "chat_template.jinja").write_text(
            "{%- set ns = namespace(n=0) -%}{%- for message in messages %}{% generation %}"
            "{{ message | tojson }}{{ message | tojson(indent=2) }}{% endgeneration %}"
            "{%- set ns.n = ns.n + 1 %}{% if ns.n == 1 %}{% continue %}{% endif %}{% endfor %}"
            "{{ eos_token }}{{ strftime_now('%Y') }}{{ tools is none }}{{ ns.n }}",
            "utf-8",
        )
        prompt = 'quote " 円'
        assert opened(folder).count(prompt).tokens == len(klein_reference(folder)(prompt))

    @pytest.mark.parametrize(
        "template",
        [
            "{{ raise_exception('no') }}",
            "{{ messages[5].content.x }}",
            "{{ ''.__class__.__mro__[1].__subclasses__()[0]() }}",
            "{{ messages.append(1) }}",
            "{{ 1 / 0 }}",
        ],
    )
    def test_that_fails_is_told(self, demo_like: Path, tmp_path: Path, template: str):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "chat_template.jinja").write_text(template, "utf-8")
        with pytest.raises(ModelError, match="chat template") as caught:
            opened(folder).count("x")
        assert caught.value.code == "model.unknown_config"

    @pytest.mark.parametrize("template", [b"{% for %}", b"\xff\xfe", b"{{"])
    def test_that_is_none_is_told(self, demo_like: Path, tmp_path: Path, template: bytes):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "chat_template.jinja").write_bytes(template)
        with pytest.raises(ModelError, match="chat template"):
            opened(folder)

    def test_missing_is_told(self, demo_like: Path, tmp_path: Path):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "chat_template.jinja").unlink()
        with pytest.raises(ModelError, match=r"chat_template\.jinja") as caught:
            opened(folder)
        assert caught.value.code == "model.file_missing"


class TestBrokenTokenizer:
    def test_missing_file(self, demo_like: Path, tmp_path: Path):
        folder = copied(demo_like, tmp_path)
        info = inspect_model_folder(folder)
        (folder / "tokenizer" / "tokenizer.json").unlink()
        with pytest.raises(ModelError) as caught:
            PromptTokenizer.open(info)
        assert caught.value.code == "model.file_missing"

    def test_broken_file(self, demo_like: Path, tmp_path: Path):
        folder = copied(demo_like, tmp_path)
        (folder / "tokenizer" / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
            opened(folder)


def copied(folder: Path, parent: Path) -> Path:
    return Path(shutil.copytree(folder, parent / "copy"))
