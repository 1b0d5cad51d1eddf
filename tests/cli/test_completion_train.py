"""Shells complete every choice, and every value of a setting that has only so many."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.launched import Said
from tests.support.plugins import PARTS


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("training.precision=", {"training.precision=fp32", "training.precision=bf16"}),
        ("training.compile=", {"training.compile=blocks", "training.compile=null"}),
        ("dry_run=", {"dry_run=true", "dry_run=false"}),
        ("optimizer.nesterov=f", {"optimizer.nesterov=false"}),
        ("outer=slowmo outer.buffers=", {"outer.buffers=reset", "outer.buffers=maintain", "outer.buffers=average"}),
        ("algorithm.unit=n", {"algorithm.unit=node"}),
        ("cluster.transport=s", {"cluster.transport=shared_memory", "cluster.transport=symmetric_memory"}),
        ("model=torchvision model.architecture=resnet15", {"model.architecture=resnet152"}),
        ("model=torchvision model.name=resnet15", {"model.name=resnet152"}),
        ("optimizer=torch optimizer.name=RMS", {"optimizer.name=RMSprop"}),
        ("schedule=torch schedule.name=OneC", {"schedule.name=OneCycleLR"}),
        ("-m algorithm=sgp,dps", {"algorithm=sgp,dpsgd"}),
        ("experiment=sm", {"experiment=smoke"}),
        ("callbacks=[", {"callbacks=[early_stopping]", "callbacks=[stop_at]"}),
        ("experi", {"experiment="}),
        ("training.ep", {"training.epochs="}),
        ("hyd", set()),
        (f"plugins={PARTS} model=own_model model.activation=", {"model.activation=relu", "model.activation=gelu"}),
        (f"plugins={PARTS} algorithm=own", {"algorithm=own_algorithm"}),
    ],
)
def test_values_are_offered(
    shell: str, line: str, offered: set[str], sgp_train: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", f"sgp-train {line}")
    said = sgp_train("-sc", f"query={shell}")
    assert (said.code, said.err) == (0, "")
    assert set(said.out.split()) == offered
