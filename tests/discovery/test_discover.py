import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery import means
from crysjepa.discovery.config import PRESETS, DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.evaluation.protocol import Trust
from crysjepa.generators.base import load_generator
from crysjepa.ranking.selection import select_best
from crysjepa.runtime.errors import RunError

COMPARED = ("candidates.parquet", "metrics.json", "reference_map.parquet")


@pytest.fixture(scope="module")
def config(tiny):
    return DiscoverConfig(
        reference=str(tiny.reference),
        generator=str(tiny.generator),
        jepa=str(tiny.jepa),
        num=16,
        num_refined=8,
        oversample=1,
        keep=0.5,
        drift=None,
        finetune={"steps": 4, "batch_size": 4, "warmup": 1, "record_every": 1, "checkpoint_every": 1},
        protocol={**tiny.protocol, "e_above_hull_max": 50.0},
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    discover_crystals(config, out)
    return out


def contents(out):
    shortlist = sorted((p.name, p.read_bytes()) for p in (out / "shortlist").iterdir())
    return [(out / name).read_bytes() for name in COMPARED], shortlist


def test_every_generated_crystal_has_a_row_and_a_state(whole):
    table = CandidateTable.read(whole / "candidates.parquet")
    assert len(table) == 24
    assert table.column("round") == [0] * 16 + [1] * 8
    assert sum(table.counts().values()) == 24
    for status, reason in zip(table.column("status"), table.column("reason"), strict=True):
        assert status == "ok" or reason, "whatever is not ok says why"
    listed = [i for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None]
    assert sorted(listed) == sorted(table.ok_ids)
    assert len(list((whole / "shortlist").glob("*.cif"))) == len(listed) > 0


def test_the_short_list_says_which_oxidation_states_balance_it(whole):
    table = CandidateTable.read(whole / "candidates.parquet")
    listed = [r is not None for r in table.column("shortlist_rank")]
    said = table.column("bonding")
    assert any(listed) and [b is not None for b in said] == listed, "of the short list, and of no other"
    balanced = [
        s for b, s in zip(said, table.column("oxidation_states"), strict=True) if b == "charge-balanced"
    ]
    assert balanced and all("+" in s and "−" in s for s in balanced)
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "charges" in page and balanced[0] in page


def test_metrics_have_the_full_denominator(whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    table = CandidateTable.read(whole / "candidates.parquet")
    assert [r["num_crystals"] for r in metrics["rounds"]] == [16, 8]
    base = [i for i in table.ids if i.startswith("base")]
    flags = zip(*(table.column(c, base) for c in ("valid", "stable", "unique", "novel")), strict=True)
    assert metrics["rounds"][0]["vsun"] == sum(all(row) for row in flags) / 16
    ok = sum(i.startswith("refined") for i in table.ok_ids)
    assert metrics["rounds"][1]["vsun_beyond_earlier_rounds"] == ok / 8 <= metrics["rounds"][1]["vsun"]
    assert (whole / "report.html").stat().st_size > 10_000


def test_the_finetuning_set_is_the_best_of_vun(whole, config):
    judged = CandidateTable.read(whole / "round-0" / "judged.parquet")
    columns = ("id", "valid", "unique", "novel", "score", "selected", "status")
    rows = list(zip(*(judged.column(c) for c in columns), strict=True))
    vun = [r for r in rows if r[1] and r[2] and r[3] and r[6] != "failed"]
    scored = sorted((r[4], r[0]) for r in vun if r[4] is not None)
    wanted = [id_ for _, id_ in scored[: -(-len(vun) // 2)]]
    assert select_best(judged, config.keep) == wanted
    assert {r[0] for r in rows if r[5]} == set(wanted) and wanted


def test_a_second_call_does_nothing_twice(whole, config):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in whole.rglob("*") if p.is_file()}
    discover_crystals(config, whole)
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in whole.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_substitution_may_draw_the_first_round_and_teach_the_generator(config, tmp_path):
    discover_crystals(config.model_copy(update={"source": "substitution"}), tmp_path / "run")
    first = CandidateTable.read(tmp_path / "run" / "round-0" / "generated.parquet")
    known = CandidateTable.read(config.reference).crystals().reduced_formulas()
    drawn = first.crystals(first.ok_ids)
    assert len(drawn) and not set(drawn.reduced_formulas()) & set(known)
    assert set(drawn.num_atoms.tolist()) <= set(
        CandidateTable.read(config.reference).crystals().num_atoms.tolist()
    )
    table = CandidateTable.read(tmp_path / "run" / "candidates.parquet")
    assert len(table) == 24 and any(table.column("selected"))


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop_at", ["generate (base)", "relax (base)", "novelty (base)", "finetune", "relax (ref"]
)
def test_a_stopped_run_goes_on_to_the_same_bytes(whole, config, tmp_path, stop_at):
    def progress(stage, done, total):
        if stage.startswith(stop_at) and done >= total / 2:
            raise Stopped

    with pytest.raises(Stopped):
        discover_crystals(config, tmp_path / "run", progress=progress)
    discover_crystals(config, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["round-0/generated.parquet", "round-1/generator.safetensors"])
def test_a_killed_run_goes_on_to_the_same_bytes(whole, config, tmp_path, after):
    """SIGKILL on the real command, as soon as a stage has left its file."""
    settings = tmp_path / "settings.toml"
    settings.write_text(_toml(config), encoding="utf-8")
    command = [sys.executable, "-m", "crysjepa", "discover", "--out", str(tmp_path / "run")]
    command += ["--config", str(settings), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / after).exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "run" / "report.html").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.slow
def test_more_is_drawn_than_relaxed(config, tmp_path):
    """With replay, a share that the run chooses, and patience for one round that is no better."""
    changes = {"oversample": 3, "num": 8, "num_refined": 4, "rounds": 3, "patience": 1, "replay": 0.5}
    changes |= {"keep": "auto", "drift": 4.0}
    run = tmp_path / "run"
    discover_crystals(DiscoverConfig(**config.model_dump() | changes), run)
    drawn = CandidateTable.read(run / "round-0" / "drawn.parquet")
    kept = CandidateTable.read(run / "round-0" / "screened.parquet")
    assert len(drawn) == 24 and len(kept) == 8
    assert drawn.counts()["rejected: screen"] == 16
    metrics = json.loads((run / "metrics.json").read_text())
    assert [r["num_drawn"] for r in metrics["rounds"]][:2] == [24, 12]
    done = len(metrics["rounds"])
    assert done == len(list(run.glob("round-*/judged.parquet"))) < 4
    assert any(n.startswith(f"Stopped after round {done - 1}") for n in metrics["notes"])
    assert any(n.startswith("3 crystals were drawn for each") for n in metrics["notes"])
    table = CandidateTable.read(run / "candidates.parquet")
    assert table.column("round").count(0) == 8 and set(table.column("round")) == set(range(done))
    assert metrics["rounds"][0]["drawn"]["rejected: screen"] == 16
    chosen = pq.read_table(run / "round-1" / "finetuning_set.parquet").num_rows
    learnt = load_generator(run / "round-1" / "generator.safetensors").origin["num_crystals"]
    assert chosen and learnt == chosen + min(chosen, 7), "as many of the seven that were known before"


@pytest.mark.slow
def test_a_run_with_every_setting_goes_on_to_the_same_bytes(config, tmp_path):
    changes = {"oversample": 2, "num": 8, "num_refined": 4, "replay": 0.5, "keep": "auto", "drift": 2.0}
    every = DiscoverConfig(**config.model_dump() | changes)
    discover_crystals(every, tmp_path / "whole")

    def progress(stage, done, total):
        if stage.startswith("relax (base)"):
            raise Stopped

    with pytest.raises(Stopped):
        discover_crystals(every, tmp_path / "run", progress=progress)
    assert (tmp_path / "run" / "round-0" / "drawn.parquet").exists()
    discover_crystals(every, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_ranker_that_cannot_choose_says_so_before_anything_is_drawn(config, tmp_path, monkeypatch):
    monkeypatch.setattr(means, "make_ranker", refusing(means.make_ranker, "jepa-relaxed"))
    with pytest.raises(ValueError, match="set screen_by to another ranker, or oversample = 1"):
        discover_crystals(config.model_copy(update={"oversample": 2}), tmp_path / "run")
    assert not list((tmp_path / "run").glob("round-*"))


def refusing(make, name):
    """What makes rankers, but for one of them."""

    def made(wanted, context):
        if wanted == name:
            raise ValueError("it needs another model")
        return make(wanted, context)

    return made


def test_drift_can_be_turned_off_in_a_file():
    assert DiscoverConfig.model_validate({"drift": "off"}).drift is None
    for wrong in (float("inf"), 0.5, "on"):
        with pytest.raises(ValueError, match="drift"):
            DiscoverConfig.model_validate({"drift": wrong})


def test_another_seed_is_another_run(whole, config):
    with pytest.raises(RunError, match="seed"):
        discover_crystals(config.model_copy(update={"seed": 9}), whole)


@pytest.mark.slow
@pytest.mark.parametrize("ranker", ["jepa-relaxed", "composition", "random"])
def test_other_rankers_choose(config, tmp_path, ranker):
    changes = {"ranker": ranker, "num": 8, "num_refined": 4}
    discover_crystals(config.model_copy(update=changes), tmp_path / "run")
    judged = CandidateTable.read(tmp_path / "run" / "round-0" / "judged.parquet")
    scored = [s for s, v in zip(judged.column("score"), judged.column("valid"), strict=True) if v]
    assert scored and all(s is not None for s in scored)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["protocol"]["ranker"] == ranker
    assert any(n.startswith("Ranking: a linear model") for n in metrics["notes"]) == (ranker == "composition")


def test_an_unknown_ranker_is_refused():
    with pytest.raises(ValueError, match="taste"):
        DiscoverConfig(ranker="taste")


def test_presets_follow_the_paper():
    mp, alex = PRESETS["paper-mp20"], PRESETS["paper-alex-mp20"]
    assert (mp.num, mp.keep, alex.num, alex.keep) == (400_000, 0.01, 100_000, 0.05)
    assert mp.protocol.relaxation.optimizer == "fire" and mp.protocol.relaxation.cell_filter == "exp"
    assert (mp.protocol.relaxation.fmax, mp.protocol.relaxation.max_steps) == (0.05, 500)
    assert mp.protocol.force_field == "mattersim" and mp.protocol.e_above_hull_max == 0.1


def test_a_preset_of_the_paper_wants_models_of_the_paper(tmp_path):
    with pytest.raises(ValueError, match="--size paper"):
        discover_crystals(PRESETS["paper-mp20"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_several_rounds_and_a_reference_of_one(config, tiny, tmp_path):
    """Equal crystals of two rounds: the earlier one stays. A map needs no plane."""
    one = CandidateTable.read(tiny.reference)
    CandidateTable(one.frame.iloc[:1]).write(tmp_path / "one.parquet")
    changes = {"reference": str(tmp_path / "one.parquet"), "rounds": 2, "num": 8, "num_refined": 8}
    discover_crystals(config.model_copy(update=changes), tmp_path / "run")
    table = CandidateTable.read(tmp_path / "run" / "candidates.parquet")
    assert table.column("round") == [0] * 8 + [1] * 8 + [2] * 8
    place = {i: n for n, i in enumerate(table.ids)}
    for id_, reason in zip(table.ids, table.column("reason"), strict=True):
        if reason and reason.startswith("repeats "):
            assert place[reason.split()[1]] < place[id_]


def _toml(config):
    values = config.model_dump(exclude_none=True)
    protocol = values.pop("protocol")
    relaxation, finetune = protocol.pop("relaxation"), values.pop("finetune")
    protocol.setdefault("trust", "off")
    sections = {"": values, "protocol": protocol, "protocol.relaxation": relaxation, "finetune": finetune}
    lines = []
    for name, fields in sections.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{k} = {json.dumps(v)}" for k, v in fields.items() if v is not None]
    return "\n".join(lines)


@pytest.mark.slow
def test_the_chosen_stand_beside_crystals_drawn_at_random(config, tmp_path):
    """The control of each round is relaxed and judged alike, and its rates are beside the round's."""
    small = config.model_copy(update={"oversample": 2, "num": 6, "num_refined": 4, "control": 5})
    discover_crystals(small, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for number, (entry, drawn) in enumerate(zip(metrics["rounds"], (12, 8), strict=True)):
        control = CandidateTable.read(tmp_path / "run" / f"round-{number}" / "control.parquet")
        assert len(control) == 5 == entry["control"]["num_crystals"]
        assert entry["control"]["what"] == f"5 of the {drawn} that were drawn, at random"
        flags = zip(*(control.column(c) for c in ("valid", "stable", "unique", "novel")), strict=True)
        assert entry["control"]["vsun"] == sum(all(f) for f in flags) / 5
        passed = zip(*(control.column(c) for c in ("novelty_grade", "hull_support", "valid")), strict=True)
        eligible = [p == ("new formula", "supported", True) for p in passed]
        assert entry["control"]["eligible"]["num_crystals"] == sum(eligible)
    assert metrics["vsun_new_formula"] == metrics["rounds"][-1]["vsun_new_formula"]
    assert metrics["hull"] == "known + known.parquet" and metrics["novelty_set"] == "known.parquet"


def test_a_finished_run_is_judged_anew_and_nothing_is_relaxed(whole, config, tiny, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was relaxed")

    monkeypatch.setattr("crysjepa.evaluation.evaluator.relax_crystals", refuse)
    metrics = api.evaluate(whole, tmp_path / "again", hull=tiny.reference, protocol=config.protocol)
    before = CandidateTable.read(whole / "candidates.parquet")
    after = CandidateTable.read(tmp_path / "again" / "crystals.parquet")
    assert after.ids == before.ids
    assert after.column("energy_per_atom") == before.column("energy_per_atom")
    assert [r["num_crystals"] for r in metrics["by_round"]] == [16, 8]
    listed = [i for i, r in zip(before.ids, before.column("shortlist_rank"), strict=True) if r is not None]
    assert metrics["shortlist"]["num"] == len(listed)
    stable = [bool(s) for s in after.column("stable", listed)]
    assert metrics["shortlist"]["stable"] == sum(stable) / len(listed)
    assert metrics["shortlist"]["spearman"] is None or -1 <= metrics["shortlist"]["spearman"] <= 1


TRUST = {
    "judges": "none",
    "most": 6,
    "close": {"static": 4, "relaxed": 2, "rounds": 1, "margin": 50.0, "relaxation": {"max_steps": 2}},
}


@pytest.fixture(scope="module")
def trusted(config, tmp_path_factory):
    """The same run with the hull closed before the short list."""
    trust = Trust.model_validate({**TRUST, "close": {**TRUST["close"], "parents": config.reference}})
    protocol = config.protocol.model_copy(update={"trust": trust})
    out = tmp_path_factory.mktemp("trusted") / "run"
    discover_crystals(config.model_copy(update={"protocol": protocol}), out)
    return out


def test_the_short_list_is_by_the_closed_hull(whole, trusted):
    table = CandidateTable.read(trusted / "candidates.parquet")
    looked = [i for i, e in zip(table.ids, table.column("e_above_closed_hull"), strict=True) if e is not None]
    assert len(looked) > 0
    for id_ in looked:
        (own,), (before,) = (table.column(c, [id_]) for c in ("e_above_closed_hull", "e_above_hull"))
        assert own >= before - 1e-9, "more competitors only lift a crystal"
    rivals = CandidateTable.read(trusted / "competitors.parquet")
    told = json.loads((trusted / "metrics.json").read_text())["trust"]
    assert told["closed_hull"]["num_relaxed"] == len(rivals) > 0
    assert told["judges"] == []
    page = (trusted / "report.html").read_text()
    assert "closed hull" in page and "Competitors were searched for" in page
    assert 'id="hulls"' in page and "Who gave each verdict" in page


def test_closing_changes_no_rate(whole, trusted):
    before, after = (json.loads((p / "metrics.json").read_text()) for p in (whole, trusted))
    for one, other in zip(before["rounds"], after["rounds"], strict=True):
        assert one == other


def test_a_lower_polymorph_takes_the_place(trusted):
    table = CandidateTable.read(trusted / "candidates.parquet")
    places = dict(zip(table.ids, table.column("lower_polymorph"), strict=True))
    for id_, lower in places.items():
        if lower is None:
            continue
        (status,), (reason,) = table.column("status", [id_]), table.column("reason", [id_])
        if lower in table.ids:
            assert status != "ok"
        elif "is lower: another structure" in (reason or ""):  # one that was on the table already
            assert reason.split(" is lower")[0] in table.ids
