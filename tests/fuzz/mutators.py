"""Damage for files: bytes, texts, JSON documents and pictures, from one random generator, so that a seed tells all.

Every mutator takes an input and the corpus (for splices) and returns another input. Structure-aware ones keep what
surrounds the damage sound (checksums, lengths), so that parsers get past their first check.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[bytes, Sequence[bytes], Random], bytes]

INTEGERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31)
HUGE = (2**32 - 1, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = ("0", "-0", "-1", "nan", "inf", "-inf", "1e400", "1e308", "1e-310", "1e200", "9" * 400, "9" * 5000, "0x1")
WORDS = ("", "--", "1_0", "1,0", "\x00", "１", "true", "None", "..", "/", "%00", "\n", "\ud800", "<script>", "x" * 300)
PATHS = (
    "../../etc/hostname",
    "/etc/hostname",
    "file:///etc/hostname",
    "http://127.0.0.1:9/x",
    "a/../../b",
    "~/x",
    "./.",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 10**30, -(10**400), 2**31, 2**63, 1e308, -1e-310, float("nan"), float("inf")),
    *("", "x" * 300, "\0", "\ud800", "nan", "s3://", "\u202e", *PATHS, [], [[]], [[[[1]]]], {}, {"a": {}}, [None] * 4),
    *(
        [[1e200] * 4] * 4,
        [["1"] * 4] * 4,
        [[0.0] * 4] * 4,
        {"": ""},
        [0] * 300,
        "1" * 5000,
        ["\ud800"],
        {"../x": "../y"},
    ),
)


def damage_bytes(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """One to four of: flipped bits, odd integers, cuts, repeats, splices."""
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_BYTE_DAMAGES)(data, corpus, random)
    return data


def _flip(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _integer(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """A length, count or size field that lies; headers come first, so early places are likelier."""
    width = random.choice((1, 2, 4, 8))
    number = random.choice(INTEGERS + HUGE) % (1 << 8 * width)
    at = random.randrange(max(1, min(len(data), random.choice((32, 128, 512, 1 << 30)))))
    return data[:at] + number.to_bytes(width, random.choice(("little", "big"))) + data[at + width :]


def _float(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(max(1, min(len(data), 512))) & ~3
    value = random.choice((0.0, -1.0, 1e-40, 3e38, float("inf"), float("nan"), 1.0, 1e10))
    return data[:at] + struct.pack("<f", value) + data[at + 4 :]


def _cut(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _remove(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.randint(1, 64) :]


def _repeat(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at : at + random.randint(1, 200)] * random.randint(1, 8) + data[at:]


def _splice(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(corpus)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _extend(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    return data + random.randbytes(random.randint(1, 64))


_BYTE_DAMAGES: tuple[Mutator, ...] = (_flip, _integer, _integer, _float, _cut, _remove, _repeat, _splice, _extend)


def damage_text(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """Words replaced, removed or repeated; sometimes bytes."""
    words = data.decode("utf-8", "surrogateescape").split(" ")
    if not words or random.random() < 0.2:
        return damage_bytes(data, corpus, random)
    at = random.randrange(len(words))
    action = random.randrange(4)
    if action == 0:
        del words[at]
    elif action == 1:
        words[at:at] = words[at : at + random.randint(1, 16)]
    else:
        words[at] = random.choice(NUMBERS + WORDS)
    return " ".join(words).encode("utf-8", "surrogatepass" if action == 3 else "replace")


def tangled(value: Any, random: Random) -> Any:
    """JSON data with one value, key or length anywhere changed."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return random.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, copy = random.choice(keys), value.copy()
    action = random.random()
    if action < 0.08:
        del copy[key]
    elif action < 0.14 and isinstance(copy, dict):
        copy[random.choice((key.upper(), key + "x", "", "__proto__", *PATHS))] = copy.pop(key)
    elif action < 0.18 and isinstance(copy, list):
        copy[key:key] = copy[key : key + 3] * random.randint(1, 5)
    else:
        copy[key] = tangled(copy[key], random)
    return copy


def damage_json(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """The document changed as data, or its text damaged, or a bomb of brackets or digits."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return damage_bytes(data, corpus, random)
    action = random.random()
    if action < 0.15:
        return damage_bytes(data, corpus, random)
    if action < 0.18:
        return random.choice((b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b"\xff\xfe" + data, b'"\\ud800"', b""))
    for _ in range(random.choice((1, 1, 2))):
        document = tangled(document, random)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def damage_png(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """Damage whose checksums are then mended, so that it reaches the codec."""
    if random.random() < 0.25 or not data.startswith(b"\x89PNG"):
        return damage_bytes(data, corpus, random)
    chunks = list(png_chunks(data))
    if not chunks:
        return damage_bytes(data, corpus, random)
    at = random.randrange(len(chunks))
    kind, body = chunks[at]
    action = random.randrange(6)
    if action == 0:
        del chunks[at]
    elif action == 1:
        chunks.insert(random.randrange(len(chunks)), (kind, body))
    elif action == 2:
        chunks[at] = (
            random.choice((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"zTXt", b"iCCP")),
            body,
        )
    elif kind == b"IHDR":
        chunks[at] = (kind, _damaged_header(body, random))
    else:
        chunks[at] = (kind, damage_bytes(body, [body], random))
    return png_file(chunks)


def _damaged_header(body: bytes, random: Random) -> bytes:
    fields = list(struct.unpack(">IIBBBBB", body[:13].ljust(13, b"\0")))
    at = random.randrange(7)
    sizes, rest = (1, 8, 16, 31, 33, 255, 5000, 10_000, 70_000, *INTEGERS, 2**32 - 1), (0, 1, 2, 3, 4, 6, 8, 16, 255)
    fields[at] = random.choice(sizes) % 2**32 if at < 2 else random.choice(rest)
    return struct.pack(">IIBBBBB", *fields)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of the chunks that are whole."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_file(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG with right lengths and checksums."""
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
