"""The page's style for light and dark mode, wide and narrow screens and print. It loads nothing, not even fonts."""

from __future__ import annotations

_LIGHT = ("#0060a0", "#c85a00", "#1a7f4b", "#8e3b8a", "#6b5b00", "#b3261e", "#007a87", "#5a6169")
_DARK = ("#6cb6ff", "#f0883e", "#56c98a", "#d994d6", "#d3bf4e", "#ff8a80", "#4fd0dd", "#a3abb3")
"""Of runs that are compared, on light and on dark paper; each stands out from it by 3 to 1 and more."""
_SHADES = ("#b34700", "#cc6a1f", "#dd9257", "#e3b893", "#c4c4c4", "#9cb9d0", "#6a9cc4", "#3c80b3", "#0a639f")
"""From no trust to full trust; distinct for colour-blind readers, and on black and white."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c1f23; --faint: #5a6169; --rule: #d9dde1;
  --box: #f4f6f7; --source: #c85a00; --target: #0060a0; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e8ea; --faint: #a3abb3; --rule: #363b41;
  --box: #1f2327; --source: #f0883e; --target: #6cb6ff; --bad: #ff8a80; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
p { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .75rem 0 1rem; padding: 0; }
a { color: var(--target); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.cards div { background: var(--box); border-radius: 6px; padding: .7rem .9rem; }
.cards dt { color: var(--faint); font-size: .85rem; }
.cards dd { margin: 0; }
.cards b { display: block; font-size: 1.7rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.cards span { font-size: .85rem; color: var(--faint); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1.5rem; }
figure { margin: .75rem 0; max-width: 34rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 11px; fill: var(--ink); }
.axis { stroke: var(--faint); fill: none; }
.grid { stroke: var(--rule); fill: none; stroke-width: .7; }
.s { --mark: var(--source); }
.t { --mark: var(--target); }
.o { --mark: var(--ink); }
.seam { stroke: var(--paper); fill: none; stroke-width: 4; opacity: .8; }
.f { fill: var(--mark); }
.b { fill: var(--mark); opacity: .25; }
.l { stroke: var(--mark); fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.l.thin { stroke-width: .8; opacity: .65; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: center; font-size: .85rem; color: var(--faint);
  margin: .2rem 0; }
.legend > span { display: inline-flex; align-items: center; }
/* Borders, since browsers leave backgrounds out on paper. */
.key { display: inline-block; width: 1.1rem; border-top: .7rem solid var(--mark); margin-right: .4rem; }
.key.k { border-top-width: 2.5px; }
.key.k.thin { border-top-width: 1px; }
.scale { display: inline-flex; margin: 0 .5rem; }
.scale .key { margin: 0; width: .9rem; border-top: .7rem solid var(--shade); }
.wide { overflow-x: auto; margin: .75rem 0; }
.boxes { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; position: sticky; top: 0; z-index: 1; margin: 1rem 0;
  padding: .4rem .9rem .6rem; max-height: 40vh; overflow-y: auto; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--paper); }
.boxes label { display: inline-flex; align-items: center; gap: .4rem; min-height: 1.75rem; cursor: pointer; }
.boxes input { width: 1.1rem; height: 1.1rem; margin: 0; accent-color: var(--target); }
svg.line { display: inline-block; width: 1.75rem; height: .75rem; vertical-align: middle; margin-right: .3rem;
  flex: none; }
svg.line .l { stroke-width: 2.5; }
svg.interval { width: 12rem; height: 1.5rem; }
table.runs th[scope=row] { color: var(--ink); font-weight: 400; white-space: nowrap; }
table.runs td { vertical-align: middle; }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
.film { max-width: none; } .film video, .film img { width: 100%; height: auto; border-radius: 6px; }
h3 { font-size: 1rem; margin: .75rem 0 0; }
:focus-visible { outline: 2px solid var(--target); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
.n { text-align: right; white-space: nowrap; }
th.n { white-space: normal; }
table.facts thead { display: none; }
table.facts td { overflow-wrap: anywhere; }
table.facts td:first-child { color: var(--faint); overflow-wrap: normal; min-width: 7rem; }
table.text { min-width: 44rem; }
table.text td { overflow-wrap: anywhere; }
table.text td:first-child, table.text td:nth-child(2) { overflow-wrap: normal; white-space: nowrap; }
.level.error { color: var(--bad); font-weight: 700; }
.level.warning { color: var(--warn); font-weight: 700; }
pre { background: var(--box); border-radius: 6px; padding: .7rem .9rem; font-size: .82rem; overflow-x: auto; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media (max-width: 30rem) { body { font-size: 15px; } svg text { font-size: 12.5px; }
  table.text { min-width: 0; } table.text thead { display: none; }
  table.text tr { display: block; border-bottom: 1px solid var(--rule); padding: .4rem 0; }
  table.text td { display: block; border: 0; padding: 0; }
  table.text td:first-child, table.text td:nth-child(2) { display: inline; margin-right: .6rem; }
  table.text td:last-child::before { content: "Remedy: "; color: var(--faint); } }
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --faint: #444444; --rule: #bbbbbb; --box: #f4f6f7;
    --source: #c85a00; --target: #0060a0; --bad: #b3261e; --warn: #8a5a00; }
  body { font-size: 10.5pt; max-width: none; padding: 0; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .pair { grid-template-columns: 1fr 1fr; }
  nav { display: none; } .wide { overflow: visible; } table.text { min-width: 0; }
  figure, tr, .cards div { break-inside: avoid; } h2 { break-after: avoid; }
}
""" + "".join(f".c{i} {{ --shade: {colour}; }} .f.c{i} {{ fill: {colour}; }}\n" for i, colour in enumerate(_SHADES))
STYLE += "".join(f".q{i} {{ --mark: {colour}; }}\n" for i, colour in enumerate(_LIGHT))
STYLE += "@media screen and (prefers-color-scheme: dark) {\n"
STYLE += "".join(f".q{i} {{ --mark: {colour}; }}\n" for i, colour in enumerate(_DARK)) + "}\n"
