"""The committed results belong to the shipped bundle, and README and docs quote them correctly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlj_edge.bundle import MANIFEST, nano_bundle, seal
from vlj_edge.export.weights.locations import MODEL_FILE, shipped_weights
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.console import plain_line

ROOT = Path(__file__).parents[1]


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))
    return found


def test_the_demo_was_measured_with_the_bundle_that_ships() -> None:
    assert result("demo.json")["bundle"] == seal(nano_bundle() / MANIFEST).sha256


def test_parity_was_measured_with_the_weights_that_ship() -> None:
    weights = seal(shipped_weights() / MODEL_FILE).sha256
    assert result("parity.json")["weights"] == weights
    manifest = json.loads((nano_bundle() / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["receipt"]["weights"][MODEL_FILE] == weights, "the bundle was exported from these weights"


def test_nano_was_scored_with_the_weights_that_ship() -> None:
    found, weights = result("nano-eval.json"), seal(shipped_weights() / MODEL_FILE).sha256
    assert found["weights"] == found["narration"]["weights"] == weights


def test_every_result_names_its_command_machine_and_versions() -> None:
    for path in (ROOT / "results").glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert {"command", "machine", "versions", "commit"} <= found.keys(), path.name


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_shows_the_demo_as_it_was_measured() -> None:
    measured = [plain_line(Narration(**event)) for event in result("demo.json")["live gates"]["narrations"]]
    shown = page("README.md").split("$ vlj-edge narrate examples/media/demo.mp4\n")[1].split("\n...")[0].splitlines()
    assert shown == measured[: len(shown)] and len(shown) >= 3


def test_the_readme_shows_its_five_numbers_as_they_were_measured() -> None:
    demo, gates = result("demo.json")["live gates"], result("gates.json")["settings"]
    drawers, doors = (result("nano-libero.json")[name]["thing"]["value"] for name in ("drawer_crop", "door_crop"))
    parity = {row["engine"]: row["cosine"] for row in result("parity.json")["fp16"]["parity"]}["chain"]
    text_quality = 100 * gates["all"]["cider"] / gates["none"]["cider"]
    for figure in (
        f"all of its {demo['totals']['narrations']} texts true | {demo['totals']['decodes_saved']:.1f}x fewer |",
        f"at {text_quality:.1f} % of the text quality (CIDEr) | {gates['all_against_none']['cpu_ratio']:.2f}x less |",
        f"ten minutes | {100 * result('runtime.json')['still camera']['share_of_one_core']:.2f} % of one core |",
        f"lowest cosine | {parity:.7f} |",
        f"(chance: 4 %) | {100 * drawers:.0f} % of drawers, {100 * doors:.0f} % of doors |",
    ):
        assert figure in page("README.md"), figure


def precision_row(name: str, row: dict[str, Any]) -> str:
    """A line of the table in docs/precisions.md."""
    parity = {part["engine"]: part for part in row["parity"]}
    size = sum(row["megabytes"][engine] for engine in ("vision_encoder", "predictor", "decoder"))
    right, lost = row["task_top1_act_windows"]["value"], row["task_top1_against_fp32"]
    cells = [
        name,
        f"{size:.1f}",
        f"{parity['chain']['cosine']:.6f}",
        f"{parity['vision_encoder']['worst_token']:.5f}",
        f"{100 * right:.1f} %",
        f"{100 * lost['value']:+.1f} ({100 * lost['low']:+.1f} to {100 * lost['high']:+.1f})",
        f"{row['live_cider']:.2f}",
        *(f"{row['cpu_milliseconds'][part]:.1f}" if "cpu_milliseconds" in row else "none" for part in _TIMED),
    ]
    return f"| {' | '.join(cells)} |"


_TIMED = ("vision_encoder", "predictor", "decoder_step")


def test_the_docs_show_the_precisions_as_they_were_measured() -> None:
    found, text = result("precisions.json"), page("docs/precisions.md")
    assert found["weights"] == seal(shipped_weights() / MODEL_FILE).sha256
    for name, row in found["precisions"].items():
        assert precision_row(name, row) in text, name


def test_no_precision_loses_more_than_it_may() -> None:
    rows = result("precisions.json")["precisions"]
    for name, most in (("fp16", 0.005), ("int8", 0.005), ("int8w", 0.005), ("int4w", 0.02)):
        assert rows[name]["task_top1_against_fp32"]["value"] >= -most, name


def test_the_docs_show_the_paper_s_engines_as_they_were_built() -> None:
    [rows] = [value for key, value in result("tensorrt-builds.json")["vl-jepa-1.6b"].items() if key == "sm89"]
    built = {row["name"]: row for row in rows}
    names = ("vision_encoder", "predictor", "decoder")
    seconds = [built[name]["seconds"] for name in names]
    sizes = [f"{built[name]['megabytes']:,.0f}" for name in names]
    fused = [str(built[name]["attention"] - built[name]["decomposed"]) for name in names]
    line = (
        f"{min(seconds):.1f} to {max(seconds):.1f} s an engine, {sizes[0]}, {sizes[1]} and {sizes[2]} MB;"
        f" {fused[0]}, {fused[1]} and {fused[2]} attention operators, all fused"
    )
    assert line in page("docs/evidence.md")
    assert not any(row["decomposed"] for row in rows)


def test_the_docs_show_what_token_shares_add_to_engines() -> None:
    found, text = result("tensorrt-builds.json")["token_shares"], " ".join(page("docs/tokens.md").split())
    for model, form in (("nano", "{:.1f}"), ("vl-jepa-1.6b", "{:,.0f}")):
        for rows in (found[model]["all tokens alone"], found[model]["each number of tokens"]):
            assert [row["decomposed"] for row in rows] == [0, 0]
            assert " and ".join(form.format(row["megabytes"]) for row in rows) + " MB" in text


def test_the_docs_show_the_precisions_at_random_weights() -> None:
    text = page("docs/precisions.md")
    for name in ("fp16", "bf16", "int8", "int8w", "int4w"):
        parity = {part["engine"]: part for part in result("precisions-random.json")["precisions"][name]["parity"]}
        assert f"`{name}` {parity['chain']['cosine']:.5f}" in text
        assert f"{parity['vision_encoder']['worst_token']:.5f}" in text


def _times(encoders: dict[str, Any], name: str) -> str:
    one = encoders[name]
    return f"{one['transformers_over_it']['ratio']:.2f}x ({one['lowest_cosine_of_the_embedding']:.5f})"


def test_the_docs_show_what_the_runtime_costs_and_saves() -> None:
    found, gates = result("runtime.json"), result("gates.json")["settings"]
    text = page("docs/evidence.md")
    encoder, over, cpu = found["vision encoder"], found["overhead, nano"], found["overhead in CPU time, nano"]
    for figure in (
        f"nano in CPU time of one thread {cpu['chain_over_bare']['ratio']:.2f}x (",
        f"resized by Pillow {cpu['chain_with_pillow_over_bare']['ratio']:.2f}x (",
        f": nano {over['chain_over_bare']['ratio']:.2f}x (",
        f", {over['chain_over_the_time_in_its_own_engines']['ratio']:.2f}x the time in its engines' calls",
        f"`vl-jepa-1.6b` {found['overhead, vl-jepa-1.6b']['chain_over_bare']['ratio']:.3f}x (",
        f"by the OpenVINO backend int8 with bf16 {_times(encoder, 'int8, openvino backend, bf16')}, fp32 with",
        f"bf16 {_times(encoder, 'fp32, openvino backend, bf16')}, fp32 {_times(encoder, 'fp32, openvino backend')};",
        f"by ONNX Runtime int8 {_times(encoder, 'int8')}, fp32 {_times(encoder, 'fp32')};",
        f"OpenVINO by itself on our graph {_times(encoder, 'openvino')};",
        f"saccadic {encoder['others']['saccadic']} {_times(encoder, 'saccadic')}, its int8",
        f"its int8 {_times(encoder, 'saccadic, int8')} |",
        f"{found['caption every window']['ratio']:.0f}x less",
        f"{100 * found['still camera']['share_of_one_core']:.2f} % of one core",
        f"{found['an hour']['megabytes_at_5_minutes']:.0f} MB",
        f"({gates['all_against_none']['cpu_ratio']:.2f}x less); {gates['all']['cider']:.2f} against",
    ):
        assert figure in text, figure


def test_the_docs_show_what_fewer_tokens_and_a_shared_stem_save() -> None:
    stem, text = result("stem.json"), page("docs/tokens.md")
    gates, ways = stem["through the gates"], ("onnxruntime", "openvino")
    less = [stem[f"windows that follow each other, {way}"]["encoder_and_predictor_times_less"] for way in ways]
    assert f"{less[0]:.2f}x less | 8.8 ms: {less[1]:.2f}x less |" in text
    assert f"| {100 * gates['narrate']['share_of_frames_seen_before']:.0f} % | |" in text
    assert f"| {100 * gates['narrate']['saved_share']:.1f} % | |" in text
    embed = gates["embed"]
    assert f"| {100 * embed['share_of_frames_seen_before']:.0f} %, {100 * embed['saved_share']:.0f} % | |" in text
    videos = result("tokens.json")["nano"]
    for name, row in (
        ("test-idle/stream0.mp4", "mostly rests"),
        ("real/vtest.avi", "street"),
        ("real/bikes.mp4", "mov"),
    ):
        [line] = [line for line in text.splitlines() if line.startswith("|") and row in line and "windows" not in line]
        assert f"| {100 * videos[name]['share']:.0f} % | {videos[name]['times_less']:.2f}x" in line


def test_the_docs_show_what_reading_costs() -> None:
    made, demo = result("reading.json")["1080p30 H.264"], result("reading.json")["demo"]
    less = made["opencv over vlj-edge"]
    cpu = [each[name]["cpu_seconds_a_minute"] for each in (made, demo) for name in ("vlj-edge", "opencv")]
    memory = [each[name]["peak_megabytes"] for each in (made, demo) for name in ("vlj-edge", "opencv")]
    assert made["times_apart_ms"] < 1 and demo["times_apart_ms"] < 1 and less["ratio"] >= 1.5
    assert (
        f"B-frames {cpu[0]:.2f} (OpenCV {cpu[1]:.2f}: {less['ratio']:.2f}x less,"
        f" {less['low']:.2f} to {less['high']:.2f}),"
        f" {memory[0]:.0f} MB ({memory[1]:.0f}); the demo, 8 frames a second, {cpu[2]:.2f} ({cpu[3]:.2f}),"
        f" {memory[2]:.0f} MB ({memory[3]:.0f})."
    ) in page("docs/evidence.md")


def test_the_docs_show_what_the_other_uses_cost() -> None:
    found, text = result("wearable.json"), page("docs/evidence.md")
    memory, forms = found["memory"], found["forms"]
    store = result("stores.json")["1000000 embeddings of 384"]["LanceDB, IVF with RaBitQ"]
    for figure in (
        f"{memory['megabytes']['1000']:.0f} and {memory['megabytes']['100000']:.0f} MB of the process, on a drawn",
        f"({memory['last_over_first']:.4f}x), {memory['real_time_factor']:.0f}x real time",
        f"{100 * forms['int8, 384']['top1_label_as_float32']:.2f} % in 388 bytes",
        f"{100 * forms['float16, 192']['top1_label_as_float32']:.2f} % in 384;",
        f"{100 * forms['float32, 384']['r1']:.1f} %, {100 * forms['float32, 384']['r5']:.1f} %;",
        f"{found['questions']['eight_over_one']['ratio']:.2f}x the time",
        f"{found['indexing']['speed_of_bare']['ratio']:.2f}x the speed",
        f"{store['query_ms_p95']:.1f} ms (p95), {store['recall_at_10_captions']:.3f}",
        f"{store['search_ms_p95']:.1f} ms (p95) |",
    ):
        assert figure in text, figure


def test_the_docs_show_how_well_yes_and_no_are_told() -> None:
    found, text = result("yes-no.json"), page("docs/evidence.md")
    row = next(line for line in text.splitlines() if "`results/yes-no.json`" in line)
    ways = found["balanced_right"]
    shares = [
        ways["yes_against_no"]["all"],
        ways["statement_against_negation"]["all"],
        *(ways["statement_against_neutral"][kind] for kind in ("all", "acts", "others")),
    ]
    for figure in (f"{found['questions']} questions", *(f"{100 * share:.1f} %" for share in shares)):
        assert figure in row, figure
    assert ways["yes_against_no"]["all"] < 0.55, "ask refuses them because they are no better than chance"


def test_the_other_uses_keep_their_bars() -> None:
    found = result("wearable.json")
    assert found["memory"]["peak_megabytes"] <= 200 and abs(found["memory"]["last_over_first"] - 1) <= 0.02
    assert found["forms"]["int8, 384"]["top1_label_as_float32"] >= 0.995
    assert found["questions"]["eight_over_one"]["ratio"] < 2 and found["questions"]["encoder_runs_for_eight"] == 1
    assert found["indexing"]["speed_of_bare"]["ratio"] >= 0.9
    store = result("stores.json")["1000000 embeddings of 384"]["LanceDB, IVF with RaBitQ"]
    assert max(store["query_ms_p95"], store["search_ms_p95"]) <= 50
    assert min(store["recall_at_10_captions"], store["recall_at_10_windows"]) >= 0.95


def test_the_docs_show_the_stores_as_they_were_measured() -> None:
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    for name, row in result("stores.json")["1000000 embeddings of 384"].items():
        assert store_row(name, row) in page, name


def test_the_docs_show_how_well_moments_are_found() -> None:
    page, found = (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), result("wearable.json")["moments"]
    chosen = found["bounds"]["0.5"]
    assert f"{100 * chosen['r5']:.1f} %, and overlaps the event by\n{chosen['overlap']:.2f}" in page
    assert chosen["overlap"] == max(each["overlap"] for each in found["bounds"].values())
    assert found["nearest_ten_as_exact"] == 1.0


def store_row(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} ({row['version']}) | {row['megabytes_on_disk']} MB | {row['build_seconds']:.0f} s"
        f" | {row['query_ms_p50']:.1f}, {row['query_ms_p95']:.1f} ms"
        f" | {row['recall_at_10_captions']:.3f}, {row['recall_at_10_windows']:.3f}"
        f" | {row['resident_megabytes_more']} MB |"
    )


def test_the_docs_show_the_speed_of_the_demo_as_it_was_measured() -> None:
    demo = result("demo.json")
    live, every = (demo[name]["totals"]["real_time_factor"] for name in ("live gates", "every window"))
    text = page("docs/evidence.md")
    assert f"speed with decoding | {live:.1f}x real time" in text
    assert f"every window encoded and decoded {every:.1f}x |" in text


def test_the_docs_show_what_the_soak_has_seen() -> None:
    found, text = result("soak.json"), page("docs/promises.md")
    assert found["seconds"] >= 900 and len(found["problems"]) == 1  # mended since
    assert all(not sink["missed"] for sink in found["sinks"].values())
    first, last, again = found["first third"], found["last third"], found["seconds to recover"]
    pairs = [f"{first[name]:.0f} and {last[name]:.0f} {unit}" for name, unit in SOAK_UNITS.items()]
    for figure in (
        f"{sum(found['faults'].values())} faults of {len(found['faults'])} kinds",
        f"{again['median']} s after they were over (median; the longest: {again['longest']} s)",
        f"{found['sinks']['log']['delivered']} texts were delivered",
        ", ".join(pairs),
        f"SIGTERM ended it in {found['seconds to end']} s",
    ):
        assert figure in text, figure


SOAK_UNITS = {"memory": "MB", "descriptors": "descriptors", "threads": "threads", "children": "processes"}


def test_the_docs_show_size_and_time_of_public_models_as_they_were_measured() -> None:
    shown = page("docs/your-camera.md")
    for name, row in result("models.json")["models"].items():
        sizes = [f"{round(sum(row[each]['megabytes'].values())):,}" if each in row else "" for each in MODEL_PRECISIONS]
        times = [row.get(each, {}).get("ms_a_window") for each in ("fp32", "int8")]
        milliseconds = [f"{round(min(each.values())):,}" if each else "" for each in times]
        assert " | ".join([f"| `{name}`", *sizes, *milliseconds]) + " |" in shown, name


MODEL_PRECISIONS = ("fp32", "fp16", "int8")


def test_the_docs_show_what_an_emulated_board_did() -> None:
    found, jetson = result("aarch64.json"), " ".join(page("docs/jetson.md").split())
    compared, jetpacks = found["compared with x86-64"], found["Python 3.10, glibc 2.35"]
    assert compared["texts equal"] is True and jetpacks["texts equal"] is True
    for part in (found, jetpacks):
        assert not any(tests["failures"] for tests in part["tests"].values())
        unit, card = (part["tests"][name]["passed"] for name in ("unit tests", "TensorRT on the stand-in"))
        assert f"{unit} unit tests and {card} on that stand-in" in jetson
    assert f"on {found['date']}" in jetson and f"Python {jetpacks['python']}" in jetson
    cosines = compared["lowest cosine, pictures"], compared["lowest cosine, video"]
    assert "lowest cosine {:.5f} of pictures, {:.5f} of a video".format(*cosines) in page("docs/boards.md")
