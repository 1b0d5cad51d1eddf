"""What started processes inherit: variables, a network interface, a copy of the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.config.make_plan import make_plan
from launcher.execution.environment import hide_allocation, set_variables
from launcher.execution.snapshot import snapshot_path, take_snapshot
from launcher.system.network_interface import choose_interface, find_address, use_interface
from launcher.worker.device_setup import Place, prepare
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import Plugin, PluginKind, source_hash
from tests.support.command_line import composed


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGP_TEST_A", "1")
    with set_variables(SGP_TEST_A=None, SGP_TEST_B="2"):
        assert "SGP_TEST_A" not in os.environ
        assert os.environ["SGP_TEST_B"] == "2"
    assert os.environ["SGP_TEST_A"] == "1"
    assert "SGP_TEST_B" not in os.environ


def test_a_job_submitted_from_a_job_inherits_none_of_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SLURM_CPU_BIND", "SRUN_CPUS_PER_TASK", "SUBMITIT_FOLDER"):
        monkeypatch.setenv(name, "1")
    for name in ("SLURM_CONF", "SBATCH_ACCOUNT", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "kept")
    with hide_allocation():
        left = {name for name in os.environ if name.startswith(("SLURM", "SRUN", "SUBMITIT", "SBATCH"))}
        assert left == {"SLURM_CONF", "SBATCH_ACCOUNT"}
        assert os.environ["WANDB_API_KEY"] == "kept"
    assert os.environ["SLURM_JOB_ID"] == "1"


@pytest.fixture
def interfaces(tmp_path: Path) -> Path:
    for name, kind, state, card in [
        ("br0", "1", "up", False),
        ("eth0", "1", "down", True),
        ("eth1", "1", "up", True),
        ("ib0", "32", "up", True),
        ("lo", "772", "unknown", False),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
        (tmp_path / name / "operstate").write_text(f"{state}\n")
        if card:
            (tmp_path / name / "device").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "chosen"), [(None, None), ("ethernet", "eth1"), ("infiniband", "ib0"), ("eth0", "eth0"), ("lo", "lo")]
)
def test_an_interface_is_chosen_by_kind_or_name(interfaces: Path, wanted: str | None, chosen: str | None) -> None:
    assert choose_interface(wanted, interfaces) == chosen


def test_the_address_is_that_of_the_interface() -> None:
    assert find_address("lo").startswith("127.")
    with pytest.raises(OSError, match="nowhere0 has no IPv4 address"):
        find_address("nowhere0")


def test_an_interface_that_is_not_there_is_an_error(interfaces: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cluster.network=ib7: this machine has br0, eth0, eth1, ib0, lo"):
        choose_interface("ib7", interfaces)
    with pytest.raises(ConfigurationError, match="no interface"):
        choose_interface("ethernet", tmp_path / "nowhere")


def test_gloo_and_nccl_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    use_interface(None)
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "")
    use_interface("lo")
    assert os.environ["GLOO_SOCKET_IFNAME"] == os.environ["NCCL_SOCKET_IFNAME"] == "lo"
    assert "NCCL_IB_DISABLE" not in os.environ


def test_a_snapshot_is_what_is_imported(tmp_path: Path) -> None:
    folder = take_snapshot(tmp_path)
    assert folder == snapshot_path(tmp_path) == take_snapshot(tmp_path)
    (folder / "launcher" / "execution" / "slurm_epilogue.py").write_text("REQUEUE = 'edited'\n")
    code = "from launcher.execution import slurm_epilogue as e; print(e.REQUEUE, e.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["edited", str(folder / "launcher" / "execution" / "slurm_epilogue.py")]
    assert not list(folder.rglob("__pycache__/*.tmp"))


def test_nodes_that_gossip_need_their_ranks_in_order(tmp_path: Path) -> None:
    pairs = ("algorithm.unit=node", "cluster.nodes=2", "cluster.workers_per_node=2")
    plan = make_plan(composed("cluster=slurm", *pairs, f"runs_dir={tmp_path}"))
    dealt_out = Place(rank=1, world_size=4, local_rank=0, local_world_size=2)
    with pytest.raises(ConfigurationError, match="consecutive ranks on each node"):
        prepare(plan, dealt_out, tmp_path, None, separate=False)


def test_a_copy_of_the_code_has_no_content_of_links_that_lead_out(tmp_path: Path) -> None:
    package, outside = tmp_path / "mine", tmp_path / "outside"
    package.mkdir()
    outside.mkdir()
    (outside / "key").write_text("secret")
    (outside / "shared.py").write_text("X = 1\n")
    (package / "__init__.py").write_text("")
    (package / "data.txt").write_text("data")
    (package / "alias.txt").symlink_to("data.txt")
    (package / "key.txt").symlink_to(outside / "key")
    (package / "shared.py").symlink_to(outside / "shared.py")
    (package / "folder").symlink_to(outside)
    plugin = Plugin("mine", str(package), source_hash(package), PluginKind.module)
    copied = take_snapshot(tmp_path / "runs", [plugin]) / "mine"
    assert sorted(path.name for path in copied.iterdir()) == ["__init__.py", "alias.txt", "data.txt", "shared.py"]
    assert not any(path.is_symlink() for path in copied.iterdir())
