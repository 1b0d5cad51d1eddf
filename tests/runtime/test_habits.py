"""Old habits of DDP, in four kinds of training scripts: each works, or ends in one sentence that says what to do."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import run_workers
from tests.workers.habits.attempt import attempt


def tried(script: str, habit: str, folder: Path, workers: int = 2) -> list[tuple[str, Any]]:
    return run_workers(workers, attempt, script, habit, str(folder))


def works(script: str, habit: str, folder: Path) -> list[dict[str, float]]:
    found = tried(script, habit, folder)
    assert [kind for kind, _ in found] == ["works"] * len(found), found
    return [value for _, value in found]


REFUSED = [
    ("ddp_tutorial", "ddp_left_in", "DistributedDataParallel"),
    ("ddp_tutorial", "ddp_around_it_later", "DistributedDataParallel"),
    ("ddp_tutorial", "module_dot", "has no attribute 'module'"),
    ("gpt_trainer", "averaged_on_rank_0", r"rank 0 .*averaged\(\).*rank 1 .*step 3"),
    ("gpt_trainer", "state_of_rank_0_for_all", "rank 0's"),
    ("vision_reference", "unfreeze_later", "unfrozen|requires_grad|added"),
    ("vision_reference", "load_by_assignment", "assign"),
    ("timm_style", "another_optimizer", "SGD steps over parameters of a model whose Gossip was given AdamW"),
    ("timm_style", "inside_of_lookahead", "give Gossip the optimizer whose step"),
    ("timm_style", "one_batch_more", r"rank 0 .*step 2.*rank 1 .*(finish|averaged)\(\)"),
]


@pytest.mark.parametrize(("script", "habit", "sentence"), REFUSED)
def test_a_habit_that_cannot_work_ends_in_one_sentence(script: str, habit: str, sentence: str, tmp_path: Path) -> None:
    found = tried(script, habit, tmp_path)
    refusals = [says for kind, says in found if kind != "works"]
    # A state that is rank 0's is right for rank 0 alone.
    assert len(refusals) >= (1 if habit == "state_of_rank_0_for_all" else 2), found
    for says in refusals:
        assert "\n" not in says
        assert re.search(sentence, says), says


def test_a_snapshot_of_rank_0_is_loaded_by_every_rank(tmp_path: Path) -> None:
    for rank in works("ddp_tutorial", "snapshot_of_rank_0", tmp_path):
        assert rank["after"] < 0.7 * rank["before"]
        assert rank["epoch"] == 3


def test_rank_0_evaluates_alone_while_the_others_wait(tmp_path: Path) -> None:
    first, second = works("gpt_trainer", "evaluation_on_rank_0", tmp_path)
    assert first["last"] < 0.7 * first["first"]
    assert second["train"] < 2.0
    assert math.isnan(second["last"])


def test_a_snapshot_of_all_ranks_is_resumed_to_the_bit(tmp_path: Path) -> None:
    assert [rank["difference"] for rank in works("gpt_trainer", "snapshot_of_all", tmp_path)] == [0.0, 0.0]


def test_all_ranks_evaluate_the_average_and_an_average_over_time(tmp_path: Path) -> None:
    for rank in works("vision_reference", "evaluation_on_all_ranks", tmp_path):
        assert rank["averaged"] > 0.9
        assert rank["ema"] > 0.8


def test_what_the_master_saved_is_small_and_resumed_by_every_rank(tmp_path: Path) -> None:
    for rank in works("vision_reference", "save_on_master", tmp_path):
        assert rank["apart"] == 0.0
        assert rank["bytes"] < 40_000
        assert rank["ema"] > 0.8


def test_accumulation_and_a_deep_copy_as_average_over_time(tmp_path: Path) -> None:
    for rank in works("timm_style", "accumulation_and_ema", tmp_path):
        assert rank["after"] < 0.7 * rank["before"]
        assert rank["bytes"] < 8_000


def test_lookahead_gossips_at_every_step(tmp_path: Path) -> None:
    for rank in works("timm_style", "lookahead", tmp_path):
        assert rank["after"] < 0.8 * rank["before"]
        assert rank["step"] == 49
        assert rank["apart"] < 1e-6  # with two workers each exchange is an average


def test_uneven_batches_are_joined(tmp_path: Path) -> None:
    for rank in works("timm_style", "one_batch_more_joined", tmp_path):
        assert rank["step"] == 3
        assert rank["apart"] < 1.0
