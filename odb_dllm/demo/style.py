"""The page's looks, and the few lines of script that it needs. Nothing is fetched from anywhere.

Colours come from gradio's own variables where it has them, so that light and dark follow the system's choice.
"""

CSS = """
.gradio-container { max-width: 1680px !important; margin: 0 auto !important;
  --od-c0: #d1495b; --od-c1: #e07b39; --od-c2: #d9a521; --od-c3: #3f9f8b; --od-c4: #3b7dd8;
  --od-refresh: #e07b39; --od-step: #3b7dd8; --od-bad: #b3261e; --od-line: var(--border-color-primary);
  --od-quiet: #5d6775; --od-mono: ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.dark .gradio-container, .gradio-container.dark { --od-c0: #e5677a; --od-c1: #ef9254; --od-c2: #e6bd4a;
  --od-c3: #55bfa8; --od-c4: #6aa5f5; --od-refresh: #ef9254; --od-step: #6aa5f5; --od-bad: #ff8a80;
  --od-quiet: #9ba6b5; }
.gradio-container [class*="od-"] { box-sizing: border-box; }
footer { display: none !important; }

.gradio-container .html-container { padding: 0 !important; }

.od-title { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 12px; }
.od-title h1 { font-size: 20px; font-weight: 650; margin: 0; letter-spacing: -.01em; }
.od-title span { color: var(--od-quiet); font-size: 13px; overflow-wrap: anywhere; }

#areas { display: grid; grid-template: "ask show" auto "numbers show" 1fr / minmax(300px, 370px) minmax(0, 1fr);
  gap: 16px 20px; align-items: start; }
#ask { grid-area: ask; } #show { grid-area: show; } #numbers { grid-area: numbers; }
#ask, #show, #numbers { min-width: 0 !important; gap: 12px; }
#notice:not(:has(.od-notice)) { display: none; }
#lanes { align-items: flex-start; gap: 16px; } #lanes > div { gap: 0; min-width: min(320px, 100%) !important; }
#buttons { gap: 8px; } #buttons button { font-size: 14px; padding: 8px 6px; min-width: 0 !important; }
#examples { gap: 4px; }
.od-example { display: block; width: 100%; text-align: left; font-size: 12px !important; font-weight: 400 !important;
  padding: 4px 10px !important; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
  color: var(--od-quiet) !important; background: none !important; border: 1px solid var(--od-line) !important; }
.od-example:hover { color: var(--body-text-color) !important; border-color: var(--od-c4) !important; }

/* The newest message stays in view, as a reversed column scrolls from its end. */
.od-talk { display: flex; flex-direction: column-reverse; min-height: 84px; max-height: 300px; overflow-y: auto;
  padding: 12px; border: 1px solid var(--od-line); border-radius: 10px; background: var(--block-background-fill); }
.od-talk > div { display: flex; flex-direction: column; gap: 8px; margin: auto 0; }
.od-hint { color: var(--od-quiet); margin: auto; text-align: center; font-size: 13px; padding: 0 8px; }
.od-said { max-width: 92%; padding: 6px 10px 8px; border-radius: 10px; background: var(--background-fill-secondary);
  border: 1px solid var(--od-line); align-self: flex-start; }
.od-said.od-user { align-self: flex-end; background: color-mix(in srgb, var(--od-c4) 14%, transparent);
  border-color: transparent; }
.od-said span { color: var(--od-quiet); font-size: 11px; }
.od-said p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 14px; line-height: 1.45; }
.od-said.od-live p::after { content: ""; display: inline-block; width: 7px; height: 14px; margin-left: 2px;
  vertical-align: -2px; background: var(--od-c4); opacity: .7; }

.od-notice { padding: 8px 12px; border-radius: 8px; font-size: 14px; border: 1px solid; overflow-wrap: anywhere; }
.od-notice.error { color: var(--od-bad); background: color-mix(in srgb, var(--od-bad) 8%, transparent); }
.od-notice.result { border-color: color-mix(in srgb, var(--od-c3) 55%, transparent);
  background: color-mix(in srgb, var(--od-c3) 10%, transparent); color: var(--body-text-color); }

.od-lane { container-type: inline-size; display: flex; flex-direction: column; gap: 12px; padding: 14px;
  border: 1px solid var(--od-line);
  border-radius: 12px 12px 0 0; background: var(--block-background-fill); color: var(--body-text-color); }
.od-lane header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 10px; }
.od-lane h3 { font: 600 15px/1.3 var(--od-mono); margin: 0; color: var(--body-text-color); }
.od-badge { font-size: 12px; line-height: 1; padding: 5px 9px; border-radius: 99px; white-space: nowrap;
  color: var(--od-quiet); background: var(--background-fill-secondary); border: 1px solid var(--od-line);
  font-variant-numeric: tabular-nums; }
.od-badge.running { color: var(--od-c4); border-color: currentColor; }
.od-badge.waiting { color: var(--od-c2); border-color: currentColor; }
.od-badge.done { color: var(--od-c3); border-color: currentColor; }
.od-badge.stopped, .od-badge.failed { color: var(--od-c0); border-color: currentColor; }
.od-speed { margin-left: auto; color: var(--od-quiet); font-size: 13px; font-variant-numeric: tabular-nums; }
.od-speed b { font-size: 20px; color: var(--body-text-color); font-weight: 650; }

.od-figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px;
  border: 1px solid var(--od-line); border-radius: 8px; overflow: hidden; background: var(--od-line); }
.od-figures div { padding: 6px 8px; background: var(--block-background-fill); min-width: 0; }
.od-figures b { display: block; font-size: 15px; font-weight: 600; font-variant-numeric: tabular-nums;
  color: var(--body-text-color); }
.od-figures span { display: block; color: var(--od-quiet); font-size: 11px; line-height: 1.25;
  overflow-wrap: anywhere; }

@container (min-width: 700px) { .od-figures { grid-template-columns: repeat(8, 1fr); } }

.od-canvas { display: flex; flex-wrap: wrap; gap: 6px; align-items: stretch; }
.od-block { display: flex; gap: 6px; flex: 1 1 100%; min-width: 0; padding: 5px 6px; border-radius: 7px;
  border: 1px solid var(--od-line); }
.od-block.od-now { border-color: var(--od-c4); box-shadow: inset 3px 0 0 var(--od-c4); }
.od-block > b { flex: 0 0 30px; text-align: right; color: var(--od-quiet); font: 400 11px/24px var(--od-mono); }
.od-block > div { display: flex; flex-wrap: wrap; gap: 3px; align-content: flex-start; min-width: 0; }
.od-block.od-small { flex: 0 1 auto; padding: 4px 5px; gap: 4px; }
.od-block.od-small > b { flex: 0 0 22px; line-height: 9px; font-size: 9px; }
.od-block.od-small > div { gap: 2px; max-width: 142px; }
.od-canvas s, .od-legend s { text-decoration: none; display: inline-flex; align-items: center; height: 24px;
  padding: 0 5px; border-radius: 4px; font: 400 13px/1 var(--od-mono); color: var(--body-text-color);
  max-width: 100%; overflow: hidden; white-space: pre;
  background: color-mix(in srgb, var(--od) var(--od-age), transparent); border-bottom: 2px solid var(--od); }
.od-canvas u, .od-legend u { text-decoration: none; display: inline-block; width: 13px; height: 24px;
  border-radius: 4px; border: 1px dashed color-mix(in srgb, var(--od-quiet) 55%, transparent); }
.od-canvas .od-small u { width: 7px; height: 9px; border-radius: 2px; border-style: solid;
  border-color: color-mix(in srgb, var(--od-quiet) 40%, transparent); }
@container (max-width: 380px) { .od-block.od-small > div { gap: 1px; max-width: 95px; }
  .od-canvas .od-small u { width: 5px; } }
.od-canvas u.od-end, .od-legend u.od-end, .od-canvas .od-small u.od-end { border-color: transparent;
  background: color-mix(in srgb, var(--od-quiet) 26%, transparent); }
.od-canvas u.od-end.a0 { background: color-mix(in srgb, var(--od) 65%, transparent); }
.od-canvas s i { font-style: normal; opacity: .45; }
.c0 { --od: var(--od-c0); } .c1 { --od: var(--od-c1); } .c2 { --od: var(--od-c2); }
.c3 { --od: var(--od-c3); } .c4 { --od: var(--od-c4); }
.a0 { --od-age: 62%; } .a1 { --od-age: 36%; } .a2 { --od-age: 23%; } .a3 { --od-age: 11%; }
.od-canvas s.a0, .od-legend s.a0 { box-shadow: 0 0 0 1.5px var(--od); font-weight: 600; }
.od-canvas [data-tip]:hover { outline: 2px solid var(--body-text-color); outline-offset: 1px; }

.od-time { color: var(--od-quiet); font: 400 11px/1.4 var(--od-mono); }
.od-time svg { display: block; width: 100%; height: 72px; border-bottom: 1px solid var(--od-quiet);
  background: color-mix(in srgb, var(--od-quiet) 7%, transparent); border-radius: 4px 4px 0 0; }
.od-time > div { display: flex; justify-content: space-between; padding: 2px 0; }
.od-time rect.refresh { fill: var(--od-refresh); } .od-time rect.step { fill: var(--od-step); }
.od-time rect.later { opacity: .22; } .od-time rect:hover { opacity: .7; }

.od-legend { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; font-size: 12px;
  color: var(--od-quiet); padding: 2px 4px; }
.od-legend > span { display: inline-flex; flex-wrap: wrap; gap: 4px; align-items: center; }
.od-legend s { height: 19px; font-size: 11px; } .od-legend u { height: 17px; }
.od-legend em { width: 11px; height: 11px; border-radius: 2px; margin-left: 4px; }
.od-legend em.refresh { background: var(--od-refresh); } .od-legend em.step { background: var(--od-step); }

#od-tip { position: fixed; z-index: 1000; max-width: min(340px, 92vw); padding: 5px 9px; border-radius: 6px;
  pointer-events: none; font: 400 12px/1.4 system-ui, sans-serif; white-space: pre-wrap; overflow-wrap: anywhere;
  background: #1d2430; color: #f4f6fa; box-shadow: 0 2px 10px rgb(0 0 0 / .3); display: none; }
.dark #od-tip { background: #f0f3f8; color: #161b22; }

#lanes .form { border: 1px solid var(--od-line); border-top: 0; border-radius: 0 0 12px 12px; box-shadow: none;
  background: var(--block-background-fill); }
.od-slider { border: 0 !important; box-shadow: none !important; padding: 8px 14px !important; }
.od-slider > .wrap:last-child, .od-slider .wrap:has(> .head) { display: flex; flex-direction: row; align-items: center;
  gap: 12px; }
.od-slider .head { flex: none; width: auto; gap: 8px; margin: 0; align-items: center; }
.od-slider .head label { display: flex; align-items: center; margin: 0; } .od-slider .head label > span { margin: 0; }
.od-slider .slider_input_container { flex: 1; min-width: 0; }
.od-slider .reset-button { display: none; } .od-slider .tab-like-container { height: auto; }
@media (max-width: 820px) {
  .gradio-container main, .gradio-container .main { padding: 10px !important; }
  #areas { grid-template: "ask" auto "show" auto "numbers" auto / minmax(0, 1fr); }
  .od-lane { padding: 10px; }
  .od-block > b { flex-basis: 22px; font-size: 10px; }
}
"""

# One tip for all cells, shown where the pointer or the finger is: a page of 1024 of gradio's would be slow.
HEAD = """
<script>
(() => {
  const tip = () => document.getElementById("od-tip") || document.body.appendChild(
    Object.assign(document.createElement("div"), { id: "od-tip" }));
  const show = (event) => {
    const at = event.target.closest && event.target.closest("[data-tip]");
    const box = tip();
    box.style.display = at ? "block" : "none";
    if (!at) return;
    box.textContent = at.dataset.tip;
    const place = at.getBoundingClientRect(), size = box.getBoundingClientRect();
    const left = Math.min(Math.max(4, place.left + place.width / 2 - size.width / 2), innerWidth - size.width - 4);
    const above = place.top - size.height - 6;
    box.style.left = left + "px";
    box.style.top = (above > 0 ? above : place.bottom + 6) + "px";
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip().style.display = "none"; }, true);
})();
</script>
"""
