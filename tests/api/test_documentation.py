"""What the API says about itself: the page for people, and metrics for whoever may read them."""

import re

import pytest
from pydantic import SecretStr


async def test_the_page_loads_nothing_from_elsewhere(client) -> None:
    page = await client.get("/docs")

    assert page.status_code == 200
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) == 3
    for address in loaded:
        assert address.startswith("/docs/assets/")
        asset = await client.get(address)
        assert asset.status_code == 200, address
        assert len(asset.content) > 1000
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert '"validatorUrl": null' in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")


@pytest.mark.parametrize("name", ["redoc.standalone.js", "..%2F..%2Fcore.py", "core.py"])
async def test_nothing_else_of_the_package_is_served(client, name) -> None:
    answer = await client.get(f"/docs/assets/{name}")

    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


async def test_metrics_are_open_without_a_token(client) -> None:
    answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert "tellwire_http_requests_total" in answer.text


async def test_metrics_ask_for_the_token_that_is_set(settings, api_running) -> None:
    secret = "canary-metrics-token"
    guarded = settings.model_copy(update={"metrics_token": SecretStr(secret)})
    async with api_running(guarded) as client:
        for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {secret}"}):
            refused = await client.get("/metrics", headers=header)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert secret not in refused.text
        allowed = await client.get("/metrics", headers={"Authorization": f"Bearer {secret}"})

    assert (allowed.status_code, "tellwire_http" in allowed.text) == (200, True)
