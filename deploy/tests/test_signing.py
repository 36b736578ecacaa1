import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest

from skmode_deploy import bundle, errors

pytest.importorskip("model_signing", exc_type=ImportError)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from skmode_deploy.signing import sign, verify_signature


def write_keys(folder, name, key, password=None):
    encryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, pkcs8, encryption))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, public))
    return folder / f"{name}.key", folder / f"{name}.pub"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_keys(
        tmp_path_factory.mktemp("keys"), "mine", ec.generate_private_key(ec.SECP256R1())
    )


@pytest.fixture
def signed(table_bundle, keys):
    sign(table_bundle, keys[0])
    return table_bundle


def test_a_signed_bundle_is_accepted(signed, keys):
    manifest = bundle.verify(signed, sha256=verify_signature(signed, keys[1]))
    assert manifest == bundle.read(signed)
    assert sorted(path.name for path in signed.iterdir()) == sorted(
        [*manifest.files, "manifest.json", "model.sig"]
    )


def test_a_copy_or_a_link_under_another_name_is_accepted(signed, keys, tmp_path):
    shutil.copytree(signed, tmp_path / "copy")
    os.symlink(signed, tmp_path / "current")
    expected = verify_signature(signed, keys[1])
    assert verify_signature(tmp_path / "copy", keys[1]) == expected
    assert verify_signature(tmp_path / "current", str(keys[1])) == expected


def test_signing_again_replaces_the_signature(signed, keys, tmp_path):
    key, public = write_keys(tmp_path, "other", ec.generate_private_key(ec.SECP384R1()), b"secret")
    sign(signed, key, password="secret")
    verify_signature(signed, public)
    with pytest.raises(errors.SignatureError):
        verify_signature(signed, keys[1])


