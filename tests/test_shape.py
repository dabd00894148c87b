"""The shape of a made package of three files, counted by hand."""

import pytest

from tests import shape

FILES = {
    "mmclip/__init__.py": "",
    "mmclip/near.py": """
        from typing import TYPE_CHECKING
        from mmclip import far
        if TYPE_CHECKING:
            from mmclip.room import door
        def ask():
            from mmclip.room import door
            return far._secret, door
        """,
    "mmclip/far.py": """
        from typing import Any
        def _secret() -> dict[str, Any]:
            from mmclip.near import ask
            return {}
        """,
    "mmclip/room/__init__.py": "from mmclip.room import _lock\n",
    "mmclip/room/_lock.py": "",
    "mmclip/room/door.py": "from mmclip.far import _secret\n",
}


@pytest.fixture
def made():
    return [shape._module(name, _flush(text)) for name, text in FILES.items()]


def _flush(text):
    return "\n".join(line[8:] if line.startswith(" " * 8) else line for line in text.split("\n"))


def test_each_thing_is_counted(made):
    found = shape.measure(made)
    assert found["files"] == "6"
    assert found["functions"] == "2"
    assert found["`dict[str, Any]`"] == found["`Any` in the code"] == "1"
    assert found["own imports inside functions, elsewhere"] == "2"


def test_imports_inside_functions_close_a_cycle(made):
    assert shape.cycles(made) == [["mmclip.far", "mmclip.near", "mmclip.room.door"]]


def test_a_private_module_is_open_to_its_folder_and_a_private_name_to_none(made):
    known = {m.name for m in made}
    used = {m.name: [n for _, n in shape.crossings(m, known)] for m in made}
    assert {n: u for n, u in used.items() if u} == {
        "mmclip.near": ["mmclip.far._secret"],
        "mmclip.room.door": ["mmclip.far._secret"],
    }
