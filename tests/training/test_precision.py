"""The arithmetic fits the machine, can be overridden, and says why."""

from __future__ import annotations

import pytest

from assets.errors import SettingsError
from assets.forecaster_config import ForecasterForm, forecaster_config
from training.config import ForecasterConfig
from training.network.precision import Device, choose_computation, decided_precision


@pytest.mark.parametrize(
    ("device", "precision", "xla"),
    [
        (Device("tensorflow"), "float32", False),
        (Device("tensorflow", "P100", (6, 0)), "float32", False),
        (Device("tensorflow", "V100", (7, 0)), "mixed_float16", True),
        (Device("tensorflow", "T4", (7, 5)), "mixed_float16", True),
        (Device("tensorflow", "A100", (8, 0)), "mixed_bfloat16", True),
        (Device("jax", "H200", (9, 0)), "mixed_bfloat16", True),
        (Device("jax"), "float32", True),
    ],
)
def test_what_the_machine_has_decides(device: Device, precision: str, xla: bool) -> None:
    config = ForecasterConfig()
    chosen = choose_computation(config, device)
    assert (chosen.precision, chosen.jit_compile) == (precision, xla)
    applied = chosen.applied(config)
    assert (decided_precision(applied), applied.jit_compile) == (precision, xla)
    record = chosen.record()
    assert (record["device"], record["precision"], record["xla"]) == (
        device.name,
        precision,
        str(xla).lower(),
    )
    told = "no GPU" if device.capability is None else f"{device.capability[0]}.{device.capability[1]}"
    assert told in record["computation_reason"]


def test_settings_overrule_it() -> None:
    gpu = Device("tensorflow", "H200", (9, 0))
    config = ForecasterConfig(precision="float32", jit_compile=False)
    chosen = choose_computation(config, gpu)
    assert (chosen.precision, chosen.jit_compile) == ("float32", False)
    assert "precision set to float32; XLA set off" in chosen.reason
    with pytest.raises(ValueError, match="still to be chosen"):
        decided_precision(ForecasterConfig())


def test_the_launchpad_offers_both() -> None:
    form = ForecasterForm(precision="mixed_float16", jit_compile=True, targets="every")
    config = forecaster_config(form)
    assert (config.precision, config.jit_compile, config.targets) == ("mixed_float16", True, "every")
    default = forecaster_config(ForecasterForm())
    assert (default.precision, default.jit_compile) == ("auto", None)
    with pytest.raises(SettingsError, match="mixed_bfloat16"):
        forecaster_config(ForecasterForm(precision="float8"))
