import json
from datetime import timedelta

import pytest

from shared.kernel.errors import Misconfigured
from whatsapp_simulator import SimulatorConfig

MARK = "EAAG-canary-91be"
NUMBER = {
    "phone_number_id": "1001",
    "display_phone_number": "+1 555-0100",
    "waba_id": "2001",
    "access_token": MARK,
    "messages_per_second": 250,
}


def test_durations_are_read_in_seconds_and_secrets_do_not_show(tmp_path):
    path = tmp_path / "simulator.json"
    path.write_text(
        json.dumps(
            {
                "app_secret": MARK,
                "numbers": [NUMBER],
                "latency_seconds": 0.25,
                "statuses": {"sent_seconds": 1.5},
                "webhooks": {"retry_delays_seconds": [0, 2]},
            }
        )
    )

    config = SimulatorConfig.from_json(path)

    assert config.latency == timedelta(milliseconds=250)
    assert config.statuses.sent == timedelta(seconds=1.5)
    assert config.webhooks.retry_delays == (timedelta(), timedelta(seconds=2))
    assert config.numbers[0].messages_per_second == 250
    assert config.numbers[0].access_token.reveal() == MARK
    assert MARK not in repr(config)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"port": MARK}, "port"),
        ({"colour": MARK}, "colour"),
        ({"app_secret": ""}, "app_secret"),
        ({"latency_seconds": -1}, "latency"),
        ({"numbers": [{**NUMBER, "messages_per_second": 0}]}, "numbers.0.messages_per_second"),
        ({"numbers": [{**NUMBER, "phone_number_id": MARK}]}, "numbers.0.phone_number_id"),
    ],
)
def test_a_wrong_setting_is_named_and_no_value_is_shown(wrong, where):
    with pytest.raises(Misconfigured) as refused:
        SimulatorConfig.from_json({"app_secret": MARK, **wrong})

    assert where in str(refused.value)
    assert MARK not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_file_that_is_no_object_is_refused(tmp_path, content):
    path = tmp_path / "simulator.json"
    path.write_text(content)

    with pytest.raises(Misconfigured):
        SimulatorConfig.from_json(path)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    missing, broken = tmp_path / "missing.json", tmp_path / "broken.json"
    broken.write_text('{\n"port": canary}')

    with pytest.raises(Misconfigured, match=rf"{missing}: No such file"):
        SimulatorConfig.from_json(missing)
    with pytest.raises(Misconfigured, match=rf"{broken}: no JSON at line 2, column \d+") as refused:
        SimulatorConfig.from_json(broken)
    assert "canary" not in str(refused.value)


def test_the_environment_overrides_the_file(tmp_path):
    path = tmp_path / "simulator.json"
    path.write_text(json.dumps({"app_secret": MARK, "port": 1, "numbers": [NUMBER]}))

    config = SimulatorConfig.from_env(
        {
            "TELLWIRE_SIMULATOR_CONFIG": str(path),
            "TELLWIRE_SIMULATOR_PORT": "9999",
            "TELLWIRE_SIMULATOR_WEBHOOK_URL": "http://127.0.0.1/hook",
            "PATH": "/bin",
        }
    )

    assert (config.port, config.webhook_url) == (9999, "http://127.0.0.1/hook")
    assert config.app_secret.reveal() == MARK
    assert len(config.numbers) == 1


def test_what_the_environment_lacks_is_called_by_its_variable():
    with pytest.raises(Misconfigured) as refused:
        SimulatorConfig.from_env({"TELLWIRE_SIMULATOR_PORT": MARK})

    assert "TELLWIRE_SIMULATOR_APP_SECRET: Field required" in str(refused.value)
    assert "TELLWIRE_SIMULATOR_PORT: " in str(refused.value)
    assert MARK not in str(refused.value)