def test_the_command_line_of_model_signing_verifies_too(signed, keys):
    done = subprocess.run(
        [
            sys.executable, "-m", "model_signing", "verify", "key", str(signed),
            "--signature", str(signed / "model.sig"), "--public_key", str(keys[1]),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_made_by_openssl(table_bundle, tmp_path):
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for command in (
        ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
        ["ec", "-in", key, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    sign(table_bundle, key)
    verify_signature(table_bundle, public)


def files(folder):
    return sorted(path for path in folder.iterdir() if path.name != "model.sig")


def test_changed_files_are_refused(signed, keys):
    for path in files(signed):
        manifest = path.name == "manifest.json"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        mismatch = "ManifestError" if manifest else f"Hash mismatch for '{path.name}'"
        with pytest.raises(errors.SignatureError, match=mismatch):
            verify_signature(signed, keys[1])
        path.write_bytes(data + b"x")
        mismatch = "ManifestError" if manifest else f"FileSizeError: {path.name} must have the"
        with pytest.raises(errors.SignatureError, match=mismatch) as error:
            verify_signature(signed, keys[1])
        assert ".." not in str(error.value).replace("...", "")
        path.unlink()
        missing = "a folder with a manifest" if manifest else f"Missing files .*{path.name}"
        with pytest.raises(errors.SignatureError, match=missing):
            verify_signature(signed, keys[1])
        path.symlink_to(os.devnull)
        with pytest.raises(errors.SignatureError, match="link"):
            verify_signature(signed, keys[1])
        path.unlink()
        path.write_bytes(data)
    verify_signature(signed, keys[1])
    for name in ("extra", ".gitignore"):
        (signed / name).write_text("x")
        with pytest.raises(errors.SignatureError, match=f"Extra files .*{name}"):
            verify_signature(signed, keys[1])
        (signed / name).unlink()


def refuse_to_hash(monkeypatch):
    def fail(*arguments, **parameters):
        raise AssertionError("a file was hashed")

    monkeypatch.setattr("model_signing.hashing.Config.hash", fail)


def test_limits_come_before_hashes(signed, keys, monkeypatch):
    """Huge files that somebody puts there do not waste time."""
    manifest = bundle.read(signed)
    total = sum(file.size for file in manifest.files.values())
    verify_signature(signed, keys[1], max_bytes=total)
    refuse_to_hash(monkeypatch)
    with pytest.raises(errors.LimitError, match=f"at most {total - 1} bytes in total, got {total}"):
        verify_signature(signed, keys[1], max_bytes=total - 1)
    with pytest.raises(ValueError, match="max_bytes must be an integer of at least 1, got 'x'"):
        verify_signature(signed, keys[1], max_bytes="x")
    (signed / "extra").touch()
    os.truncate(signed / "extra", 2**33)
    with pytest.raises(errors.SignatureError, match=r"Extra files beside manifest\.json: 'extra'"):
        verify_signature(signed, keys[1])
    (signed / "extra").unlink()
    os.truncate(signed / "model.onnx", 2**33)
    with pytest.raises(errors.SignatureError, match=f"FileSizeError.* got {2**33}"):
        verify_signature(signed, keys[1])


def test_other_files_are_not_hashed_to_be_signed(table_bundle, keys, monkeypatch):
    refuse_to_hash(monkeypatch)
    (table_bundle / "extra").touch()
    os.truncate(table_bundle / "extra", 2**33)
    with pytest.raises(errors.SignatureError, match="a difference in 'extra': remove"):
        sign(table_bundle, keys[0])


def test_a_manifest_that_fits_changed_files_is_refused(signed, keys):
    """Whoever can write the folder can write right hashes, but not sign them."""
    manifest = bundle.read(signed)
    contents = {name: (signed / name).read_bytes() for name in manifest.files}
    signature = (signed / "model.sig").read_bytes()
    bundle.write(signed, dataclasses.replace(manifest, notes="evil"), contents)
    with pytest.raises(errors.SignatureError, match=r"reading its model\.sig failed"):
        verify_signature(signed, keys[1])
    (signed / "model.sig").write_bytes(signature)
    bundle.verify(signed)
    with pytest.raises(errors.SignatureError, match=r"Hash mismatch for 'manifest\.json'"):
        verify_signature(signed, keys[1])


def test_changes_after_the_check_are_refused(signed, keys):
    digest = verify_signature(signed, keys[1])
    manifest = bundle.read(signed)
    contents = {name: (signed / name).read_bytes() for name in manifest.files}
    bundle.write(signed, dataclasses.replace(manifest, notes="evil"), contents)
    for check in (bundle.read, bundle.verify):
        with pytest.raises(errors.ManifestChangedError, match=f"{digest} that was signed"):
            check(signed, sha256=digest)


def test_other_keys_are_refused(signed, tmp_path):
    other = write_keys(tmp_path, "other", ec.generate_private_key(ec.SECP256R1()))[1]
    with pytest.raises(errors.SignatureError, match=r"other\.pub.*pass the public key of whoever"):
        verify_signature(signed, other)
    # The hint at the key is not signed; without it the signature itself must give it away.
    document = json.loads((signed / "model.sig").read_text())
    del document["verificationMaterial"]["publicKey"]["hint"]
    (signed / "model.sig").write_text(json.dumps(document))
    with pytest.raises(errors.SignatureError, match="InvalidSignature"):
        verify_signature(signed, other)


def test_the_signature_of_another_bundle_is_refused(signed, make_regressor, keys):
    other = make_regressor()
    sign(other, keys[0])
    shutil.copy(other / "model.sig", signed / "model.sig")
    with pytest.raises(errors.SignatureError, match=r"Hash mismatch for 'manifest\.json'"):
        verify_signature(signed, keys[1])


def test_a_signature_that_leaves_files_out_is_refused(signed, keys):
    """Signed by the same key with the library itself, but not as a bundle is signed."""
    from model_signing import hashing, signing

    config = hashing.Config().use_file_serialization()
    config.set_ignored_paths(paths=["model.sig", "manifest.json"])
    signing.Config().use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(config).sign(
        signed, signed / "model.sig"
    )
    with pytest.raises(errors.SignatureError, match="Extra files"):
        verify_signature(signed, keys[1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "\0",
        '{"verificationMaterial": {}}',
        '{"verificationMaterial": []}',
        "9" * 9999,
    ],
)
def test_broken_signatures_are_refused(text, signed, keys):
    (signed / "model.sig").write_text(text)
    with pytest.raises(errors.SignatureError, match=r"model\.sig must be a signature"):
        verify_signature(signed, keys[1])


def test_missing_signatures_are_refused(table_bundle, keys, tmp_path):
    with pytest.raises(errors.SignatureError, match=r"sign it with skmode_deploy\.signing\.sign"):
        verify_signature(table_bundle, keys[1])
    (tmp_path / "elsewhere").write_text("{}")
    (table_bundle / "model.sig").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.LinkError, match="is a link"):
        verify_signature(table_bundle, keys[1])


def test_changed_bytes_of_the_signature_never_change_what_was_signed(signed, keys):
    path = signed / "model.sig"
    data, digest = path.read_bytes(), verify_signature(signed, keys[1])
    for position in range(0, len(data), 23):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            assert verify_signature(signed, keys[1]) == digest
        except errors.SignatureError:
            continue


def test_only_valid_bundles_are_signed(table_bundle, keys):
    (table_bundle / "stray").write_text("left by someone")
    with pytest.raises(errors.SignatureError, match="a difference in 'stray': remove"):
        sign(table_bundle, keys[0])
    (table_bundle / "stray").unlink()
    (table_bundle / "README.md").write_text("changed")
    with pytest.raises(errors.FileSizeError):
        sign(table_bundle, keys[0])
    (table_bundle / "README.md").unlink()
    (table_bundle / "link").symlink_to(table_bundle)
    with pytest.raises(errors.MissingFileError):
        sign(table_bundle, keys[0])
    assert not any("model.sig" in path.name for path in table_bundle.iterdir())


def test_links_are_not_signed(table_bundle, keys):
    (table_bundle / "link").symlink_to(os.devnull)
    with pytest.raises(errors.SignatureError, match="a difference in 'link': remove"):
        sign(table_bundle, keys[0])


def test_invalid_keys_are_refused(signed, keys, tmp_path):
    rsa_keys = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    curve_keys = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256K1()))
    locked = write_keys(tmp_path, "locked", ec.generate_private_key(ec.SECP256R1()), b"secret")[0]
    for key, public in (rsa_keys, curve_keys, (keys[1], keys[0]), (locked, locked)):
        with pytest.raises(ValueError, match="private_key must be a PEM file of a key on the"):
            sign(signed, key)
        with pytest.raises(ValueError, match="public_key must be a PEM file of a key on the"):
            verify_signature(signed, public)
    with pytest.raises(ValueError, match="with its password if it is encrypted"):
        sign(signed, locked, password="wrong")
    with pytest.raises(FileNotFoundError, match="public_key must be a file that can be read, got"):
        verify_signature(signed, tmp_path / "nowhere.pub")
    with pytest.raises(
        ValueError, match=r"openssl ec -pubout` writes it, not the private"
    ) as error:
        verify_signature(signed, keys[0])
    assert "encrypted" not in str(error.value)
    for call in (lambda: sign(signed, rsa_keys[0]), lambda: verify_signature(signed, rsa_keys[1])):
        with pytest.raises(ValueError, match="gave a key of another kind, such as RSA. Pass such"):
            call()


def test_invalid_paths_raise(signed, keys):
    for path, error in ((None, TypeError), ("", ValueError)):
        with pytest.raises(error, match=f"public_key must be a path.*got {path!r}: pass"):
            verify_signature(signed, path)
        with pytest.raises(error, match=f"private_key must be a path.*got {path!r}: pass"):
            sign(signed, path)
        with pytest.raises(error, match=f"directory must be a path.*got {path!r}: pass"):
            verify_signature(path, keys[1])
        with pytest.raises(error, match=f"directory must be a path.*got {path!r}: pass"):
            sign(path, keys[0])


def test_the_message_without_the_library(signed, keys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for call in (lambda: sign(signed, keys[0]), lambda: verify_signature(signed, keys[1])):
        with pytest.raises(ImportError, match=r"pip install '\./deploy\[signing\]'"):
            call()
