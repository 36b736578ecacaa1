"""The options of a server are checked when they are given."""

import pytest

from skmode_deploy.serving.settings import Settings


def test_defaults_are_closed():
    settings = Settings("models")
    assert settings.host == "127.0.0.1"
    assert settings.management is False
    assert settings.token_file is None
    assert settings.max_body_bytes == 16 * 2**20
    assert settings.max_rows == 10_000
    assert settings.drain_seconds == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"http_port": 0}, "http_port must be from 1 to 65535, got 0: pass such a number"),
        ({"grpc_port": -1}, "grpc_port must be from 0 to 65535, got -1"),
        ({"metrics_port": 65536}, "metrics_port must be from 1 to 65535, got 65536"),
        ({"workers": 0}, "workers must be from 1 to 256, got 0"),
        ({"shadow": 1.1}, "shadow must be from 0 to 1, got 1.1"),
        ({"shadow": float("nan")}, "shadow must be from 0 to 1, got nan"),
        ({"deadline": 0.0}, "deadline must be from 0.01 to 3600, got 0.0"),
        ({"deadline": float("inf")}, "deadline must be from 0.01 to 3600, got inf"),
        ({"max_rows": 0}, "max_rows must be from 1 to 10000000, got 0"),
        ({"max_body_bytes": 2**31}, "max_body_bytes must be from 1024 to 2147483647"),
        ({"max_queue": -1}, "max_queue must be from 0 to 100000, got -1"),
        ({"drain_seconds": -1}, "drain_seconds must be from 0 to 3600, got -1"),
        ({"log_level": "INFO"}, "log_level must be one of .*'info'.*, got 'INFO'"),
        ({"tls_key": "key.pem"}, "tls_cert and tls_key must be given together, got one"),
        ({"token_file": "nowhere"}, "token_file must be a file, got 'nowhere'"),
        ({"public_key": "nowhere"}, "public_key must be a file, got 'nowhere'"),
        ({"max_pending_bytes": 2**20}, "max_pending_bytes must be at least max_body_bytes"),
        ({"grpc_port": 8080}, "must differ, got 8080, 8080, None"),
        ({"metrics_host": "::"}, "metrics_host must stand with metrics_port, got '::' alone"),
        ({"metrics_port": 8081}, "must differ, got 8080, 8081, 8081"),
    ],
)
def test_invalid_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Settings("models", **change)


def test_limits_are_inclusive(tmp_path):
    (tmp_path / "tokens").write_text("t")
    Settings("models", grpc_port=0, shadow=1, max_queue=0, drain_seconds=0, metrics_port=1)
    Settings("models", token_file=str(tmp_path / "tokens"))
