import copy
import json
import os
import pickle
import struct
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from shared.infrastructure.encryption import (
    Binding,
    DecryptionFailed,
    EncryptionManager,
    EncryptionNotConfigured,
    InvalidSecret,
    KeyRing,
    Malformed,
    Tampered,
    UnknownKeyId,
    UnknownVersion,
    configure_encryption,
    current_encryption,
)
from shared.kernel.secret import Secret

MARK = "EAAG-canary-7f3a"
ALPHA, BETA = UUID(int=0xA), UUID(int=0xB)
HERE = Binding("channels", "access_token", ALPHA)
KEYS = "7:{},3:{}".format("QUFB" * 10 + "QUE", "QkJC" * 10 + "QkI")


@pytest.fixture(scope="module")
def manager():
    return EncryptionManager(KeyRing.parse(KEYS))


def _chain(error):
    """Everything that a tracker walking the exception could find."""
    found, todo = [], [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__]
    shown = ["".join(traceback.format_exception(error))]
    return " ".join([*shown, *(f"{e!r} {e} {vars(e)}" for e in found)])


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_what_was_encrypted_comes_back(manager, text):
    assert manager.decrypt(manager.encrypt(Secret(text), HERE), HERE) == Secret(text)
    assert manager.decrypt(manager.encrypt(text, HERE), HERE) == Secret(text)


def test_the_format_is_the_documented_one_and_opens_without_our_code(manager):
    stored = manager.encrypt(MARK, HERE)

    assert stored[:5] == b"\x01" + struct.pack(">I", 7)
    assert len(stored) == 5 + 12 + len(MARK) + 16

    def lp(part):
        return struct.pack(">I", len(part)) + part

    info = b"tellwire/encryption/v1" + lp(b"channels") + lp(b"access_token")
    key = HKDF(SHA256(), 32, None, info).derive(b"A" * 32)
    associated = stored[:5] + lp(b"channels") + lp(b"access_token") + lp(ALPHA.bytes)
    assert AESGCM(key).decrypt(stored[5:17], stored[17:], associated) == MARK.encode()


def test_one_token_encrypted_twice_reads_differently(manager):
    assert manager.encrypt(MARK, HERE) != manager.encrypt(MARK, HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Binding("channels", "app_secret", ALPHA),
        Binding("webhook_endpoints", "access_token", ALPHA),
        Binding("channels", "access_token", BETA),
        Binding("channels", "access_token", None),
        Binding("channelsa", "ccess_token", ALPHA),
        Binding("channel", "saccess_token", ALPHA),
        Binding("Channels", "access_token", ALPHA),
    ],
)
def test_a_value_moved_to_another_column_table_or_tenant_does_not_open(manager, elsewhere):
    with pytest.raises(Tampered) as refused:
        manager.decrypt(manager.encrypt(MARK, HERE), elsewhere)
    with pytest.raises(Tampered):
        manager.decrypt(manager.encrypt(MARK, elsewhere), HERE)

    assert elsewhere.place in refused.value.detail


names = st.text("ab_", min_size=1, max_size=4)
bindings = st.builds(
    Binding, names, names, st.none() | st.integers(0, 3).map(lambda n: UUID(int=n))
)


@given(written=bindings, read=bindings)
def test_a_value_opens_exactly_where_it_was_written(manager, written, read):
    stored = manager.encrypt(MARK, written)

    if written == read:
        assert manager.decrypt(stored, read) == Secret(MARK)
    else:
        with pytest.raises(Tampered):
            manager.decrypt(stored, read)


def test_a_platform_secret_is_no_tenants_not_even_the_nil_tenants(manager):
    nobody, nil = Binding("apps", "secret", None), Binding("apps", "secret", UUID(int=0))

    assert manager.decrypt(manager.encrypt(MARK, nobody), nobody) == Secret(MARK)
    with pytest.raises(Tampered):
        manager.decrypt(manager.encrypt(MARK, nobody), nil)
    with pytest.raises(Tampered):
        manager.decrypt(manager.encrypt(MARK, nil), nobody)


def test_no_bit_of_a_stored_value_can_be_flipped(manager):
    stored = manager.encrypt(MARK * 12, HERE)

    for bit in range(len(stored) * 8):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionFailed) as refused:
            manager.decrypt(bytes(changed), HERE)
        expected = UnknownVersion if bit < 8 else UnknownKeyId if bit < 40 else Tampered
        # Bit 2 of the last id byte turns key 7 into key 3, which exists: the header is bound too.
        assert type(refused.value) is (Tampered if changed[4] == 3 else expected)
        assert MARK not in _chain(refused.value)


def test_a_value_cut_to_any_length_does_not_open(manager):
    stored = manager.encrypt(MARK * 12, HERE)

    for length in range(len(stored)):
        with pytest.raises(Malformed if length <= 33 else Tampered):
            manager.decrypt(stored[:length], HERE)
    with pytest.raises(Tampered):
        manager.decrypt(stored + b"\0", HERE)


@pytest.mark.parametrize("version", [0, 2, 0x45, 255])
def test_another_version_is_refused_and_plaintext_is_never_taken_for_a_value(manager, version):
    stored = bytes([version]) + manager.encrypt(MARK, HERE)[1:]

    with pytest.raises(UnknownVersion):
        manager.decrypt(stored, HERE)
    with pytest.raises(UnknownVersion):
        manager.key_id(stored)
    with pytest.raises(UnknownVersion):
        manager.decrypt(b"EAAG-a-token-in-the-clear-put-in-by-hand", HERE)


