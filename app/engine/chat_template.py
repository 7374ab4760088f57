"""Rendering a model's chat template as transformers does, without transformers.

Templates come with the model's folder, so they run in jinja's sandbox and see plain data only.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from jinja2 import ext, nodes, parser, sandbox

from app.core.errors import ModelError
from app.engine.model_json import convert_config, missing_file, read_json


class _GenerationBlock(ext.Extension):
    """`{% generation %}` marks the model's own words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own way to name tags

    def parse(self, parser: parser.Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _NamedTemplate(msgspec.Struct, frozen=True):
    name: str
    template: str


class _TemplateConfig(msgspec.Struct, frozen=True):
    chat_template: str | tuple[_NamedTemplate, ...] | None = None


def compile_template(source: str, folder: Path) -> jinja2.Template:
    """A template, ready to be rendered.

    Raises:
        ModelError: It is no valid template.
    """
    # Any: jinja does not say what its filters and globals are.
    environment: Any = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise _unusable(folder, error) from error


def render(template: jinja2.Template, folder: Path, **variables: object) -> str:
    """A template's text.

    Raises:
        ModelError: The template fails, or does what the sandbox forbids.
    """
    try:
        return template.render(**variables)
    # A template may fail in any way a program can.
    except Exception as error:
        raise _unusable(folder, error) from error


def read_template(tokenizer: Path, *, processor: bool) -> str:
    """Source of the chat template of a tokenizer's folder, where transformers looks for it.

    Args:
        tokenizer: The folder.
        processor: Whether a processor reads it, which knows chat_template.json, too.

    Raises:
        ModelError: There is none.
    """
    if processor and (tokenizer / "chat_template.json").is_file():
        path = tokenizer / "chat_template.json"
        template = convert_config(read_json(path), _TemplateConfig, path).chat_template
        if isinstance(template, str):
            return template
    file = tokenizer / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(tokenizer, error) from error
    for config in ("processor_config.json", "tokenizer_config.json"):
        if (tokenizer / config).is_file():
            path = tokenizer / config
            found = convert_config(read_json(path), _TemplateConfig, path).chat_template
            named = {"default": found} if isinstance(found, str) else _by_name(found or ())
            if "default" in named:
                return named["default"]
    raise missing_file(file)


def _by_name(templates: tuple[_NamedTemplate, ...]) -> dict[str, str]:
    return {template.name: template.template for template in templates}


def _to_json(  # The options of transformers' own filter of this name.
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _unusable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The chat template in {folder} cannot be used: "
        "download the tokenizer folder again from the model's source.",
        code="model.unknown_config",
        details=f"{type(error).__name__}: {error}",
    )
