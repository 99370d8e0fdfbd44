"""The picture of the result file. `python -m benchmarks.plot` draws it anew without a measurement."""

import json
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

LATEST = Path(__file__).parent / "results" / "latest.json"
# The act, its reading, and that of the bare act that bounds it.
SHARES = (
    ("sign-in, of argon2id hashes on all cores", "sign-ins/s", "hashes/s"),
    ("signed token, of bare signatures (CPU)", "tokens signed/s", "bare signatures/s"),
    ("rotation, of bare script calls", "rotations/s", "bare script calls/s"),
    ("proof, look-up and rotation, of the same", "found and rotated/s", "bare script calls/s"),
)


def draw() -> None:
    results = json.loads(LATEST.read_text())
    rounds = results["rounds"]
    figure, axes = pyplot.subplots(figsize=(7, 2), layout="constrained")
    shares = [median(each[act] / each[bare] for each in rounds) for _, act, bare in SHARES]
    bars = axes.barh([name for name, _, _ in SHARES], shares, color="#1b6ca8")
    rates = [median(each[act] for each in rounds) for _, act, _ in SHARES]
    axes.bar_label(
        bars,
        [f"{share:.0%}: {rate:,.0f} a second" for share, rate in zip(shares, rates, strict=True)],
        padding=4,
        fontsize=8,
    )
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.set_title(
        "auth-service: share of the bare act that bounds it (100 % is the limit)", loc="left", fontsize=9
    )
    when = f"{results['cores']} cores, {results['measured_at'][:10]}; medians of {len(rounds)} rounds"
    axes.set_xlabel(when, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(LATEST.with_suffix(".png"), dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    draw()