def test_a_value_under_a_key_that_is_gone_names_the_key(manager):
    newer = EncryptionManager(KeyRing.parse(KEYS).with_key(8).promote(8))

    with pytest.raises(UnknownKeyId, match=r"channels\.access_token needs key 8"):
        manager.decrypt(newer.encrypt(MARK, HERE), HERE)


def test_the_same_id_with_other_material_is_tampering():
    stored = EncryptionManager(KeyRing.generate()).encrypt(MARK, HERE)

    with pytest.raises(Tampered):
        EncryptionManager(KeyRing.generate()).decrypt(stored, HERE)


def _sealed_by_hand(nonce, clear):
    info = b"tellwire/encryption/v1" + b"\0\0\0\x08channels" + b"\0\0\0\x0caccess_token"
    key = AESGCM(HKDF(SHA256(), 32, None, info).derive(b"A" * 32))
    header = b"\x01\0\0\0\x07"
    associated = header + info[len("tellwire/encryption/v1") :] + b"\0\0\0\x10" + ALPHA.bytes
    return header + nonce + key.encrypt(nonce, clear, associated)


@pytest.mark.parametrize("length", [8, 11, 13, 16])
def test_a_nonce_of_another_length_does_not_open(manager, length):
    assert manager.decrypt(_sealed_by_hand(bytes(12), MARK.encode()), HERE) == Secret(MARK)
    with pytest.raises(Tampered):
        manager.decrypt(_sealed_by_hand(bytes(length), MARK.encode()), HERE)


@pytest.mark.parametrize("clear", [b"", MARK.encode() + b"\xff"])
def test_a_genuine_value_that_holds_no_text_is_malformed_and_not_shown(manager, clear):
    with pytest.raises(Malformed) as refused:
        manager.decrypt(_sealed_by_hand(bytes(12), clear), HERE)

    assert MARK not in _chain(refused.value)


@pytest.mark.parametrize("stored", [None, 17, "text", [1], b""])
def test_what_is_no_ciphertext_at_all_is_malformed(manager, stored):
    with pytest.raises(Malformed):
        manager.decrypt(stored, HERE)
    with pytest.raises(Malformed):
        manager.key_id(stored)


@pytest.mark.parametrize("plaintext", ["", Secret(""), None, 5, MARK.encode(), f"{MARK}\ud800"])
def test_what_cannot_be_stored_is_refused_without_being_shown(manager, plaintext):
    with pytest.raises(InvalidSecret) as refused:
        manager.encrypt(plaintext, HERE)

    assert refused.value.field == "access_token"
    assert MARK not in _chain(refused.value)


def test_a_rotated_ring_reads_old_values_and_tells_them_apart():
    old = EncryptionManager(KeyRing.generate())
    both = EncryptionManager(old.ring.with_key())
    new = EncryptionManager(both.ring.promote(2))
    before, after = old.encrypt(MARK, HERE), new.encrypt(MARK, HERE)

    assert [m.key_id(v) for m in (old, new) for v in (before, after)] == [1, 2, 1, 2]
    assert both.decrypt(after, HERE) == new.decrypt(before, HERE) == Secret(MARK)
    assert new.needs_rotation(before)
    assert not new.needs_rotation(after)
    assert not old.needs_rotation(before)


NONCES = 1_000_000


def test_a_million_nonces_are_all_different(manager):
    binding, encrypt = HERE, manager.encrypt
    nonces = {encrypt("x", binding)[5:17] for _ in range(NONCES)}

    assert len(nonces) == NONCES


# Newer Pythons warn of forking beside other threads; the child only encrypts and leaves.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forked_workers_share_no_randomness(manager):
    manager.encrypt("x", HERE)  # everything is warm before the fork, as in a pre-forking server
    readers = [_fork(manager) for _ in range(4)]
    nonces = [manager.encrypt("x", HERE)[5:17] for _ in range(5_000)]
    for pid, end in readers:
        with os.fdopen(end, "rb") as pipe:
            told = pipe.read()
        assert os.waitpid(pid, 0)[1] == 0
        assert len(told) == 5_000 * 12
        nonces += [told[i : i + 12] for i in range(0, len(told), 12)]

    assert len(set(nonces)) == len(nonces) == 25_000


def _fork(manager):
    end, told = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        try:
            values = b"".join(manager.encrypt("x", HERE)[5:17] for _ in range(5_000))
            with os.fdopen(told, "wb") as pipe:
                pipe.write(values)
        finally:
            os._exit(0)
    os.close(told)
    return pid, end


def test_threads_may_share_a_manager(manager):
    ready = threading.Barrier(8)

    def work(worker):
        binding = Binding("channels", f"column_{worker % 3}", UUID(int=worker))
        ready.wait()
        return all(
            manager.decrypt(manager.encrypt(f"{worker}-{n}", binding), binding).reveal()
            == f"{worker}-{n}"
            for n in range(500)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_manager_shows_key_ids_and_nothing_else(manager, show):
    manager.encrypt(MARK, HERE)

    assert show(manager) == "EncryptionManager(KeyRing(primary=7, ids=[7, 3]))"


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_a_manager_refuses_to_leave_the_process(manager, leave):
    with pytest.raises(TypeError) as refused:
        leave(manager)

    assert "QUFB" not in str(refused.value)


@pytest.fixture
def unconfigured():
    configure_encryption(None)
    yield
    configure_encryption(None)


@pytest.mark.usefixtures("unconfigured")
def test_encryption_is_configured_once_and_missed_loudly(manager):
    with pytest.raises(EncryptionNotConfigured, match="configure_encryption"):
        current_encryption()

    configure_encryption(manager)

    assert current_encryption() is manager
