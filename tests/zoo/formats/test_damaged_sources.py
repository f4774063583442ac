"""Whatever is wrong with a source, an import ends with a zoo or with an error of this package."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoosparse_ext as zs
from tests.zoo.formats.sources import SOURCES, files_of
from tests.zoo.test_store_damage import places

TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:e-?\d+)?|"[^"]*"|true|false|null')
TOKENS = [
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b'"../../x"',
    b"[]",
    b"{}",
    b"9" * 30,
    b"true",
    b'"\xff"',
    b"1.5",
]
VALUES = [None, -1, 10**30, 0.5, "", "../x", "\0", "\ud800", True, [], {}, [[]], [{}], {"": {"a": 1}}]
NUMBERS = [
    b"\x00" * 8,
    b"\xff" * 8,
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\x01",
    b"\x00\x00\x00\x00\x00\x00\x00\x40",
]


def damage_bytes(content: bytes, random: random.Random) -> bytes:
    """Overwrite, insert, remove, repeat or cut somewhere."""
    place, length = random.randrange(len(content) + 1), random.choice([1, 2, 8, 64])
    head, tail = content[:place], content[place:]
    return random.choice(
        [
            head,
            head + random.choice(NUMBERS) + tail,
            head + (value := random.choice(NUMBERS)) + tail[len(value) :],
            head + bytes([random.randrange(256)]) + tail[1:],
            head + tail[length:],
            head + tail[:length] + tail,
        ]
    )


def damage_text(content: bytes, random: random.Random) -> bytes:
    """Put something unexpected in place of a number, a text or a name."""
    places = [match.span() for match in TOKEN.finditer(content)]
    if not places:
        return damage_bytes(content, random)
    start, stop = random.choice(places)
    return content[:start] + random.choice(TOKENS) + content[stop:]


def damage_tree(content: bytes, random: random.Random) -> bytes:
    """Put something else in place of a part of JSON, or of one of its lines, or leave the part out."""
    lines = content.splitlines() if content.startswith(b'{"') else [content]
    chosen = random.randrange(len(lines))
    value: Any = json.loads(lines[chosen])
    *path, last = random.choice(places(value))
    parent = value
    for key in path:
        parent = parent[key]
    if random.random() < 0.25:
        del parent[last]
    else:
        parent[last] = random.choice(VALUES)
    lines[chosen] = json.dumps(value).encode()
    return b"\n".join(lines)


def damage_member(content: bytes, random: random.Random) -> bytes:
    """Damage a member of an archive, with checksums that agree: what somebody does who means it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    chosen = random.choice([n for n, (name, _) in enumerate(members) if name.endswith((".pkl", ".npy"))])
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, member) in enumerate(members):
            archive.writestr(name, damage_bytes(member, random) if number == chosen else member)
    return written.getvalue()


def damage(content: bytes, random: random.Random) -> bytes:
    """One or two damages of the kinds that fit the file."""
    kinds = [damage_bytes]
    if content.startswith(b"PK\x03\x04"):
        kinds = [damage_bytes, damage_member, damage_member]
    elif b"\x00" not in content[:4096]:
        kinds = [damage_bytes, damage_text, damage_text]
        if content.lstrip()[:1] in (b"{", b"["):
            kinds += [damage_tree] * 3
    return random.choice(kinds)(content, random)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_files_give_our_errors_only(folder: Path, name: str) -> None:
    source = folder / name
    SOURCES[name](source)
    assert zs.import_zoo(source, epochs="all").models is not None
    files = files_of(source)

    @settings(max_examples=25)
    @given(st.randoms(use_true_random=False), st.sampled_from(files))
    def check(random: random.Random, path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(damage(content, random))
        try:
            with contextlib.suppress(zs.ZoosparseError):
                zs.import_zoo(source, epochs="all")
        finally:
            path.write_bytes(content)

    check()
