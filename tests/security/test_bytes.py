"""Bytes that somebody else put into the store: none of them runs anything, and none of them stops a worker."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import forebay
from forebay import App, State
from forebay.model.message import Message
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids
from forebay.testing.clock import eventually
from tests.runtime.kit import story, working

SOURCES = sorted(Path(forebay.__file__).parent.rglob("*.py"))
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "yaml",
    "jsonpickle",
    "joblib",
}
CALLS = {"eval", "exec", "compile", "__import__"}


def test_no_module_reads_data_as_code() -> None:
    assert len(SOURCES) > 50
    for path, node in [(each, node) for each in SOURCES for node in ast.walk(ast.parse(each.read_text()))]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS, f"{path}:{node.lineno} calls {node.func.id}()"
        assert not {name.partition(".")[0] for name in names} & MODULES, f"{path} imports {names}"


def bodies(mark: Path) -> dict[str, bytes]:
    deep = 100_000
    return {
        "pickle": f"cbuiltins\nopen\n(V{mark}\nVw\ntR.".encode(),
        "yaml": f"!!python/object/apply:builtins.open ['{mark}', 'w']".encode(),
        "python": f"open({str(mark)!r}, 'w')".encode(),
        "a type by name": b'{"value": {"__class__": "subprocess.Popen", "args": ["true"]}}',
        "py/reduce": b'{"value": {"py/reduce": [{"py/function": "builtins.open"}]}}',
        "deep list": b'{"value": ' + b"[" * deep + b"]" * deep + b"}",
        "deep object": b'{"value": ' + b'{"a":' * deep + b"1" + b"}" * deep + b"}",
        "deep, cut off": b"[" * deep,
        "large number": b'{"value": ' + b"9" * 200_000 + b"}",
        "large exponent": b'{"value": 1e999999999}',
        "many keys": b"{" + b",".join(b'"k%d":1' % n for n in range(50_000)) + b"}",
        "a key twice": b'{"value": 1, "value": 2}',
        "no UTF-8": b'{"value": "\xff\xfe"}',
        "half a pair": b'{"value": "\\ud800"}',
        "NUL": b"\x00" * 1_000,
        "empty": b"",
        "a star": b'{"*": 7, "**": 8}',
        "dunder": b'{"__class__": 1, "self": 2, "ctx": 3}',
    }


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@story
async def test_hostile_bodies_run_nothing_and_end_as_they_must(engine: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    app = App("memory://" if engine == "memory" else f"sqlite:///{tmp_path / 'f.db'}")
    seen: list[object] = []

    @app.task(max_attempts=1)
    async def loose(value: object) -> None:
        seen.append(value)

    @app.task(max_attempts=1)
    async def strict(value: list[int]) -> None:
        seen.append(value)

    async with working(app):
        handles = []
        store = app.plant().engine.connect("attacker", SystemClock())
        await store.declare([])
        for body in bodies(mark).values():
            for name in ("loose", "strict", "nobody"):
                message = Message(id=Ids().message(), name=name, queue="default", body=body)
                await store.publish([message])
                if name in ("loose", "strict"):
                    handles.append(app.handle(message.id))
        good = await strict.send([1, 2])

        async def over() -> bool:
            records = [await handle.status() for handle in handles]
            return all(record.finished is not None for record in records)

        await eventually(over)
        await good.result(5)
        await store.close()
        states = {(await handle.status()).state for handle in handles}

    assert states <= {State.SUCCEEDED, State.DEAD}
    assert State.DEAD in states
    assert not mark.exists()
    assert [1, 2] in seen
