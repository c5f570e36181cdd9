"""The looks of a report's page: light and dark as the reader's system has it, wide, narrow and on paper."""

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1d21; --quiet: #59616b; --line: #d9dde3; --soft: #f5f6f8;
  --link: #1a56c4; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181d; --ink: #e8eaed; --quiet: #a4adb8; --line: #343a43;
  --soft: #1d2127; --link: #8ab4f8; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 90rem; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: 0 0 .9rem; overflow-wrap: anywhere; }
a { color: var(--link); }
section { margin: 0 0 2.75rem; }
footer { color: var(--quiet); font-size: .875rem; border-top: 1px solid var(--line); padding-top: .75rem; }

nav { font-size: .9rem; line-height: 1.4; border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1rem;
  margin: 0 0 2rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { margin: .2rem 0; overflow-wrap: anywhere; }
nav .inner { padding-left: 1rem; }
nav a { text-decoration: none; }
nav a:hover, nav a:focus-visible { text-decoration: underline; }
@media (min-width: 72rem) {
  body { display: grid; grid-template: "top top" auto "side main" 1fr "end end" auto / 13.5rem minmax(0, 1fr);
    column-gap: 2.5rem; }
  header { grid-area: top; } main { grid-area: main; } footer { grid-area: end; }
  nav { grid-area: side; align-self: start; position: sticky; top: 1rem; max-height: calc(100vh - 2rem);
    overflow-y: auto; border: 0; padding: 0; }
}

.scroll { overflow-x: auto; max-width: 100%; width: fit-content; margin: 0 0 1.25rem; border: 1px solid var(--line);
  border-radius: 8px; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding: .5rem .7rem; }
caption span { position: sticky; left: .7rem; display: inline-block; max-width: calc(100vw - 4rem); }
th, td { text-align: left; vertical-align: baseline; padding: .34rem .7rem; border-top: 1px solid var(--line);
  font-weight: 400; white-space: nowrap; }
thead th { font-weight: 600; background: var(--soft); vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
thead tr:first-child th { border-top: 0; }
caption ~ thead tr:first-child th { border-top: 1px solid var(--line); }
tbody th[scope="row"], thead th:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper);
  border-right: 1px solid var(--line); }
thead th:first-child { background: var(--soft); }
.number { text-align: right; }
.group { background: var(--soft); font-weight: 600; }
.group span { position: sticky; left: .7rem; }

figure { margin: 0 0 2.5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; margin: 0 0 .6rem; padding: 0;
  font-size: .875rem; }
.legend:empty { display: none; }
.legend li { display: inline-flex; align-items: center; gap: .4rem; }
.legend svg { width: 22px; height: 12px; flex: none; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem 1.5rem; }
.panels svg * { stroke-linejoin: round; }
.panels svg { display: block; width: 100%; height: auto; max-width: 30rem; overflow: visible; }
figcaption { max-width: 46rem; color: var(--quiet); font-size: .9rem; line-height: 1.45; margin: .6rem 0 0; }
details { margin: .5rem 0 0; font-size: .9rem; }
summary { cursor: pointer; color: var(--link); width: fit-content; }
details .scroll { margin-top: .6rem; max-height: 28rem; }

@media print {
  :root { --paper: #fff; --ink: #000; --quiet: #444; --line: #bbb; --soft: #eee; --link: #000; }
  body { display: block; max-width: none; padding: 0; font-size: 10pt; }
  nav, details { display: none; }
  .scroll { overflow: visible; border: 0; }
  table { font-size: 7.5pt; } thead th, th, td { padding: 1.5pt 3pt; white-space: normal; min-width: 0; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .panels { grid-template-columns: repeat(3, 1fr); }
}
"""
