// Plots by plotly.js: loaded when first needed, drawn in the page's colours, each with its data as a table too.

import { element } from "./dom.js";
import { sortableTable } from "./table.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const INCOMPLETE = 120_000; // ms; records of the last two minutes may still be on their way

const drawn = new Set();
let loading = null;

/** Return plotly.js, loading it at the first call: nobody who is not let in needs it. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = element("script", { src: document.documentElement.dataset.plotly });
    script.addEventListener("load", () => resolve(globalThis.Plotly));
    script.addEventListener("error", () => reject(new Error("plotly.js cannot be loaded")));
    document.head.append(script);
  });
  return loading;
}

/**
 * Return {element, update(data, question)}.
 *
 * `traces(data, colours, question)` and `layout(data, colours, question)` are plotly's;
 * `describe(data, question)` is a sentence for who cannot see the plot; `table` is {columns,
 * rows(data)} with the same numbers; `onClick(point, data)` and `onNarrow(from, to)` are optional.
 */
export function plot({ heading, traces, layout, describe, table, onClick, onNarrow }) {
  const room = element("div", { class: "plot", role: "img" });
  const numbers = sortableTable({ caption: heading, columns: table.columns, empty: "No data." });
  const details = element(
    "details", { toggle: () => details.open && fillTable() },
    element("summary", {}, "As a table"), numbers.element,
  );
  const entry = { room, draw };
  let shown = null;

  function fillTable() {
    if (shown) numbers.update(table.rows(shown.data));
  }

  async function draw() {
    const library = await plotly();
    if (!room.isConnected || !shown) return;
    const { data, question } = shown;
    const colours = coloursOf(room);
    const look = { ...baseLayout(colours), ...layout(data, colours, question) };
    await library.react(room, traces(data, colours, question), look, CONFIG);
    if (!drawn.has(entry)) listen();
  }

  function listen() {
    drawn.add(entry);
    if (onClick) room.on("plotly_click", (event) => onClick(event.points[0], shown.data));
    if (onNarrow) room.on("plotly_relayout", (event) => narrow(event, onNarrow));
  }

  return {
    element: element("figure", {}, element("figcaption", {}, heading), room, details),
    async update(data, question) {
      shown = { data, question };
      room.setAttribute("aria-label", `${heading}. ${describe(data, question)}`);
      if (details.open) fillTable();
      await draw();
    },
  };
}

function narrow(event, onNarrow) {
  const [from, to] = [event["xaxis.range[0]"], event["xaxis.range[1]"]];
  if (from !== undefined) onNarrow(fromPlotTime(from), fromPlotTime(to));
}

/** Forget the plots that are no longer part of the page. */
export function purgePlots() {
  for (const entry of drawn) {
    if (entry.room.isConnected) continue;
    drawn.delete(entry);
    globalThis.Plotly.purge(entry.room);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const entry of drawn) entry.draw();
});

// ------------------------------------------------------------------------------------- looks

function coloursOf(node) {
  const style = getComputedStyle(node);
  const names = ["text", "faint", "line", "surface", "client", "server", "bad", "good", "band"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

function baseLayout(colours) {
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: colours.text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 12, t: 8, b: 8 },
    height: 250,
    hoverlabel: {
      bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.text },
    },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
  };
}

function axis(colours, more) {
  return {
    automargin: true, gridcolor: colours.line, linecolor: colours.line,
    zerolinecolor: colours.line, ...more,
  };
}

/** Say whether people point with a finger, which must be free to scroll the page. */
export function coarsePointer() {
  return matchMedia("(pointer: coarse)").matches;
}

/** Return the layout of values over time; `y` completes the value axis. */
export function timeLayout(colours, question, y) {
  const { from, to, live } = question.range;
  const dark = { type: "rect", yref: "paper", y0: 0, y1: 1, line: { width: 0 }, opacity: 0.5 };
  const start = Math.max(from, question.clock - INCOMPLETE);
  return {
    hovermode: "x unified",
    dragmode: coarsePointer() ? false : "zoom",
    xaxis: axis(colours, { type: "date", range: [plotTime(from), plotTime(to)], nticks: 8 }),
    yaxis: axis(colours, { rangemode: "tozero", fixedrange: true, ...y }),
    shapes: live
      ? [{ ...dark, x0: plotTime(start), x1: plotTime(to), fillcolor: colours.line, layer: "below" }]
      : [],
  };
}

/** Return the layout of a horizontal bar for each label, the first on top; `x` completes its axis. */
export function barLayout(colours, labels, x) {
  const places = labels.map((_, index) => index);
  return {
    height: 70 + 26 * Math.max(1, labels.length),
    dragmode: false,
    bargap: 0.35,
    showlegend: false,
    xaxis: axis(colours, { rangemode: "tozero", fixedrange: true, side: "bottom", ...x }),
    // Numbered places: on an axis of categories two bars of one label would become one.
    yaxis: axis(colours, {
      autorange: "reversed", fixedrange: true, ticks: "", showgrid: false,
      tickvals: places, ticktext: labels.map(plain),
    }),
  };
}

/** Return text so that plotly shows it as it is: plotly reads some tags as markup. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** Return `ms` as local time in the form that plotly takes. */
export function plotTime(ms) {
  const shifted = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 23).replace("T", " ");
}

function fromPlotTime(text) {
  return new Date(String(text).replace(" ", "T")).getTime();
}
