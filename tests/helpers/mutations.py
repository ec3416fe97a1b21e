"""Damage as disks, transfers and editors do it: bytes cut, flipped, repeated, and meaningless numbers."""

NUMBERS = (b"-1", b"0", b"1e-300", b"1e300", b"NaN", b"Infinity", b"null", b"true", b'"x"', b"[]", b"{}", b"9" * 401)


def mutated(data, draw):
    """Some bytes with a fault or a few.

    Args:
        data: the whole ones.
        draw: `random.Random`.
    """
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = draw.randrange(len(out) + 1)
        kind = draw.randrange(8)
        if kind == 0:
            del out[place:]
        elif kind == 1 and out:
            out[place % len(out)] ^= 1 << draw.randrange(8)
        elif kind == 2:
            out[place:place] = draw.randbytes(draw.choice((1, 4, 64)))
        elif kind == 3:
            del out[place : place + draw.choice((1, 4, 64, 4096))]
        elif kind == 4:
            out[place:place] = out[place : place + 256]
        elif kind == 5:
            out[place : place + 8] = draw.choice((b"\0" * 8, b"\xff" * 8))
        elif kind == 6:
            out[:] = draw.choice((b"", b"\0", b"{}", b"[]", b"null", b"[" * 20_000, draw.randbytes(64)))
        else:
            _replace_number(out, draw)
    return bytes(out)


def _replace_number(out, draw):
    starts = [i for i, c in enumerate(out) if chr(c).isdigit() and (i == 0 or not chr(out[i - 1]).isdigit())]
    if not starts:
        return
    start = end = draw.choice(starts[:2000])
    while end < len(out) and chr(out[end]) in "0123456789.e+-":
        end += 1
    out[start:end] = draw.choice(NUMBERS)
