"""What a file name template makes of an example."""

from dataclasses import dataclass
from datetime import datetime

from app.core.errors import RequestError
from app.core.naming import NameFields, file_stem


@dataclass(frozen=True, slots=True, kw_only=True)
class NameExample:
    """A file name, or the sentence that says why there is none; the other one is ""."""

    name: str
    problem: str


def name_example(template: str) -> NameExample:
    """The name a picture made now would get."""
    fields = NameFields(
        created=datetime.now().astimezone(),
        seed=1234567,
        index=0,
        model="klein-4b",
        prompt="a lighthouse at dusk",
        width_px=1024,
        height_px=1024,
        steps=4,
        job_id="3f9a01c2",
    )
    try:
        return NameExample(name=f"{file_stem(template, fields)}.png", problem="")
    except RequestError as error:
        return NameExample(name="", problem=error.message)
