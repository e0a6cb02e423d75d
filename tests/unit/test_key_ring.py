import base64
import copy
import json
import pickle
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.infrastructure.encryption import InvalidKeyRing, KeyFile, KeyRing
from shared.infrastructure.encryption.errors import (
    DuplicateKey,
    EmptyKeyRing,
    InvalidKeyId,
    KeyFileExposed,
    KeyFileUnreadable,
    KeyInUse,
    KeyNotInRing,
    MalformedKey,
    WrongKeyLength,
)
from shared.kernel.secret import Secret


def _key(byte: int, length: int = 32) -> str:
    return base64.urlsafe_b64encode(bytes([byte]) * length).decode().rstrip("=")


ONE, TWO, THREE = _key(0xA1), _key(0xB2), _key(0xC3)


def test_the_first_key_of_the_setting_is_the_primary():
    ring = KeyRing.parse(f"7:{ONE},3:{TWO}, 4294967295:{THREE}=")

    assert ring.primary == 7
    assert ring.ids == (7, 3, 4294967295)
    assert ring.material(3) == b"\xb2" * 32
    assert ring.to_setting().reveal() == f"7:{ONE},3:{TWO},4294967295:{THREE}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", EmptyKeyRing),
        (" \n", EmptyKeyRing),
        (f"1:{ONE},1:{TWO}", DuplicateKey),
        (f"1:{ONE},01:{TWO}", DuplicateKey),
        (f"1:{ONE},2:{ONE}", DuplicateKey),
        (f"1:{_key(0xA1, 31)}", WrongKeyLength),
        (f"1:{_key(0xA1, 33)}", WrongKeyLength),
        (f"1:{ONE[:-2]}", WrongKeyLength),
        ("1:", WrongKeyLength),
        (f"4294967296:{ONE}", InvalidKeyId),
        (f"-1:{ONE}", MalformedKey),
        (f"one:{ONE}", MalformedKey),
        (ONE, MalformedKey),
        (f"1:{ONE},", MalformedKey),
        (f"1:{ONE[:-1]}+", MalformedKey),
        (f"1:{ONE[:20]} {ONE[20:]}", MalformedKey),
        (f"1={ONE}", MalformedKey),
        (f"\u0661:{ONE}", MalformedKey),
    ],
)
def test_a_wrong_setting_is_refused_without_showing_any_of_it(text, error):
    with pytest.raises(InvalidKeyRing) as refused:
        KeyRing.parse(text)

    assert type(refused.value) is error
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    for shown in (str(refused.value), repr(refused.value), refused.value.detail):
        assert not any(part in shown for part in (ONE[:12], TWO[:12], _key(0xA1, 31)[:12]))


def test_a_ring_is_also_parsed_from_a_secret():
    assert KeyRing.parse(Secret(f"1:{ONE}")).ids == (1,)


def test_rotation_adds_a_key_then_promotes_it_then_takes_the_old_one_out():
    first = KeyRing.generate()
    added = first.with_key()
    promoted = added.promote(2)
    last = promoted.without_key(1)

    assert [ring.ids for ring in (first, added, promoted, last)] == [(1,), (1, 2), (2, 1), (2,)]
    assert promoted.material(1) == first.material(1)
    assert first.ids == (1,), "a ring does not change"


def test_the_steps_of_a_rotation_refuse_what_would_lose_data():
    ring = KeyRing.generate(5).with_key(9)

    with pytest.raises(KeyInUse):
        ring.without_key(5)
    with pytest.raises(KeyNotInRing):
        ring.without_key(1)
    with pytest.raises(KeyNotInRing):
        ring.promote(1)
    with pytest.raises(KeyNotInRing):
        ring.material(1)
    with pytest.raises(DuplicateKey):
        ring.with_key(9)
    with pytest.raises(WrongKeyLength):
        ring.with_key(key=Secret("short"))
    with pytest.raises(InvalidKeyId):
        KeyRing.generate(2**32)


def test_generated_keys_differ():
    assert KeyRing.generate().material(1) != KeyRing.generate().material(1)


def test_check_values_tell_equal_keys_from_different_ones_without_showing_them():
    ring = KeyRing.parse(f"1:{ONE},2:{TWO}")

    assert ring.check_value(1) == KeyRing.parse(f"8:{ONE}").check_value(8)
    assert ring.check_value(1) != ring.check_value(2)
    assert len(ring.check_value(1)) == 8


@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda r: f"{r!r:>200}"])
def test_a_ring_shows_its_ids_and_nothing_else(show):
    shown = show(KeyRing.parse(f"1:{ONE},2:{TWO}"))

    assert "KeyRing(primary=1, ids=[1, 2])" in shown
    assert ONE[:8] not in shown
    assert "xa1" not in shown


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_a_ring_refuses_to_leave_the_process(leave):
    with pytest.raises(TypeError) as refused:
        leave(KeyRing.parse(f"1:{ONE}"))

    assert ONE[:8] not in str(refused.value)


def test_the_keys_of_a_ring_cannot_be_replaced():
    ring = KeyRing.parse(f"1:{ONE}")

    with pytest.raises(TypeError):
        ring.keys[1] = Secret(TWO)
    with pytest.raises(AttributeError):
        ring.primary = 2


def test_a_key_file_keeps_the_ring_for_its_owner_only(tmp_path):
    file = KeyFile(tmp_path / "new" / "keys")
    ring = KeyRing.parse(f"2:{TWO},1:{ONE}")

    file.save(ring)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.load().to_setting() == ring.to_setting()
    assert [path.name for path in file.path.parent.iterdir()] == ["keys"]


def test_saving_replaces_the_file_as_a_whole(tmp_path):
    file = KeyFile(tmp_path / "keys")
    file.save(KeyRing.parse(f"1:{ONE}"))
    file.save(file.load().with_key(2, key=Secret(TWO)).promote(2))

    assert file.load().ids == (2, 1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path, mode):
    file = KeyFile(tmp_path / "keys")
    file.save(KeyRing.parse(f"1:{ONE}"))
    file.path.chmod(mode)

    with pytest.raises(KeyFileExposed, match="keys"):
        file.load()
    with pytest.raises(KeyFileExposed):
        file.load_or_generate()


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(KeyFileUnreadable, match="absent: No such file"):
        KeyFile(tmp_path / "absent").load()


def test_a_key_file_that_holds_something_else_is_refused(tmp_path):
    file = KeyFile(tmp_path / "keys")
    file.path.touch(mode=0o600)
    with pytest.raises(EmptyKeyRing):
        file.load()

    file.path.write_bytes(b"\xff\x00 binary")
    with pytest.raises(MalformedKey):
        file.load()


def test_a_key_file_may_carry_comments_and_blank_lines(tmp_path):
    file = KeyFile(tmp_path / "keys")
    file.path.touch(mode=0o600)
    file.path.write_text(f"# made by hand\n\n2:{TWO}\n  # older\n1:{ONE}\n")

    assert file.load().ids == (2, 1)


@pytest.mark.parametrize("attempt", range(5))
def test_whoever_starts_at_the_same_time_gets_the_same_generated_key(tmp_path, attempt):
    file, ready = KeyFile(tmp_path / f"keys-{attempt}"), threading.Barrier(8)

    def start(_):
        ready.wait()
        return file.load_or_generate().to_setting().reveal()

    with ThreadPoolExecutor(8) as pool:
        rings = set(pool.map(start, range(8)))

    assert rings == {file.load().to_setting().reveal()}
    assert list(tmp_path.iterdir()) == [file.path]
