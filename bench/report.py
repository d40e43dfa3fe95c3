#!/usr/bin/env python3
"""What the bench makes of what it measured.
  report.py noticed LOG     of a program's log: the longest pause in ms, and its speed in the two seconds after it, in percent of before
  report.py table CSV       medians
  report.py picture CSV     downtime over size, as SVG
"""
import csv, math, statistics, sys
from itertools import groupby

WINDOW = 2.0  # seconds
COLOURS = ["#c0392b", "#e67e22", "#2471a3", "#7d8a94", "#1e8449", "#8e44ad"]


def noticed(log):
    times = []
    for line in open(log):
        words = line.split()
        if words and words[0] == "verify":
            break
        if len(words) == 4 and words[0].isdigit():
            times.append(int(words[2]) / 1e9)
    gap, at = max((later - earlier, index) for index, (earlier, later) in enumerate(zip(times, times[1:])))
    before = sum(times[at] - WINDOW < t <= times[at] for t in times)
    after = sum(times[at + 1] <= t < times[at + 1] + WINDOW for t in times)
    spans = [min(WINDOW, times[at] - times[0]), min(WINDOW, times[-1] - times[at + 1])]
    percent = 100 * (after / spans[1]) / (before / spans[0]) if all(span > 0.1 for span in spans) and before else 0
    return f"{gap * 1000:.1f}, {percent:.0f}"


def medians(path):
    """(link, rate, size, method) to a dictionary of medians, in the order of the file."""
    groups = {}
    for row in csv.DictReader(open(path)):
        groups.setdefault((row["link"], int(row["rate_mib_s"]), int(row["size_mib"]), row["method"]), []).append(row)
    columns = ["down_ms", "after_percent", "total_ms", "cpu_s", "peak_mib", "wire_mib"]
    return {key: {c: statistics.median(float(row[c]) for row in rows) for c in columns} for key, rows in groups.items()}


def table(path):
    all_of_them = medians(path)
    for (link, rate, size), keys in groupby(all_of_them, key=lambda key: key[:3]):
        print(f"\nlink {'unlimited' if link == 'off' else link}, {rate} MiB/s rewritten, {size} MiB")
        print(f"{'method':15} {'down ms':>8} {'after %':>8} {'total ms':>9} {'CPU s':>7} {'peak MiB':>9} {'wire MiB':>9} {'down / tcp':>11}")
        for key in keys:
            m, tcp = all_of_them[key], all_of_them.get(key[:3] + ("criu-tcp",))
            ratio = f"{m['down_ms'] / tcp['down_ms']:.2f}" if tcp else ""
            print(f"{key[3]:15} {m['down_ms']:8.0f} {m['after_percent']:8.0f} {m['total_ms']:9.0f} {m['cpu_s']:7.2f} {m['peak_mib']:9.0f} "
                  f"{m['wire_mib']:9.1f} {ratio:>11}")


def picture(path):
    """One drawing for each link and rate, side by side: both axes logarithmic."""
    all_of_them = medians(path)
    panels = sorted({key[:2] for key in all_of_them}, key=lambda panel: (panel[0] != "off", panel))
    methods = list(dict.fromkeys(key[3] for key in all_of_them))
    sizes = sorted({key[2] for key in all_of_them})
    downs = [m["down_ms"] for m in all_of_them.values()]
    low, high = 10 ** math.floor(math.log10(min(downs))), 10 ** math.ceil(math.log10(max(downs)))
    width, height, left, top = 380, 300, 60, 50
    out = []

    def x(panel, size):
        span = math.log2(sizes[-1] / sizes[0]) or 1
        return panel * (width + 70) + left + (width - 40) * math.log2(size / sizes[0]) / span

    def y(down):
        return top + height - height * math.log10(down / low) / math.log10(high / low)

    total = len(panels) * (width + 70) + 140
    out.append(f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{top + height + 60}" font-family="sans-serif" font-size="12">')
    out.append('<rect width="100%" height="100%" fill="white"/>')
    for number, (link, rate) in enumerate(panels):
        title = f"{'unlimited link' if link == 'off' else link}, {rate} MiB/s rewritten"
        out.append(f'<text x="{x(number, sizes[0])}" y="30" font-weight="bold">Downtime: {title}</text>')
        power = low
        while power <= high:
            out.append(f'<line x1="{x(number, sizes[0])}" x2="{x(number, sizes[-1])}" y1="{y(power):.0f}" y2="{y(power):.0f}" stroke="#dddddd"/>')
            out.append(f'<text x="{x(number, sizes[0]) - 8}" y="{y(power) + 4:.0f}" text-anchor="end">{power:g} ms</text>')
            power *= 10
        for size in sizes:
            out.append(f'<text x="{x(number, size):.0f}" y="{top + height + 20}" text-anchor="middle">{size} MiB</text>')
        for colour, method in zip(COLOURS, methods):
            points = [(x(number, size), y(all_of_them[link, rate, size, method]["down_ms"])) for size in sizes if (link, rate, size, method) in all_of_them]
            path_of = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            out.append(f'<polyline points="{path_of}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out.extend(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points)
    for number, (colour, method) in enumerate(zip(COLOURS, methods)):
        out.append(f'<text x="{total - 135}" y="{top + 20 + 18 * number}" fill="{colour}">{method}</text>')
    out.append("</svg>")
    return "\n".join(out)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["noticed", log]:
            print(noticed(log))
        case ["table", path]:
            table(path)
        case ["picture", path]:
            print(picture(path))
        case _:
            sys.exit(__doc__)
